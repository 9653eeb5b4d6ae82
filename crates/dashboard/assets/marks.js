// What happened, as lines over the chart: load, faults, pauses, processes that came and went, servers, rebuilds, parked messages.

import { ink, scale, veil } from "./charts.js";
import { knows, t } from "./i18n.js";

const MOST_MARKS = 24;
// Lines of text over the rates. A mark that finds no room on any of them has its line only; the log has its sentence.
const MOST_LINES = 4;
const LINE_PIXELS = 17;
const FONT_PIXELS = 11;
const SPACE_PIXELS = 10;
// Processes that report when the gateway has just started were there before.
const START_SECONDS = 5;

const COLOURS = {
  load_started: "quiet", load_ended: "quiet", fault_on: "bad", fault_off: "good", worker_crash_ordered: "bad",
  process_vanished: "bad", process_joined: "good", workers_paused: "warn", workers_resumed: "good",
  rebuild_began: "bad", rebuild_ended: "good", messages_parked: "warn", server_down: "bad", server_up: "good",
};

/** The text of a mark, short enough for a chart. */
function words({ code, args }) {
  const named = { ...args };
  for (const [name, prefix] of [["fault", "fault"], ["server", "server"]]) {
    if (named[name] && knows(`${prefix}.${named[name]}`)) named[name] = t(`${prefix}.${named[name]}`);
  }
  if (typeof named.name === "string") named.name = named.name.replace(/ at .*/, "");
  if (knows(`role.${named.name}`)) named.name = t(`role.${named.name}`);
  const text = knows(`mark.${code}`) ? t(`mark.${code}`, named) : code;
  return text.replace(/[<>&]/g, " ");
}

/** How wide a text is, generously: a Chinese character takes the whole font size. */
const width = (text) => [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1.05 : 0.64), 0) * FONT_PIXELS * scale() + SPACE_PIXELS;

/** Vertical lines with texts that do not overlap, over a chart of so many pixels; and how high these texts are together. */
export function marks(view, entries, pixels) {
  const first = entries[0]?.t ?? 0;
  const from = view.latest - view.seconds;
  const isShown = ({ code, t: at }) =>
    code in COLOURS && at > from - 1 && at <= view.latest + 1 && !(code === "process_joined" && at < first + START_SECONDS);
  const shapes = [];
  const annotations = [];
  const lines = Array.from({ length: MOST_LINES }, () => []);
  let used = 0;
  for (const entry of entries.filter(isShown).slice(-MOST_MARKS)) {
    // What happened just before the first row, or just after the last one, is at its edge.
    const x = Math.max(-view.seconds, Math.min(0, entry.t - view.latest));
    const colour = ink(COLOURS[entry.code]);
    shapes.push({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour, width: 1.25, dash: "dot" } });
    const text = words(entry);
    const at = ((x + view.seconds) / view.seconds) * pixels;
    const right = at + width(text) > pixels;
    const [start, end] = right ? [at - width(text), at] : [at, at + width(text)];
    const row = lines.findIndex((taken) => start >= 0 && taken.every(([begins, ends]) => end <= begins || start >= ends));
    if (row < 0) continue;
    lines[row].push([start, end]);
    used = Math.max(used, row + 1);
    annotations.push({
      x, y: 1, yref: "paper", yanchor: "top", yshift: -row * LINE_PIXELS * scale(), xanchor: right ? "right" : "left", showarrow: false,
      text, font: { color: colour, size: FONT_PIXELS * scale() }, bgcolor: veil("card", 0.75), borderpad: 2, name: "mark",
    });
  }
  return { shapes, annotations, height: used * LINE_PIXELS * scale() };
}
