// The two lists at the bottom: the processes, and the event log.

import { byId, make, setData, setText } from "./dom.js";
import { clock, count, drainRate, duration } from "./format.js";
import { readinessWords } from "./health.js";
import { currentLanguage, knows, t } from "./i18n.js";

const known = (prefix, name) => (knows(`${prefix}.${name}`) ? t(`${prefix}.${name}`) : name);

const faultName = (name) => known("fault", name);

function describe(process) {
  const facts = [t("process.up", { time: duration(process.uptime_seconds) }), t("process.seen", { age: duration(process.age_ms / 1000) })];
  if (typeof process.held_orders === "number") {
    facts.push(t("process.held", { n: count(process.held_orders), n_count: process.held_orders }));
  }
  return facts.join(" · ");
}

function fillProcess(item, process) {
  setText(item.querySelector(".name"), process.name);
  setText(item.querySelector(".drain"), process.drain_rate === null ? "" : drainRate(process.drain_rate));
  setText(item.querySelector(".facts"), describe(process));
  const trouble = readinessWords(process);
  const chips = [...process.roles.map((role) => known("role", role)), ...process.faults.map((fault) => `⚡ ${faultName(fault)}`), ...(trouble ? [trouble] : [])];
  const box = item.querySelector(".chips");
  if (box.dataset.shown === chips.join("|")) return;
  box.dataset.shown = chips.join("|");
  box.replaceChildren(
    ...chips.map((words, at) => make("span", { class: at < process.roles.length ? "chip" : "chip warn" }, words)),
  );
}

const newProcess = (id) =>
  make(
    "li",
    { "data-process": id },
    make("p", { class: "row" }, make("b", { class: "name" }), make("span", { class: "drain" })),
    make("p", { class: "chips" }),
    make("p", { class: "facts note" }),
  );

/** The processes that are alive. Their elements are reused, so that nothing flickers. */
export function showProcesses(processes) {
  const list = byId("processes");
  const old = new Map([...list.children].map((item) => [item.dataset.process, item]));
  processes.forEach((process, at) => {
    const item = old.get(process.id) ?? newProcess(process.id);
    old.delete(process.id);
    fillProcess(item, process);
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  for (const item of old.values()) item.remove();
  byId("no-processes").hidden = processes.length > 0;
}

/** The message of an entry in the page's language, or in English for a code that this page does not know. */
function sentence(entry) {
  const key = `log.${entry.code}`;
  if (!knows(key)) return entry.message;
  const args = { ...entry.args };
  if (entry.code === "drain_rate_changed" && args.rate === null) return t("log.drain_rate_own");
  if (args.fault) args.fault = faultName(args.fault);
  if (Array.isArray(args.roles)) args.roles = args.roles.map((role) => known("role", role)).join(t("comma"));
  if (args.server) args.server = known("server", args.server);
  if (args.rate !== undefined && args.rate !== null) args.rate = drainRate(args.rate);
  for (const name of ["buyers", "stock"]) if (typeof args[name] === "number") args[name] = count(args[name]);
  if (entry.code === "load_ended") args.verdict = loadEnd(args.verdict);
  if (Object.values(args).some((value) => value === null || value === undefined)) return entry.message;
  return t(key, args);
}

/** How a load ended. A newer gateway may send a word that this page does not know. */
function loadEnd(verdict) {
  if (typeof verdict === "boolean") return t(verdict ? "result.pass" : "result.fail");
  return known("result", verdict);
}

let drawn = "";

/** The log, newest first; changed only if there is a new entry. */
export function showLog(log) {
  const state = `${log.revision} ${currentLanguage()}`;
  if (drawn === state) return;
  drawn = state;
  const items = log.entries.toReversed().map((entry) => {
    const item = make(
      "li",
      { class: `level-${entry.level}` },
      make("time", {}, clock(entry.t)),
      make("span", { class: "chip" }, known("kind", entry.kind)),
      make("span", { class: "sentence" }, sentence(entry)),
    );
    setData(item, "code", entry.code);
    return item;
  });
  byId("log").replaceChildren(...items);
  byId("log").hidden = items.length === 0;
  byId("no-log").hidden = items.length > 0;
}
