// The four small charts, and the columns of the tables of all five charts.

import { axis, ceiling, ink, layout, line, timeAxis, veil } from "./charts.js";
import { count, milliseconds } from "./format.js";
import { t } from "./i18n.js";
import { peak } from "./store.js";

const small = (view, more) => layout({ xaxis: timeAxis(view), ...more });
const upTo = (most, least, more) => axis({ range: [0, ceiling(most, least)], tickformat: "~s", nticks: 5, ...more });

export function buildLatency(view) {
  const ms = { hovertemplate: "%{y:,.3~g} ms" };
  const range = latencyRange(view);
  return [
    [
      line("p99", view, view.column("accept_p99"), ink("commits"), { ...ms, line: { width: 2.5 } }),
      line("p50", view, view.column("accept_p50"), ink("middle"), { ...ms, line: { dash: "dash" } }),
    ],
    small(view, {
      yaxis: axis({
        type: "log", range, dtick: range[1] - range[0] > 2 ? 1 : "D2", tickformat: ",~g",
        title: { text: t("milliseconds", { n: "" }).trim(), standoff: 4 },
      }),
      margin: { l: 54, r: 14, t: 8, b: 26 },
    }),
  ];
}

// The lowest decade of the axis of latency: 0.1 ms. Shorter times are of no interest.
const LEAST_DECADE = -1;

/** Whole decades around the data, so that the axis changes seldom. */
function latencyRange(view) {
  let least = Infinity;
  for (const value of view.column("accept_p50")) if (value > 0 && value < least) least = value;
  const most = peak(view.column("accept_p99"));
  if (!(most > 0)) return [0, 2];
  const low = Math.max(LEAST_DECADE, Math.floor(Math.log10(Math.min(least, most))));
  return [low, Math.max(low + 1, Math.ceil(Math.log10(most * 1.05)))];
}

const OUTCOMES = [
  ["accepted", "middle"],
  ["replayed", "backlog"],
  ["sold_out", "sold-out"],
  ["refused", "warn"],
  ["unknown", "bad"],
];

export function buildOutcomes(view) {
  const traces = OUTCOMES.map(([name, colour]) =>
    line(t(`outcome.${name}`), view, view.column(name), ink(colour), {
      stackgroup: "all",
      fillcolor: veil(colour, 0.7),
      line: { width: 0 },
    }),
  );
  const columns = OUTCOMES.map(([name]) => view.column(name));
  const sums = view.ago.map((_, at) => columns.reduce((sum, column) => sum + column[at], 0));
  return [traces, small(view, { yaxis: upTo(peak(sums), 10) })];
}

export function buildStock(view) {
  const remaining = view.column("remaining");
  const sold = view.column("sold");
  return [
    [
      line(t("remaining"), view, remaining, ink("middle"), { line: { dash: "dash" } }),
      line(t("sold"), view, sold, ink("commits"), { fill: "tozeroy", fillcolor: veil("commits", 0.18), line: { width: 2.5 } }),
    ],
    small(view, { yaxis: upTo(Math.max(peak(remaining), peak(sold)), 10) }),
  ];
}

export function buildCommit(view) {
  const time = view.column("commit_ms");
  const batch = view.column("batch");
  return [
    [
      line(t("commit_ms"), view, time, ink("commits"), { hovertemplate: "%{y:,.3~g} ms", line: { width: 2.5 } }),
      line(t("batch"), view, batch, ink("backlog"), { yaxis: "y2", line: { dash: "dash" } }),
    ],
    small(view, {
      margin: { l: 54, r: 46, t: 8, b: 26 },
      yaxis: upTo(peak(time), 10, { title: { text: t("milliseconds", { n: "" }).trim(), standoff: 4 } }),
      yaxis2: upTo(peak(batch), 10, { overlaying: "y", side: "right", showgrid: false }),
    }),
  ];
}

const counted = (name, key = name) => ({ name, key, format: count });

/** The columns of the table of each chart. */
export const TABLES = {
  hero: [
    counted("arrivals"), counted("accepted"), counted("committed", "writes"),
    counted("drain_rate"),
    counted("backlog"),
  ],
  latency: [{ name: "accept_p50", label: "p50", format: milliseconds }, { name: "accept_p99", label: "p99", format: milliseconds }],
  outcomes: OUTCOMES.map(([name]) => counted(name, `outcome.${name}`)),
  stock: [counted("remaining"), counted("sold")],
  commit: [{ name: "commit_ms", key: "commit_ms", format: milliseconds }, counted("batch")],
};
