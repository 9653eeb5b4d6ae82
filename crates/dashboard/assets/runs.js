// The last load runs of this gateway: shown again, compared two at a time, and saved as the page that `loadtest --html` writes.

import { call } from "./api.js";
import { byId, make, setData, setNumber, setText } from "./dom.js";
import { clock, count, milliseconds, percent, rate } from "./format.js";
import { currentLanguage, t } from "./i18n.js";

/** The numbers of a verdict that are compared. Of each, less is better. */
const COMPARED = [["p99_ms", milliseconds], ["errors", count], ["transactions", count], ["peak_commits", rate]];
// What makes a load: where one of these differs, two runs cannot be compared.
const LOAD = ["preset", "peak_rate", "buyers", "stock", "duplicate_share"];

let runs = [];
let opened = null;
/** The ids of the two runs that somebody has chosen to compare, oldest choice first. */
let chosen = [];
let changed = () => {};

/** Whether two runs sent the same load. */
export const sameLoad = (one, other) => LOAD.every((name) => one[name] === other[name]);

const done = (mode) => runs.find((run) => run.mode === mode && run.verdict);

/** The run that is shown in place of what goes on, or null. */
export const openedRun = () => opened;

/** Shows what goes on again. */
export function closeRun() {
  opened = null;
}

/** `onChange` is called when another run is to be shown. */
export function setUpRuns(onChange) {
  changed = onChange;
}

/** Reads the runs from the gateway. */
export async function fetchRuns() {
  const answer = await call("GET", "control/runs").catch(() => null);
  if (!answer) return;
  runs = answer.runs;
  if (opened && !runs.some(({ id }) => id === opened.id)) opened = null;
  chosen = chosen.filter((id) => runs.some((run) => run.id === id));
}

/** For a gateway without controls. */
export function forgetRuns() {
  [runs, opened, chosen] = [[], null, []];
}

/** The direct run to draw behind a run through the queue: the newest with the same load. `load`: the newest load, or null. */
export function shadowOf(load) {
  const queued = opened ?? (load?.mode === "queue" ? load : done("queue"));
  if (queued?.mode !== "queue") return null;
  const run = runs.find((each) => each.mode === "direct" && each.verdict && each.curve && sameLoad(each, queued));
  return run ? { run, start: queued.started_at } : null;
}

/** A kept run as a view for the charts, or null if it has no curve. */
export function viewOf({ curve, started_at: start, mode }) {
  if (!curve) return null;
  const at = (name) => curve.columns.indexOf(name);
  const names = { arrivals: "arrivals", accepted: "accepted", committed: "committed", backlog: "backlog" };
  const direct = { direct_arrivals: "arrivals", direct_committed: "committed", arrivals: null, committed: null, accepted: null };
  const map = mode === "direct" ? { ...names, ...direct } : names;
  const latest = start + curve.rows.length;
  const column = (name) => Float64Array.from(curve.rows, (row) => (map[name] ? row[at(map[name])] ?? NaN : NaN));
  const ago = Float64Array.from(curve.rows, (row) => row[at("second")] + 1 - curve.rows.length);
  return { latest, seconds: curve.rows.length, origin: start, ago, column, names: Object.keys(map) };
}

const describe = (run) => t("run.load", { preset: run.preset, rate: rate(run.peak_rate), buyers: count(run.buyers), buyers_count: run.buyers, stock: count(run.stock), stock_count: run.stock });

const word = (run) => (run.verdict ? (run.verdict.pass ? "pass" : "fail") : run.state === "stopped" ? "stopped" : "failed");

/** The two runs that are compared: those that were chosen, or else the newest of each kind; fewer if there are not so many. */
function compared() {
  if (chosen.length === 2) return chosen.map((id) => runs.find((run) => run.id === id)).filter((run) => run?.verdict);
  return [done("queue"), done("direct")].filter(Boolean);
}

/** Which of two values is better: 0 or 1; -1 where that cannot be said. */
function better([one, other]) {
  if (typeof one !== "number" || typeof other !== "number" || one === other) return -1;
  return one < other ? 0 : 1;
}

function comparedRow(run, same, best) {
  const name = t(`compare.${run.mode}`);
  const row = make("tr", { "data-way": run.mode }, make("th", { scope: "row" }, same ? name : `${name}, ${describe(run)}`));
  for (const [at, [key, format]] of COMPARED.entries()) {
    const cell = make("td", best[at] ? { class: "better" } : {});
    setNumber(cell, run.verdict[key], format(run.verdict[key]));
    row.append(cell);
  }
  return row;
}

/** What is gained, in one sentence with numbers. Only for the same load, once with the queue and once without. */
function gain(pair, same) {
  const [queue, direct] = ["queue", "direct"].map((mode) => pair.find((run) => run.mode === mode)?.verdict);
  if (!same || !queue || !direct) return same ? "" : t("compare.different");
  const words = {};
  for (const [name, verdict] of [["queue", queue], ["direct", direct]]) {
    for (const [key, format] of COMPARED) words[`${key}_${name}`] = format(verdict[key]);
  }
  words.errors_queue_count = queue.errors;
  const fewer = direct.transactions > 0 && queue.transactions < direct.transactions;
  words.share = percent(1 - queue.transactions / direct.transactions);
  words.errors = queue.errors === direct.errors ? "" : t("gain.errors", words);
  return t(fewer ? "gain" : "gain.plain", words);
}

function showCompared() {
  const pair = compared();
  byId("compare").hidden = pair.length < 2;
  if (pair.length < 2) return;
  const same = sameLoad(...pair);
  setData(byId("compare"), "same", same ? "yes" : "no");
  const best = COMPARED.map(([key]) => (same ? better(pair.map(({ verdict }) => verdict[key])) : -1));
  const rows = pair.map((run, at) => comparedRow(run, same, best.map((which) => which === at)));
  byId("compare").querySelector("tbody").replaceChildren(...rows);
  setText(byId("compare-load"), same ? t("compare.same", { load: describe(pair[0]) }) : t("compare.loads_differ"));
  setText(byId("gain"), gain(pair, same));
}

/** A run was ticked, or not any more. The one that was ticked before the last two is left out. */
function choose(id, on) {
  chosen = chosen.filter((other) => other !== id);
  if (on) chosen = [...chosen, id].slice(-2);
  changed();
}

function keptRow(run) {
  const label = `${clock(run.started_at)}, ${describe(run)}`;
  const tick = make("input", { type: "checkbox", "aria-label": t("run.compare", { run: label }) });
  tick.checked = chosen.includes(run.id);
  tick.disabled = !run.verdict;
  tick.addEventListener("change", () => choose(run.id, tick.checked));
  const open = make("button", { type: "button", "aria-pressed": String(opened?.id === run.id) }, t("run.open"));
  open.disabled = !run.curve;
  open.addEventListener("click", () => {
    opened = opened?.id === run.id ? null : run;
    changed();
  });
  const href = new URL(`api/v1/control/runs/${run.id}/report`, document.baseURI);
  const save = run.curve ? make("a", { href, download: `load-run-${run.id}.html` }, t("run.save")) : "";
  const cells = [t(`compare.${run.mode}`), t(`result.${word(run)}.short`), milliseconds(run.verdict?.p99_ms), count(run.errors)];
  const row = make("tr", { "data-run": run.id, "data-state": word(run) }, make("td", {}, tick), make("th", { scope: "row" }, label));
  row.append(...cells.map((text) => make("td", {}, text)), make("td", { class: "actions" }, open, " ", save));
  return row;
}

let shown = "";

/** The list of kept runs, and the comparison. Drawn again only after a change. */
export function showRuns() {
  const state = JSON.stringify([runs.map(({ id }) => id), opened?.id, chosen, currentLanguage()]);
  if (shown === state) return;
  shown = state;
  byId("runs").hidden = runs.length === 0;
  byId("runs").querySelector("#kept tbody").replaceChildren(...runs.map(keptRow));
  setText(byId("opened"), opened ? t("run.opened", { run: `${clock(opened.started_at)}, ${describe(opened)}` }) : "");
  byId("opened").hidden = !opened;
  showCompared();
}
