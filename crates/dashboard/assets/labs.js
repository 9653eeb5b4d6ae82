// The experiments: what each is about, beside its run and its result.

import { call, token } from "./api.js";
import { announce, byId, make, setData, setText } from "./dom.js";
import { attempt, numberOf } from "./forms.js";
import { count } from "./format.js";
import { currentLanguage, onLanguage, t, translate } from "./i18n.js";
import { setUpChoices } from "./choices.js";

const LOOK_MS = 400;
const REST_MS = 5000;
const SIGNS = { as_predicted: "✓", compared: "✓", not_shown: "–", broken: "✗", failed: "✗" };
let list = null;
let announced = null;
let timer = null;

/** A text of the server in the chosen language. */
const say = (text) => text[currentLanguage()] ?? text.en;

/** The experiment that the address names, or the first one. */
const chosen = () => list.experiments.find(({ name }) => `#${name}` === location.hash) ?? list.experiments[0];

const verdictOf = ({ ended }) => (ended?.failed ? "failed" : ended?.report?.verdict);

function showList() {
  const current = chosen();
  const items = list.experiments.map((experiment) => {
    const running = list.running?.name === experiment.name;
    const verdict = running ? "running" : verdictOf(experiment) ?? "";
    const words = running ? t("lab.running") : verdict ? t(`lab.verdict.${verdict}.short`) : "";
    const sign = make("span", { class: "mark", "data-state": verdict, "aria-hidden": "true" }, running ? "…" : SIGNS[verdict] ?? "");
    const link = make("a", { href: `#${experiment.name}` }, experiment.name);
    if (experiment === current) link.setAttribute("aria-current", "true");
    const needs = experiment.available ? "" : make("span", { class: "chip" }, t("lab.servers"));
    return make("li", { "data-lab": experiment.name }, sign, link, make("span", { class: "unseen" }, words), needs);
  });
  byId("lab-list").replaceChildren(...items);
}

function showAbout(experiment) {
  setText(byId("lab-name"), experiment.name);
  setText(byId("lab-question"), say(experiment.question));
  // A comparison names its two sides; the others have a safeguard or not.
  const names = experiment.columns?.map(say) ?? [t("lab.column.without"), t("lab.column.with")];
  names.forEach((name, at) => setText(byId("lab-result").querySelectorAll("thead th")[at + 1], name));
  const titles = experiment.columns?.map(say) ?? [t("lab.without"), t("lab.with")];
  ["lab-without", "lab-with"].forEach((id, at) => setText(byId(id).previousElementSibling, titles[at]));
  for (const part of ["prediction", "without", "with", "look_at"]) setText(byId(`lab-${part.replace("_", "-")}`), say(experiment[part]));
  const line = experiment.safeguard;
  setText(byId("lab-line"), line ? `${line.file}:${line.line}\n${line.code}` : "");
  const where = experiment.available && experiment.needs === "nothing" ? "" : " --backend cluster";
  setText(byId("lab-command"), `seckill lab run ${experiment.name} --seed ${byId("lab-seed").value || 1}${where}`);
}

const bound = (expected) => {
  const [kind, value] = Object.entries(expected)[0];
  const sign = value === 0 ? "" : { exactly: "", at_most: "≤ " }[kind];
  return `${sign}${count(value)}`;
};

const number = ({ value, unit }) => `${value >= 100 ? count(Math.round(value)) : Math.round(value * 10) / 10} ${unit}`.trim();

function cell(counted) {
  if (!counted) return make("td", { class: "none" }, "…");
  const state = counted.holds ? "ok" : "off";
  return make("td", { "data-state": state, "data-value": counted.actual }, `${count(counted.actual)}${counted.holds ? "" : " ✗"}`);
}

function showCounts(without, withIt) {
  const rows = (without?.counts ?? []).map((one, at) =>
    make("tr", {}, make("th", { scope: "row" }, say(one.what)), make("td", {}, bound(withIt?.counts[at].expected ?? one.expected)), cell(one), cell(withIt?.counts[at])),
  );
  const measured = (without?.measures ?? []).map((one, at) => {
    const other = withIt?.measures[at];
    return make("tr", { class: "note" }, make("th", { scope: "row" }, say(one.what)), make("td"), make("td", {}, number(one)), make("td", {}, other ? number(other) : "…"));
  });
  byId("lab-result").querySelector("tbody").replaceChildren(...rows, ...measured);
}

function showVerdict(verdict) {
  const box = byId("lab-verdict");
  box.hidden = !verdict;
  setData(box, "state", verdict ?? "");
  setText(box.querySelector(".sign"), SIGNS[verdict] ?? "");
  setText(box.querySelector(".words"), verdict ? t(`lab.verdict.${verdict}`) : "");
}

function showResult(experiment) {
  const running = list.running?.name === experiment.name ? list.running : null;
  const report = running ? null : experiment.ended?.report;
  const failed = running ? null : experiment.ended?.failed;
  byId("lab-result").hidden = !report && !running?.without;
  showCounts(running ? running.without : report?.without, report?.with);
  showVerdict(report?.verdict);
  byId("lab-failed").hidden = !failed;
  setText(byId("lab-failed"), failed ?? "");
  const state = running ? t(`lab.running.${running.side}`) : report ? t("lab.ran", { seed: report.seed }) : "";
  setText(byId("lab-state"), experiment.available ? state : t("lab.servers.why"));
  byId("lab-run").disabled = !!list.running || !experiment.available;
  if (running) announced = experiment.name;
  else if (announced === experiment.name && (report || failed)) {
    announced = null;
    announce(report ? t(`lab.verdict.${report.verdict}`) : failed);
  }
}

function show() {
  if (!list) return;
  const experiment = chosen();
  showList();
  showAbout(experiment);
  showResult(experiment);
}

/** Looks at the list again and again: often while something runs. */
async function look() {
  clearTimeout(timer);
  try {
    list = await call("GET", "control/experiments");
    byId("no-labs").hidden = true;
    byId("labs").hidden = false;
    byId("token-card").hidden = !list.token_needed;
    show();
  } catch (error) {
    if (error.status === 404) byId("no-labs").hidden = byId("labs").hidden === false;
  }
  timer = setTimeout(look, list?.running ? LOOK_MS : REST_MS);
}

byId("lab-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (byId("lab-run").disabled) return;
  attempt(byId("lab-form"), async () => {
    await call("POST", `control/experiments/${chosen().name}`, { seed: numberOf("lab-seed") ?? 1 });
    await look();
  });
});
byId("lab-seed").addEventListener("input", show);
byId("token").value = token.get();
byId("token").addEventListener("input", () => token.set(byId("token").value.trim()));
addEventListener("hashchange", show);
onLanguage(show);
setUpChoices();
translate();
look();
