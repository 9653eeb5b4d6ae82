// The controls in one line above the chart: load, drain rate, faults and verdict, for a window that has no room for their forms.
// They do what the forms do, with the values that are in them.

import { call } from "./api.js";
import { byId, make, setData, setText } from "./dom.js";
import { attempt } from "./forms.js";
import { drainRate } from "./format.js";
import { onLanguage, t } from "./i18n.js";
import { loadResult, start } from "./load.js";

const RATES = [100, 200, 500, 1000, 2000, 5000, 10000, "unlimited", "auto"];
const SIGNS = { pass: "✓", fail: "✗", failed: "✗", running: "…", stopped: "■", none: "" };
const strip = byId("strip");
let faults = [];
let offersDirect = false;
let busy = false;

const change = (action) => attempt(strip, action);

function nameRates(shownRate) {
  const list = byId("strip-drain");
  const rates = RATES.some((each) => String(each) === shownRate) || !shownRate ? RATES : [shownRate, ...RATES];
  const state = [rates.join(), document.documentElement.lang].join(" ");
  if (list.dataset.shown !== state) {
    list.dataset.shown = state;
    list.replaceChildren(...rates.map((each) => make("option", { value: each }, drainRate(String(each)))));
  }
  if (shownRate && list.value !== shownRate && document.activeElement !== list) list.value = shownRate;
}

function newFault(fault) {
  const button = make("button", { type: "button", "data-strip-fault": fault.name });
  button.addEventListener("click", () => change(async () => {
    if (fault.seconds === undefined) return call("POST", "control/crash", {});
    const path = `control/faults/${fault.name}`;
    const body = { amount: fault.default, seconds: fault.seconds };
    return button.dataset.on === "yes" ? call("DELETE", path) : call("PUT", path, body);
  }));
  return button;
}

/** Adds the event handlers. */
export function setUpStrip() {
  byId("strip-fire").addEventListener("click", () => start("queue", strip));
  byId("strip-direct").addEventListener("click", () => start("direct", strip));
  byId("strip-stop").addEventListener("click", () => change(() => call("DELETE", "control/load")));
  byId("strip-preset").addEventListener("change", ({ target }) => {
    byId("load-preset").value = target.value;
    byId("load-preset").dispatchEvent(new Event("change"));
  });
  byId("load-preset").addEventListener("change", ({ target }) => (byId("strip-preset").value = target.value));
  byId("strip-drain").addEventListener("change", async ({ target }) => {
    busy = true;
    const rate = Number(target.value) || target.value;
    await change(() => call("PUT", "control/drain-rate", { rate }));
    // The next frame may still have the old settings.
    setTimeout(() => (busy = false), 600);
  });
  byId("strip-pause").addEventListener("click", ({ target }) =>
    change(() => call("PUT", "control/workers", { paused: target.dataset.on !== "yes" })));
  onLanguage(() => nameRates(byId("strip-drain").value));
}

/** Shows what a gateway offers, from the answer of GET control; null: it has no controls. */
export function offerStrip(control) {
  strip.hidden = !control;
  if (!control) return;
  const names = control.presets.map(({ name }) => name);
  byId("strip-load").hidden = names.length === 0;
  byId("strip-preset").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  byId("strip-preset").value = byId("load-preset").value;
  offersDirect = control.direct;
  faults = control.faults.filter(({ available, group }) => available && group === "order");
  byId("strip-faults").replaceChildren(...faults.map(newFault));
}

/** Brings it up to date with a frame of the feed. */
export function showStrip({ settings, processes, load }) {
  if (strip.hidden) return;
  const word = load ? loadResult(load) : "none";
  byId("strip-fire").disabled = word === "running";
  // One takes the place of the other, so that the line does not grow.
  byId("strip-stop").hidden = word !== "running";
  byId("strip-direct").hidden = word === "running" || !offersDirect;
  const own = processes.find(({ drain_told: told }) => told && told !== "paused")?.drain_told;
  if (!busy) nameRates(String(settings.drain_rate ?? own ?? ""));
  setData(byId("strip-pause"), "on", settings.paused ? "yes" : "no");
  setText(byId("strip-pause"), t(settings.paused ? "strip.resume" : "strip.pause"));
  for (const fault of faults) {
    const button = strip.querySelector(`[data-strip-fault="${fault.name}"]`);
    setText(button, t(`fault.${fault.name}`));
    const on = Boolean(settings.faults?.[fault.name]);
    setData(button, "on", on ? "yes" : "no");
    if (fault.seconds !== undefined) button.setAttribute("aria-pressed", String(on));
  }
  const verdict = byId("strip-verdict");
  setData(verdict, "state", word === "failed" ? "fail" : word);
  setText(verdict.querySelector(".sign"), SIGNS[word]);
  verdict.querySelector(".sign").hidden = !SIGNS[word];
  const state = word === "running" ? t(`load.state.${load.state}`) : t(`result.${word}.short`);
  setText(verdict.querySelector(".words"), state);
}
