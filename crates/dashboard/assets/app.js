// Starts the page: stores the events of the feed, and draws them at the frame rate of the screen.

import { showAfter } from "./after.js";
import { showRoom } from "./room.js";
import { showBuyer } from "./buyer.js";
import { Board } from "./charts.js";
import { setUpChoices } from "./choices.js";
import { findControls, removeControls, showControls } from "./controls.js";
import { byId, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { count, percent, rate } from "./format.js";
import { showHealth } from "./health.js";
import { buildHero, shaved } from "./hero.js";
import { onLanguage, t, translate } from "./i18n.js";
import { showLog, showProcesses } from "./lists.js";
import { showConnection, showEquation, showInvariants, showPipeline, showSale } from "./live.js";
import { loadOptions } from "./load.js";
import { buildCommit, buildLatency, buildOutcomes, buildStock } from "./panels.js";
import { setUpPresentation, showHeadline } from "./present.js";
import { closeRun, fetchRuns, forgetRuns, openedRun, setUpRuns, shadowOf, showRuns, viewOf } from "./runs.js";
import { Log, peak, Series } from "./store.js";
import { startTables } from "./tables.js";
import { Shown } from "./window.js";

const AGE_PAUSE_MS = 250;
const RETRY_MS = 5000;
const series = new Series();
const log = new Log();
let columns = [];
let frame = null;
let control = null;
let chartsFailed = false;

// A little less than half a second and a second, so that a frame of the feed that comes slightly early is still drawn.
const HERO_PAUSE_MS = 470;
const PANEL_PAUSE_MS = 970;

// Charts and list follow: freezing, zooming, and a kept run that is opened or closed.
const shown = new Shown(series, () => {
  closeRun();
  redraw();
});

/** What the large chart shows: a kept run, or what the small ones show. */
const heroView = () => (openedRun() && viewOf(openedRun())) ?? shown.view();

const overTime = (pause, build, view = () => shown.view()) => ({ pause, build: () => (view() ? build(view()) : null) });

const board = new Board({
  "chart-hero": {
    ...overTime(HERO_PAUSE_MS, (view) => buildHero(view, log.entries, shadowOf(frame?.load ?? null)), heroView),
    zoomed: (from, to) => (openedRun() ? board.restyle() : shown.zoom(from, to)),
  },
  "chart-latency": overTime(PANEL_PAUSE_MS, buildLatency),
  "chart-outcomes": overTime(PANEL_PAUSE_MS, buildOutcomes),
  "chart-stock": overTime(PANEL_PAUSE_MS, buildStock),
  "chart-commit": overTime(PANEL_PAUSE_MS, buildCommit),
});

function redraw() {
  schedule();
  board.restyle();
}

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
    // A gateway that was killed and started again may not know of the run that it had.
    if (!next.load && frame?.load) next.load = endedWithItsGateway(frame.load, next.row[0]);
    const ended = frame?.load && !frame.load.ended_at && next.load?.ended_at;
    frame = next;
    shown.loadStart = next.load?.started_at;
    series.push(next.row);
    if (ended) refreshRuns();
    schedule();
  },
  log(entry) {
    log.push(entry);
    schedule();
  },
});

/** A load run as it is shown once nobody knows of it any more. */
function endedWithItsGateway(load, now) {
  if (load.ended_at) return load;
  return { ...load, state: "failed", ended_at: now, failure: { code: "gateway_gone", args: {} } };
}

function withoutControls() {
  clearTimeout(askAgain);
  removeControls();
  forgetRuns();
  control = null;
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
  if (control) await refreshRuns();
  schedule();
}

// A run is kept a moment after it has ended.
const KEPT_MS = 400;

async function refreshRuns() {
  await fetchRuns();
  schedule();
  setTimeout(async () => {
    await fetchRuns();
    redraw();
  }, KEPT_MS);
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
  showRuns();
  shown.show(openedRun() !== null);
  if (frame) {
    const row = Object.fromEntries(columns.map((name, at) => [name, frame.row[at]]));
    showPipeline(row, frame, peak(shown.view()?.column("backlog") ?? []) || 1);
    showHealth(frame, feed.now);
    showAfter(frame);
    showProcesses(frame.processes);
    showControls(frame, feed.now);
  }
  showPeaks();
  board.draw();
}

/** The sentence over the hero chart, and the text in its place while there is no data. */
function showPeaks() {
  const view = heroView();
  const peaks = view ? shaved(view) : {};
  const { arrivals, writes, share } = peaks;
  const answered = frame?.totals?.arrivals ?? 0;
  const words = { arrivals: rate(arrivals), writes: rate(writes), share: percent(share) };
  const direct = rate(peak(view?.column("direct_committed") ?? []));
  const directArrivals = peak(view?.column("direct_arrivals") ?? []);
  const without = () => (directArrivals > 0 ? t("direct", { arrivals: rate(directArrivals), writes: direct }) : t("quiet"));
  setText(byId("shaved"), arrivals || writes ? t(share === null ? "unshaved" : "shaved", words) : without());
  showHeadline(peaks, answered);
  const waiting = byId("waiting");
  const hint = whatIsMissing(arrivals || writes || directArrivals, answered);
  waiting.hidden = hint === null;
  setText(waiting, hint ?? "");
}

function whatIsMissing(traffic, answered) {
  if (chartsFailed) return t("waiting.no_charts");
  if (!window.Plotly) return t("waiting.charts");
  if (!frame || traffic) return null;
  // Whoever comes late must not read that nothing has happened.
  if (answered > 0) return t("waiting.quiet", { n: count(answered), n_count: answered });
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
  shown.setUp();
  setUpRuns(redraw);
  setUpPresentation(redraw);
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
startTables((name) => (name === "hero" ? heroView() : shown.view()));
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
