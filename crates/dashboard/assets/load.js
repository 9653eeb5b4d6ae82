// The load: its form, its progress, its verdict. The runs before are in runs.js.

import { call } from "./api.js";
import { announce, byId, make, setData, setText } from "./dom.js";
import { attempt, numberOf } from "./forms.js";
import { count, milliseconds, rate } from "./format.js";
import { currentLanguage, knows, onLanguage, t } from "./i18n.js";

const RUNNING = ["starting", "sending", "draining", "verifying"];
const LONG_COPIED_MS = 2000;
let presets = [];
let shownVerdict = "";
let announced = null;

/** Fills the form from the answer of GET control. */
export function loadOptions(control) {
  const names = (list) => list.map(({ name }) => name).join();
  if (names(presets) !== names(control.presets)) {
    presets = control.presets;
    byId("load-preset").replaceChildren(...presets.map(({ name }) => make("option", { value: name }, name)));
    choosePreset();
  }
  for (const name of ["buyers", "stock"]) byId(`load-${name}`).max = control.limits[name];
  byId("load-form").hidden = presets.length === 0; // this gateway cannot send load
  byId("load-direct").hidden = !control.direct;
  byId("direct-note").hidden = !control.direct;
}

const chosen = () => presets.find(({ name }) => name === byId("load-preset")?.value);

function choosePreset() {
  const preset = chosen();
  if (!preset) return;
  byId("load-rate").max = preset.max_rate;
  byId("load-rate").value = preset.peak_rate;
  describePreset();
}

/** The description of the preset, and the number of its buyers at the chosen rate. */
function describePreset() {
  const preset = chosen();
  if (!preset) return;
  const key = `preset.${preset.name}`;
  setText(byId("load-description"), knows(key) ? t(key) : preset.description);
  const scale = Number(byId("load-rate").value) / preset.peak_rate || 1;
  byId("load-buyers").placeholder = count(Math.round(preset.buyers * scale));
}

function wanted(mode) {
  const share = numberOf("load-duplicates");
  return {
    preset: byId("load-preset").value,
    peak_rate: numberOf("load-rate"),
    buyers: numberOf("load-buyers") ?? null,
    stock: numberOf("load-stock"),
    mode,
    ...(share !== undefined && { duplicate_share: share / 100 }),
  };
}

/** Starts a run with what is in the form; an error is shown in `box`. */
export const start = (mode, box) => attempt(box, async () => showLoad(await call("POST", "control/load", wanted(mode))));

/** Adds the event handlers of the form. */
export function setUpLoad() {
  const form = byId("load-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!byId("load-start").disabled) start("queue", form);
  });
  byId("load-direct").addEventListener("click", () => start("direct", form));
  byId("load-stop").addEventListener("click", () => attempt(form, async () => showLoad(await call("DELETE", "control/load"))));
  byId("load-preset").addEventListener("change", choosePreset);
  byId("load-rate").addEventListener("input", describePreset);
  byId("load-copy").addEventListener("click", copyCommand);
  onLanguage(describePreset);
}

async function copyCommand() {
  const code = byId("load-command");
  const button = byId("load-copy");
  let said = "copied";
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // A page that comes neither over https nor from this machine may not write to the clipboard: select the text instead.
    getSelection().selectAllChildren(code);
    said = "copy.selected";
  }
  setText(button, t(said));
  setTimeout(() => setText(button, t("copy")), LONG_COPIED_MS);
}

/** The state, progress and verdict of the newest load, which is null if there was none. */
export function showLoad(load) {
  const running = RUNNING.includes(load?.state);
  byId("load-start").disabled = running;
  byId("load-direct").disabled = running;
  byId("load-stop").disabled = !running;
  byId("load-run").hidden = !load;
  if (!load) return;
  const state = t(`load.state.${load.state}`);
  setText(byId("load-state"), load.mode === "direct" ? t("load.mode.direct", { state }) : state);
  const numbers = { errors_count: load.errors };
  for (const name of ["sent", "planned", "accepted", "sold_out", "errors"]) numbers[name] = count(load[name]);
  setText(byId("load-counts"), t("load.counts", numbers));
  const bar = byId("load-progress");
  bar.max = Math.max(1, load.planned);
  bar.value = Math.min(load.sent, bar.max);
  setData(bar, "value", load.sent);
  setText(byId("load-command"), load.command ?? "");
  showVerdict(load, running);
}

/** How a run goes or ended, in one word of `result.*`. */
export function loadResult(load) {
  if (RUNNING.includes(load.state)) return "running";
  if (load.verdict) return load.verdict.pass ? "pass" : "fail";
  return load.state === "stopped" ? "stopped" : "failed";
}

const SIGNS = { pass: "✓", fail: "✗", failed: "✗", running: "…", stopped: "■" };

function showVerdict(load, running) {
  const word = loadResult(load);
  const box = byId("verdict");
  const state = `${load.id} ${word} ${currentLanguage()}`;
  if (shownVerdict === state) return;
  shownVerdict = state;
  box.hidden = running;
  setData(box, "state", word === "failed" ? "fail" : word);
  setText(box.querySelector(".sign"), SIGNS[word]);
  setText(box.querySelector(".words"), t(`result.${word}`));
  const message = explained(load);
  setText(box.querySelector(".message"), message);
  box.querySelector("dl").replaceChildren(...(load.verdict ? facts(load.verdict) : []));
  // Announced once for each run, but not for a run that had ended before the page was opened.
  if (running) announced = load.id;
  else if (announced === load.id) {
    announced = null;
    announce([t(`result.${word}`), message].filter(Boolean).join(". "));
  }
}

/** Why a run failed, or which promise was broken: in the page's language where it knows the code. */
function explained({ failure, message }) {
  const key = `failure.${failure?.code}`;
  if (!failure || !knows(key)) return message ?? "";
  const numbers = Object.entries(failure.args).map(([name, value]) => [name, typeof value === "number" ? count(value) : value]);
  return t(key, Object.fromEntries(numbers));
}

function facts(verdict) {
  const yesNo = { true: t("yes"), false: t("no") };
  const shown = [
    ["oversold", count(verdict.oversold)],
    ["lost", count(verdict.lost)],
    ["duplicates", count(verdict.duplicates)],
    ["conserved", yesNo[verdict.conserved] ?? "–"],
    ["accepted", count(verdict.accepted)],
    ["committed", count(verdict.committed)],
    ...(verdict.committed_unknown > 0 ? [["committed_unknown", count(verdict.committed_unknown)]] : []),
    ["p50", milliseconds(verdict.p50_ms)],
    ["p99", milliseconds(verdict.p99_ms)],
    ["end_to_end", milliseconds(verdict.end_to_end_p99_ms)],
    ["errors", count(verdict.errors)],
    ["peak_arrivals", rate(verdict.peak_arrivals)],
    ["peak_commits", rate(verdict.peak_commits)],
  ];
  return shown.map(([name, text]) => make("div", { "data-fact": name }, make("dt", {}, t(`result.${name}`)), make("dd", {}, text)));
}
