// The chart of the shaved peak: rates and the drain rate, the backlog below, marks for load and faults, and the ghost.

import { axis, ceiling, ink, isNarrow, layout, line, timeAxis, veil } from "./charts.js";
import { rate } from "./format.js";
import { knows, t } from "./i18n.js";
import { peak } from "./store.js";

const MOST_MARKS = 12;
// The texts of the marks are above the rates, where nothing else is drawn.
// Marks that are closer than this share of the window have their texts on different lines.
const CLOSE = 0.16;
const CLOSE_NARROW = 0.34;
const MARK_LINES = 3;
// A drain rate this many times above all rates would flatten their curves. Then the chart shows only its name.
const TOO_HIGH = 4;

function ghostTraces(view, ghost, start) {
  if (!ghost?.rows?.length) return [];
  const at = (name) => ghost.columns.indexOf(name);
  const second = at("second");
  // A row of the ghost covers the second after its time; a live row covers the second before.
  const x = ghost.rows.map((row) => start + row[second] + 1 - view.latest);
  const committed = ghost.rows.map((row) => row[at("committed")]);
  return [line(t("ghost"), view, committed, ink("quiet"), { x, line: { dash: "dash", width: 2 } })];
}

function rateTraces(view) {
  return [
    line(t("arrivals"), view, view.column("arrivals"), ink("arrivals-line"), {
      fill: "tozeroy",
      fillcolor: veil("arrivals", 0.55),
      line: { width: 1.25 },
    }),
    line(t("accepted"), view, view.column("accepted"), ink("middle"), { line: { width: 2 } }),
    line(t("writes"), view, view.column("committed"), ink("commits"), { line: { width: 3.5 } }),
    line(t("drain_rate"), view, view.column("drain_rate"), ink("text"), { line: { width: 1.5, dash: "dot", shape: "hv" } }),
  ];
}

const backlogTrace = (view) =>
  line(t("backlog"), view, view.column("backlog"), ink("backlog"), {
    yaxis: "y2",
    fill: "tozeroy",
    fillcolor: veil("backlog", 0.35),
  });

/** The text of a mark, short enough for a chart. */
function markWords(entry) {
  const args = { ...entry.args };
  if (args.fault && knows(`fault.${args.fault}`)) args.fault = t(`fault.${args.fault}`);
  return knows(`mark.${entry.code}`) ? t(`mark.${entry.code}`, args) : entry.code;
}

function markColour(entry) {
  if (entry.kind === "load") return ink("quiet");
  return entry.code === "fault_off" ? ink("good") : ink("bad");
}

/** Vertical lines with texts for load and faults. */
function marks(view, entries) {
  const shown = entries
    .filter((entry) => (entry.kind === "load" || entry.kind === "fault") && entry.t > view.latest - view.seconds)
    .slice(-MOST_MARKS);
  const shapes = [];
  const annotations = [];
  const close = view.seconds * (isNarrow() ? CLOSE_NARROW : CLOSE);
  const ends = new Array(MARK_LINES).fill(-Infinity);
  for (const entry of shown) {
    const x = Math.min(0, entry.t - view.latest);
    const colour = markColour(entry);
    const free = ends.findIndex((end) => x - end > close);
    const row = free < 0 ? ends.indexOf(Math.min(...ends)) : free;
    ends[row] = x;
    const right = x > -close;
    shapes.push({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour, width: 1.25, dash: "dot" } });
    annotations.push({
      x, y: 1, yref: "paper", yanchor: "top", yshift: -row * 17, xanchor: right ? "right" : "left", showarrow: false,
      text: markWords(entry).replace(/[<>&]/g, " "), font: { color: colour, size: 11 }, bgcolor: veil("card", 0.75), borderpad: 2,
    });
  }
  return { shapes, annotations };
}

/** The name of the drain rate on its line, at the right. */
function drainName(view, top) {
  const rates = view.column("drain_rate");
  const now = rates[rates.length - 1];
  if (!(now > 0) || now > top) return [];
  return [{
    x: 0, y: now, xanchor: "right", yanchor: "bottom", showarrow: false, text: `${t("drain_rate")} ${rate(now)}`,
    font: { color: ink("text"), size: 11 }, bgcolor: veil("card", 0.75), borderpad: 1,
  }];
}

/** The upper end of the axis of rates. */
function top(view, ghost) {
  const traffic = Math.max(peak(view.column("arrivals")), peak(view.column("committed")), peak(ghost[0]?.y ?? []));
  const drain = peak(view.column("drain_rate"));
  const shown = traffic > 0 && drain > traffic * TOO_HIGH ? traffic : Math.max(traffic, drain);
  return ceiling(shown, 10);
}

/** Traces and layout; `ghostStart` is the time at which the ghost is drawn. */
export function buildHero(view, entries, ghost, ghostStart) {
  const [arrivals, ...rest] = rateTraces(view);
  const shadow = ghostTraces(view, ghost, ghostStart);
  const height = top(view, shadow);
  const { shapes, annotations } = marks(view, entries);
  const title = (text) => (isNarrow() ? undefined : { text, standoff: 6 });
  return [
    [arrivals, ...shadow, ...rest, backlogTrace(view)],
    layout({
      margin: { l: isNarrow() ? 38 : 62, r: 14, t: 8, b: 26 },
      xaxis: timeAxis(view.seconds, { anchor: "y2" }),
      yaxis: axis({ domain: [0.36, 0.9], range: [0, height], title: title(t("per_second_axis")), tickformat: "~s", nticks: 6 }),
      yaxis2: axis({
        domain: [0, 0.29], range: [0, ceiling(peak(view.column("backlog")), 10)], title: title(t("backlog.axis")),
        tickformat: "~s", nticks: 4,
      }),
      shapes,
      annotations: [...annotations, ...drainName(view, height)],
    }),
  ];
}

/** The numbers for the sentence over the chart: the peaks in the window, and the share that was shaved off. */
export function shaved(view) {
  const arrivals = peak(view.column("arrivals"));
  const writes = peak(view.column("committed"));
  return { arrivals, writes, share: arrivals > writes && writes > 0 ? 1 - writes / arrivals : null };
}
