// The controls: a new sale, the drain rate, the pause, the faults. Those of the load are in load.js.

import { call, token } from "./api.js";
import { byId, make, setData, setNumber, setText } from "./dom.js";
import { attempt, numberOf } from "./forms.js";
import { count, drainRate, rate, wholeSeconds } from "./format.js";
import { onLanguage, t, translate } from "./i18n.js";
import { setUpLoad, showLoad } from "./load.js";
import { offerStrip, setUpStrip, showStrip } from "./strip.js";

// The steps of the slider: ten for each power of ten, so that every key press has a visible effect. The last are words.
const NOTCHES = [
  100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000, 10000, 12000,
  15000, 20000, "unlimited", "auto",
];
const WORDS = NOTCHES.filter((value) => typeof value === "string");
const CRASH_SHOWN_SECONDS = 15;
const section = byId("controls");
const place = document.createComment("controls");
let faults = [];
let crashed = null;
let serverNow = 0;
let sliderBusy = false;
let afterFaultOn = false;

const notch = (value) => {
  if (WORDS.includes(value)) return NOTCHES.indexOf(value);
  const wanted = Math.log(Number(value));
  const far = (at) => Math.abs(Math.log(NOTCHES[at]) - wanted);
  return [...NOTCHES.keys()].slice(0, -WORDS.length).reduce((best, at) => (far(at) < far(best) ? at : best), 0);
};

/** Shows a rate on the slider. The exact rate, which may be between two steps, is the text beside it. */
function showNotch(value) {
  const slider = byId("drain-slider");
  slider.value = notch(value);
  sayChosen(value);
}

function sayChosen(value) {
  const words = drainRate(String(value));
  setText(byId("drain-chosen"), words);
  byId("drain-slider").setAttribute("aria-valuetext", words);
  setData(byId("drain-slider"), "value", value);
}

function setUpDrain() {
  const box = byId("drain");
  const slider = byId("drain-slider");
  slider.max = NOTCHES.length - 1;
  let wanted = null;
  slider.addEventListener("input", () => {
    sliderBusy = true;
    sayChosen(NOTCHES[slider.value]);
  });
  slider.addEventListener("change", async () => {
    const underWay = wanted !== null;
    sliderBusy = true;
    wanted = NOTCHES[slider.value];
    if (underWay) return; // the loop below sends the newest value at the end
    try {
      for (let sent = null; sent !== wanted; ) {
        sent = wanted;
        await attempt(box, () => call("PUT", "control/drain-rate", { rate: sent }));
      }
    } finally {
      wanted = null;
      // The next frame may still have the old settings.
      setTimeout(() => (sliderBusy = wanted !== null), 600);
    }
  });
  byId("pause").addEventListener("click", () => {
    const paused = byId("pause").dataset.on !== "yes";
    attempt(box, async () => showPause(await call("PUT", "control/workers", { paused })));
  });
}

function showPause({ paused }) {
  setData(byId("pause"), "on", paused ? "yes" : "no");
  setText(byId("pause"), t(paused ? "resume" : "pause"));
}

/** What the workers report: the shares that they have together, and whether they find the rate by themselves. */
function showReported(processes) {
  const workers = processes.filter(({ roles }) => roles.includes("worker"));
  const box = byId("drain-reported");
  if (workers.length === 0) return setNumber(box, "", t("drain.nobody"));
  const rates = [...new Set(workers.map((worker) => worker.drain_rate))];
  const numbers = workers.map((worker) => Number(worker.drain_rate)).filter((number) => !Number.isNaN(number));
  const sum = String(numbers.reduce((all, number) => all + number, 0));
  const value = rates.filter((each) => Number.isNaN(Number(each))).concat(numbers.length ? sum : []).join(",");
  const shares = value.split(",").map((each) => drainRate(each)).join(", ");
  const words = workers.some((worker) => worker.drain_told === "auto") ? t("drain.found", { rate: shares }) : shares;
  setNumber(box, value, workers.length === 1 ? words : t("drain.together", { rate: words, n: workers.length }));
}

function showDrain(settings, processes) {
  showReported(processes);
  showPause(settings);
  if (sliderBusy) return;
  const own = processes.find(({ drain_told }) => drain_told && drain_told !== "paused")?.drain_told;
  const value = settings.drain_rate ?? own;
  if (value !== undefined && value !== null) showNotch(value);
}

/** Every fault ends by itself, but for a crash, which is over at once. */
const isCrash = (fault) => fault.seconds === undefined;

function newFault(fault) {
  const id = `fault-${fault.name}`;
  const button = make("button", { type: "button", id });
  const item = make("li", { "data-fault": fault.name }, make("h4", { "data-i18n": id.replace("-", ".") }));
  item.append(make("p", { class: "note", "data-i18n": `expect.${fault.name}` }));
  const row = make("div", { class: "buttons" });
  if (fault.unit) {
    const amount = make("input", { id: `${id}-amount`, type: "number", min: 1, max: fault.max, step: 1, value: fault.default });
    row.append(make("label", { class: "amount" }, make("span", { class: "unseen" }), amount, make("span", { "data-i18n": `unit.${fault.unit}` })));
  }
  row.append(button);
  item.append(row, make("p", { class: "note left", "aria-live": "off" }), make("p", { class: "error", role: "alert", hidden: "" }));
  button.addEventListener("click", () => attempt(item, () => switchFault(fault, item)));
  return item;
}

async function switchFault(fault, item) {
  if (isCrash(fault)) {
    const { name } = await call("POST", "control/crash", {});
    crashed = { name, until: serverNow + CRASH_SHOWN_SECONDS };
    return;
  }
  const path = `control/faults/${fault.name}`;
  const on = item.dataset.on === "yes";
  const settings = on
    ? await call("DELETE", path)
    : await call("PUT", path, { amount: (fault.unit && numberOf(`fault-${fault.name}-amount`)) ?? fault.default, seconds: fault.seconds });
  showFault(fault, settings);
}

function showFault(fault, settings) {
  const item = section.querySelector(`[data-fault="${fault.name}"]`);
  const button = byId(`fault-${fault.name}`);
  if (isCrash(fault)) {
    setText(button, t("fault.crash"));
    return setText(item.querySelector(".left"), crashed && crashed.until > serverNow ? t("fault.crashed", crashed) : "");
  }
  const on = settings.faults?.[fault.name] ?? null;
  setData(item, "on", on ? "yes" : "no");
  setData(button, "on", on ? "yes" : "no");
  setText(button, on ? t("fault.off") : t("fault.on", { seconds: fault.seconds }));
  const words = { time: on ? wholeSeconds(on.until - serverNow) : "" };
  if (fault.unit) {
    setText(item.querySelector(".amount .unseen"), t("fault.amount", { fault: t(`fault.${fault.name}`) }));
    words.amount = on ? `${count(on.amount)} ${t(`unit.${fault.unit}`)}` : "";
  }
  setText(item.querySelector(".left"), on ? t(fault.unit ? "fault.left" : "fault.left.plain", words) : "");
}

/** In two groups. A fault that this gateway cannot cause is left out. */
function setUpFaults(list) {
  faults = list.filter(({ available }) => available);
  byId("no-bank").hidden = faults.length === list.length;
  for (const group of section.querySelectorAll("ul.faults")) {
    group.replaceChildren(...faults.filter((fault) => fault.group === group.dataset.group).map(newFault));
  }
}

/** Opens the second group when one of its faults is switched on, here or elsewhere, so that it is seen. */
function openGroup(settings) {
  const on = faults.some(({ group, name }) => group === "after_the_order" && settings.faults?.[name]);
  if (on && !afterFaultOn) byId("faults-after").open = true;
  afterFaultOn = on;
}

function setUpSale() {
  const form = byId("sale-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form, () => {
      const name = byId("sale-title").value.trim();
      return call("POST", "control/sales", { stock: numberOf("sale-stock"), ...(name && { name }) });
    });
  });
}

function setUpToken() {
  byId("token-card").addEventListener("submit", (event) => event.preventDefault());
  byId("token").value = token.get();
  byId("token").addEventListener("input", () => token.set(byId("token").value.trim()));
}

setUpDrain();
setUpSale();
setUpToken();
setUpLoad();
setUpStrip();
onLanguage(() => section.isConnected && translateControls());

function translateControls() {
  translate(section);
  setText(byId("drain-least"), rate(NOTCHES[0]));
}

/**
 * Asks the gateway for its controls; shows them, or takes them off the page. Returns the answer of GET control,
 * null if there are no controls, undefined if there was no answer.
 */
export async function findControls(loadOptions) {
  try {
    const control = await call("GET", "control");
    if (place.isConnected) place.replaceWith(section);
    section.hidden = false;
    byId("columns").classList.add("with-controls");
    byId("token-card").hidden = !control.token_needed;
    const offered = control.faults.filter(({ available }) => available);
    if (faults.map(({ name }) => name).join() !== offered.map(({ name }) => name).join()) setUpFaults(control.faults);
    translateControls(); // the language may have changed while the controls were off the page
    loadOptions(control);
    offerStrip(control);
    return control;
  } catch (error) {
    if (error.status !== 404) return undefined;
    removeControls();
    return null;
  }
}

/** For a gateway without controls. */
export function removeControls() {
  if (section.isConnected) section.replaceWith(place);
  offerStrip(null);
  byId("columns").classList.remove("with-controls");
}

/** Updates the controls from a frame of the feed. */
export function showControls({ settings, processes, load }, now) {
  serverNow = now;
  if (!section.isConnected || section.hidden) return;
  showDrain(settings, processes);
  for (const fault of faults) showFault(fault, settings);
  openGroup(settings);
  showLoad(load);
  showStrip({ settings, processes, load });
}
