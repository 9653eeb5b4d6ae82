// Starts the page: stores the events of the feed, and draws them at the frame rate of the screen.

import { showAfter } from "./after.js";
import { showRoom } from "./room.js";
import { call } from "./api.js";
import { showBuyer } from "./buyer.js";
import { Board } from "./charts.js";
import { setUpChoices } from "./choices.js";
import { findControls, removeControls, showControls } from "./controls.js";
import { byId, recall, remember, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { percent, rate } from "./format.js";
import { buildHero, shaved } from "./hero.js";
import { onLanguage, t, translate } from "./i18n.js";
import { showLog, showProcesses } from "./lists.js";
import { showConnection, showEquation, showInvariants, showPipeline, showSale } from "./live.js";
import { lastRun, loadOptions, rememberRun, showCompare } from "./load.js";
import { buildCommit, buildLatency, buildOutcomes, buildStock } from "./panels.js";
import { Log, peak, Series } from "./store.js";
import { startTables } from "./tables.js";

const AGE_PAUSE_MS = 250;
const RETRY_MS = 5000;
const series = new Series();
const log = new Log();
let columns = [];
let frame = null;
let control = null;
let ghost = null;
let seconds = 60;
let chartsFailed = false;

// A little less than half a second and a second, so that a frame of the feed that comes slightly early is still drawn.
const HERO_PAUSE_MS = 470;
const PANEL_PAUSE_MS = 970;

const overTime = (pause, build) => ({ pause, build: () => (series.ready ? build(series.last(seconds)) : null) });

/** The time at which the ghost is drawn: the start of the newest run through the queue, or the time of the direct run. */
function ghostStart() {
  const started = ({ code, args }) => code === "load_started" && args.mode === "queue";
  return lastRun()?.started_at ?? log.entries.findLast(started)?.t ?? ghost.started_at;
}

const board = new Board({
  "chart-hero": overTime(HERO_PAUSE_MS, (view) => buildHero(view, log.entries, ghost, ghost && ghostStart())),
  "chart-latency": overTime(PANEL_PAUSE_MS, buildLatency),
  "chart-outcomes": overTime(PANEL_PAUSE_MS, buildOutcomes),
  "chart-stock": overTime(PANEL_PAUSE_MS, buildStock),
  "chart-commit": overTime(PANEL_PAUSE_MS, buildCommit),
});

const feed = new Feed(new URL("api/v1/live", document.baseURI), {
  history({ columns: names, rows, log: entries, complete, controls }) {
    columns = names;
    if (complete || !series.ready) {
      series.reset(names);
      log.reset();
    }
    for (const row of rows) series.push(row);
    for (const entry of entries) log.push(entry);
    // After a reconnect the gateway may be another one, with other settings or without controls.
    if (controls) askForControls();
    else withoutControls();
    schedule();
  },
  frame(next) {
    const ended = frame?.load && !frame.load.ended_at && next.load?.ended_at;
    frame = next;
    series.push(next.row);
    rememberRun(next.load);
    if (ended && next.load.mode === "direct") fetchGhost();
    schedule();
  },
  log(entry) {
    log.push(entry);
    schedule();
  },
});

function withoutControls() {
  clearTimeout(askAgain);
  removeControls();
  control = ghost = null;
}

let askAgain = 0;

async function askForControls() {
  clearTimeout(askAgain);
  const answer = await findControls(loadOptions);
  if (answer === undefined) {
    askAgain = setTimeout(askForControls, RETRY_MS);
    return;
  }
  control = answer;
  // Another gateway at the same address may not have the direct run that this page has shown.
  ghost = control?.ghost ?? ghost;
  schedule();
}

async function fetchGhost() {
  ghost = (await call("GET", "control/ghost").catch(() => null)) ?? ghost;
  schedule();
}

let scheduled = false;

/** Draws once at the next frame of the screen, with all events until then. A hidden tab has no frames. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    show();
  });
}

function show() {
  showLog(log);
  showSale(frame?.sale ?? null);
  showBuyer(frame?.sale ?? null);
  showInvariants(frame?.invariants ?? null, feed.now);
  showEquation(frame?.sale ?? null, frame?.invariants ?? null, feed.now);
  showRoom(frame?.sale ?? null);
  showCompare(ghost);
  if (frame) {
    const row = Object.fromEntries(columns.map((name, at) => [name, frame.row[at]]));
    showPipeline(row, frame, peak(series.last(seconds).column("backlog")) || 1);
    showAfter(frame);
    showProcesses(frame.processes);
    showControls(frame, feed.now);
  }
  showPeaks();
  board.draw();
}

/** The sentence over the hero chart, and the text in its place while there is no data. */
function showPeaks() {
  const { arrivals, writes, share } = series.ready ? shaved(series.last(seconds)) : {};
  const words = { arrivals: rate(arrivals), writes: rate(writes), share: percent(share) };
  setText(byId("shaved"), arrivals || writes ? t(share === null ? "unshaved" : "shaved", words) : t("quiet"));
  const waiting = byId("waiting");
  const hint = whatIsMissing(arrivals || writes);
  waiting.hidden = hint === null;
  setText(waiting, hint ?? "");
}

function whatIsMissing(traffic) {
  if (chartsFailed) return t("waiting.no_charts");
  if (!window.Plotly) return t("waiting.charts");
  if (!frame || traffic) return null;
  if (control?.presets.length) return t("waiting.controls", { start: t("load.start") });
  return t(frame.sale ? "waiting" : "waiting.sale");
}

function setUpHeader() {
  setUpChoices(() => board.restyle());
  onLanguage(() => {
    showConnection(feed);
    show();
    board.restyle();
  });

  const windows = byId("window");
  const nameWindows = () => {
    for (const input of windows.querySelectorAll("input")) setText(input.nextElementSibling, t("seconds", { n: input.value }));
  };
  nameWindows();
  onLanguage(nameWindows);
  const remembered = windows.querySelector(`input[value="${Number(recall("window"))}"]`);
  if (remembered) remembered.checked = true;
  const choose = () => {
    seconds = Number(windows.querySelector("input:checked").value);
    remember("window", String(seconds));
    board.restyle();
  };
  windows.addEventListener("change", choose);
  choose();
}

function awaitCharts() {
  const script = byId("plotly");
  script.addEventListener("load", () => board.restyle());
  script.addEventListener("error", () => {
    chartsFailed = true;
    schedule();
  });
}

translate();
setUpHeader();
startTables(series);
translate();
awaitCharts();
showConnection(feed);
show();
feed.start();
setInterval(() => {
  feed.check();
  if (document.hidden) return;
  showConnection(feed);
  // Every frame of the feed draws the page. This updates the ages while no frame comes.
  if (feed.state !== "live") schedule();
}, AGE_PAUSE_MS);
document.addEventListener("visibilitychange", () => document.hidden || board.restyle());
// A page that the browser keeps for "back" closes its connection: a browser has six for each host.
addEventListener("pagehide", () => feed.stop());
addEventListener("pageshow", (event) => event.persisted && feed.start());
