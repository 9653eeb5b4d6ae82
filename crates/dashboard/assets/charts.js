// The common parts of all charts: colours from the style sheet, axes, when to draw. Their data is in hero.js and panels.js.

import { byId, make } from "./dom.js";
import { t } from "./i18n.js";

const PROJECTED = 1.5;
const narrow = matchMedia("(max-width: 640px)");
const probe = document.createElement("span");
let inks = new Map();

/** The colour of a custom property in the current theme; it is read once for each theme. */
export function ink(name) {
  if (!inks.has(name)) {
    if (!probe.isConnected) {
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = `var(--${name})`;
    inks.set(name, getComputedStyle(probe).color);
  }
  return inks.get(name);
}

/** The same colour, transparent. */
export const veil = (name, share) => ink(name).replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

/** How much larger than on a screen the texts are: for a projector, half as large again. */
export const scale = () => (document.body.dataset.present === "yes" && !narrow.matches ? PROJECTED : 1);

/** A line over time; `more` overrides. */
export const line = (name, view, y, colour, more = {}) => ({
  type: "scatter",
  mode: "lines",
  name,
  x: view.ago,
  y,
  hovertemplate: "%{y:,.0f}",
  ...more,
  line: { color: colour, width: 2, ...more.line },
});

/** An axis in the colours of the page. */
export const axis = (more) => ({
  gridcolor: ink("line"),
  zerolinecolor: ink("line"),
  linecolor: ink("line"),
  tickcolor: ink("line"),
  fixedrange: true,
  ...more,
});

// Seconds between two ticks, where time is counted from the start of what is shown.
const TICKS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300];

/** The ticks of a view, as [seconds before its end, text]. */
function ticks({ latest, seconds, origin }) {
  const most = narrow.matches ? 4 : 8;
  if (origin === null) {
    const step = seconds / (narrow.matches ? 4 : 6);
    const marks = Array.from({ length: Math.round(seconds / step) + 1 }, (_, at) => at * step - seconds);
    return marks.map((mark) => [mark, mark === 0 ? t("now") : t("seconds", { n: `−${-mark}` })]);
  }
  const step = TICKS.find((each) => seconds / each <= most) ?? TICKS.at(-1);
  const first = Math.ceil((latest - seconds - origin) / step);
  const last = Math.floor((latest - origin) / step);
  const steps = Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => (first + at) * step);
  return steps.map((mark) => [origin + mark - latest, t("seconds", { n: mark < 0 ? `−${-mark}` : mark })]);
}

/** The axis of time. Its labels stay in place while the data moves. */
export function timeAxis(view, more) {
  const marks = ticks(view);
  return axis({
    range: [-view.seconds, 0],
    tickvals: marks.map(([at]) => at),
    ticktext: marks.map(([, text]) => text),
    hoverformat: ".1f",
    // Only the hover label uses it: the ticks have texts of their own.
    ticksuffix: ` ${t("seconds", { n: "" }).trim()}`,
    showgrid: false,
    zeroline: false,
    ...more,
  });
}

const STEPS = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

/** The next round number from `value` up, so that an axis changes seldom. */
export function ceiling(value, least) {
  const wanted = Math.max(value * 1.06, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return STEPS.find((step) => step * power >= wanted) * power;
}

/** The layout that all charts share; `more` overrides. */
export const layout = (more) => ({
  font: { family: getComputedStyle(document.body).fontFamily, size: (narrow.matches ? 11 : 12) * scale(), color: ink("text") },
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  margin: { l: 46, r: 14, t: 8, b: 26 },
  showlegend: false,
  hovermode: "x unified",
  hoverlabel: { bgcolor: ink("card"), bordercolor: ink("line"), font: { color: ink("text") } },
  dragmode: false,
  ...more,
});

/** A legend in HTML. Plotly's own makes every column as wide as the longest name, and is laid out again at every draw. */
function showLegend(list, traces) {
  const state = traces.map(({ name, line: { color } }) => `${name} ${color}`).join("|");
  if (list.dataset.shown === state) return;
  list.dataset.shown = state;
  const items = traces.map(({ name, line: style, fillcolor }) => {
    const swatch = make("i", { "data-dash": style.dash ?? "solid" });
    swatch.style.borderTopColor = style.color;
    swatch.style.borderTopWidth = `${style.width}px`;
    if (fillcolor) swatch.style.backgroundColor = fillcolor;
    return make("li", {}, swatch, name);
  });
  list.replaceChildren(...items);
}

/** Whether dragging over a chart means a stretch of time. A finger that drags wants to scroll. */
export const canDrag = () => !matchMedia("(pointer: coarse)").matches;

/** Whether the window is narrow. */
export const isNarrow = () => narrow.matches;

/**
 * Draws each chart at its own pace, only while it is in view, and none while the tab is hidden.
 * `charts`: element id → { pause, build, zoomed }: milliseconds between two draws; a function that returns [traces, layout], or null
 * while there is no data; and, if time can be zoomed in, what is called with the range of seconds that was dragged over.
 */
export class Board {
  #charts;
  #inSight = new Set();
  #drawnAt = new Map();
  #revision = 0;
  #scheduled = false;
  #dragged = false;

  constructor(charts) {
    this.#charts = Object.entries(charts);
    const sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.#inSight.add(target.id);
        else this.#inSight.delete(target.id);
      }
      this.draw();
    });
    const sizes = new ResizeObserver(() => this.restyle());
    for (const [id] of this.#charts) {
      byId(id).before(make("ul", { class: "legend", id: `${id}-legend` }));
      sight.observe(byId(id));
      sizes.observe(byId(id));
      // A chart that is drawn again while somebody drags over it would lose the drag.
      byId(id).addEventListener("pointerdown", () => (this.#dragged = true));
    }
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => (this.#dragged = false));
    narrow.addEventListener("change", () => this.restyle());
  }

  /** Draws every chart again, because theme, language, size or window has changed. */
  restyle() {
    inks = new Map();
    this.#drawnAt.clear();
    this.draw();
  }

  /** Draws one chart that is due and in view in each frame of the screen, so that no frame takes long. */
  draw() {
    if (this.#scheduled || this.#dragged || !window.Plotly || document.hidden) return;
    const due = this.#charts.find(([id, { pause }]) => this.#inSight.has(id) && this.#waited(id) >= pause);
    if (!due) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#drawOne(...due);
      this.draw();
    });
  }

  #waited(id) {
    return performance.now() - (this.#drawnAt.get(id) ?? -Infinity);
  }

  #drawOne(id, { build, zoomed }) {
    this.#drawnAt.set(id, performance.now());
    const chart = build();
    if (!chart) return;
    this.#revision += 1;
    const node = byId(id);
    const [traces, shape] = chart;
    const size = { width: node.clientWidth, height: node.clientHeight, datarevision: this.#revision };
    showLegend(byId(`${id}-legend`), traces);
    window.Plotly.react(node, traces, { ...shape, ...size }, { displayModeBar: false, doubleClick: false, showTips: false });
    if (zoomed && !node.dataset.zooms) {
      node.dataset.zooms = "yes";
      node.on("plotly_relayout", (change) => {
        const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]].map(Number);
        if (to - from > 0) zoomed(from, to);
      });
    }
  }
}
