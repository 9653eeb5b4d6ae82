// The chart of the shaved peak: rates and the drain rate, the backlog below, the direct run, and marks for what happened.

import { axis, canDrag, ceiling, ink, isNarrow, layout, line, scale, timeAxis, veil } from "./charts.js";
import { byId } from "./dom.js";
import { rate } from "./format.js";
import { t } from "./i18n.js";
import { marks } from "./marks.js";
import { peak } from "./store.js";

// A drain rate this many times above all rates would flatten their curves. Then the chart shows only its name.
const TOO_HIGH = 4;
const MARGIN = { t: 8, b: 26, r: 14 };
// The parts of the height that backlog and rates end and begin at.
const BACKLOG_END = 0.29;
const RATES_BEGIN = 0.36;

/** The writes of a direct run with the same load, drawn at the start of the run that is shown. */
function shadowTraces(view, shadow) {
  if (!shadow) return [];
  const { run: { curve }, start } = shadow;
  const [second, committed] = ["second", "committed"].map((name) => curve.columns.indexOf(name));
  // A row of the curve covers the second after its time; a live row covers the second before.
  const x = curve.rows.map((row) => start + row[second] + 1 - view.latest);
  const writes = curve.rows.map((row) => row[committed]);
  return [line(t("shadow"), view, writes, ink("quiet"), { x, line: { dash: "dash", width: 2 } })];
}

/** A direct run while it is under way: what it sends, and what the database writes. */
function directTraces(view) {
  const [arrivals, writes] = ["direct_arrivals", "direct_committed"].map((name) => view.column(name));
  if (!arrivals.some((value) => value >= 0)) return [];
  return [
    line(t("direct_arrivals"), view, arrivals, ink("sold-out"), { fill: "tozeroy", fillcolor: veil("sold-out", 0.3), line: { width: 1.25 } }),
    line(t("direct_writes"), view, writes, ink("bad"), { line: { width: 3, dash: "dash" } }),
  ];
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

/** The name of the drain rate on its line, at the right. */
function drainName(view, top) {
  const rates = view.column("drain_rate");
  const now = rates[rates.length - 1];
  if (!(now > 0) || now > top) return [];
  return [{
    x: 0, y: now, xanchor: "right", yanchor: "bottom", showarrow: false, text: `${t("drain_rate")} ${rate(now)}`,
    font: { color: ink("text"), size: 11 * scale() }, bgcolor: veil("card", 0.75), borderpad: 1,
  }];
}

/** The upper end of the axis of rates. */
function top(view, others) {
  const columns = ["arrivals", "committed"].map((name) => view.column(name));
  const traffic = Math.max(...[...columns, ...others.map(({ y }) => y)].map(peak));
  const drain = peak(view.column("drain_rate"));
  const shown = traffic > 0 && drain > traffic * TOO_HIGH ? traffic : Math.max(traffic, drain);
  return ceiling(shown, 10);
}

/** Traces and layout; `shadow`: a direct run of the same load and the moment at which it is drawn, or null. */
export function buildHero(view, entries, shadow) {
  const [arrivals, ...rest] = rateTraces(view);
  const others = [...directTraces(view), ...shadowTraces(view, shadow)];
  const height = top(view, others);
  const node = byId("chart-hero");
  const left = isNarrow() ? 38 : 62 * scale();
  const marked = marks(view, entries, node.clientWidth - left - MARGIN.r);
  const plot = Math.max(1, node.clientHeight - MARGIN.t - MARGIN.b);
  const end = Math.max(RATES_BEGIN + 0.2, 1 - (marked.height + 4) / plot);
  const title = (text) => (isNarrow() ? undefined : { text, standoff: 6 });
  return [
    [arrivals, ...others, ...rest, backlogTrace(view)],
    layout({
      margin: { ...MARGIN, l: left, b: MARGIN.b * scale() },
      dragmode: canDrag() ? "zoom" : false,
      xaxis: { ...timeAxis(view, { anchor: "y2" }), fixedrange: false },
      yaxis: axis({ domain: [RATES_BEGIN, end], range: [0, height], title: title(t("per_second_axis")), tickformat: "~s", nticks: 6 }),
      yaxis2: axis({
        domain: [0, BACKLOG_END], range: [0, ceiling(peak(view.column("backlog")), 10)], title: title(t("backlog.axis")),
        tickformat: "~s", nticks: 4,
      }),
      shapes: marked.shapes,
      annotations: [...marked.annotations, ...drainName(view, height)],
    }),
  ];
}

/** The numbers for the sentence over the chart: the peaks in the window, and the share that was shaved off. */
export function shaved(view) {
  const arrivals = peak(view.column("arrivals"));
  const writes = peak(view.column("committed"));
  return { arrivals, writes, share: arrivals > writes && writes > 0 ? 1 - writes / arrivals : null };
}
