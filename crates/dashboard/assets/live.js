// The numbers at the top: header, invariants, the path of an order, the conservation equation. Charts are elsewhere.

import { announce, byId, make, setData, setNumber, setText } from "./dom.js";
import { change, count, duration, rate, wholeSeconds } from "./format.js";
import { currentLanguage, t } from "./i18n.js";

const SIGNS = { ok: "✓", bad: "✗", unknown: "?" };
let lastVerdict = null;

/** Sale, phase and title of the page. */
export function showSale(sale) {
  const name = sale ? sale.name : t("sale.none");
  setText(byId("sale-name"), name);
  setText(byId("sale-id"), sale ? t("sale.id", { id: sale.id }) : "");
  const soldOut = sale?.phase === "open" && sale.remaining === 0;
  const rebuilding = sale?.state === "rebuilding";
  const chip = byId("sale-phase");
  chip.hidden = !sale;
  setText(chip, sale ? t(`phase.${rebuilding ? "rebuilding" : soldOut ? "sold_out" : sale.phase}`) : "");
  setData(chip, "phase", sale?.phase ?? "");
  const title = sale ? `${sale.name} · seckill` : "seckill";
  if (document.title !== title) document.title = title;
}

/** The state of the connection, with the age of the newest frame. */
export function showConnection(feed) {
  const box = byId("connection");
  const state = feed.state;
  const before = box.dataset.state;
  setData(box, "state", state);
  setData(document.body, "feed", feed.begun ? state : "none");
  const key = state === "offline" ? "reconnecting" : state;
  setText(box.querySelector(".words"), feed.begun ? t(key, { age: duration(feed.age) }) : t("connecting"));
  if (feed.begun && state === "offline" && before !== "offline") {
    box.dataset.lost = "yes";
    announce(t("said.lost"));
  } else if (state === "live" && box.dataset.lost) {
    delete box.dataset.lost;
    announce(t("said.back"));
  }
}

function pill(name, state, words, value, short = "?") {
  const box = byId(`pill-${name}`);
  setData(box, "state", state);
  setData(box, "value", value ?? "");
  setText(box.querySelector(".sign"), SIGNS[state]);
  setText(box.querySelector(".words"), words);
  setText(box.querySelector(".short"), short);
}

function counted(name, value) {
  if (typeof value !== "number") return pill(name, "unknown", t("unknown"));
  pill(name, value === 0 ? "ok" : "bad", t(`${name}.words`, { n: count(value), n_count: value }), value, count(value));
}

/** The findings of the audit: in English as the gateway words them, else by their numbers. */
function sentences({ findings, oversold, lost, duplicates, conserved }) {
  if (currentLanguage() === "en" || findings.length === 0) return findings;
  const numbers = { oversold, lost, duplicates };
  const broken = Object.entries(numbers).filter(([, value]) => value > 0);
  const worded = broken.map(([name, value]) => `${t(name)}${t("colon")}${t(`${name}.words`, { n: count(value), n_count: value })}`);
  if (conserved === false) worded.push(`${t("conserved")}${t("colon")}${t("conserved.no")}`);
  return worded.length > 0 ? worded : findings;
}

/** The four invariants, and the findings of the audit. */
export function showInvariants(invariants, now) {
  for (const name of ["oversold", "lost", "duplicates"]) counted(name, invariants?.[name]);
  const conserved = invariants?.conserved;
  if (typeof conserved === "boolean") pill("conserved", conserved ? "ok" : "bad", t(conserved ? "conserved.yes" : "conserved.no"), conserved, t(conserved ? "yes" : "no"));
  else pill("conserved", "unknown", t(invariants ? "conserved.unknown" : "unknown"));

  const age = invariants ? wholeSeconds(now - invariants.audited_at) : "";
  setText(byId("audited"), invariants ? t("audited", { age, verdict: t(`verdict.${invariants.verdict}`) }) : t("audited.never"));
  const findings = invariants ? sentences(invariants) : [];
  const list = byId("findings");
  list.hidden = findings.length === 0;
  if (list.dataset.shown !== findings.join("\n")) {
    list.dataset.shown = findings.join("\n");
    list.replaceChildren(...findings.map((finding) => make("li", {}, finding)));
  }
  const verdict = invariants?.verdict ?? null;
  if (["violated", "lost"].includes(verdict) && verdict !== lastVerdict) announce(findings.map((finding) => t("log.violation", { finding })).join(" "));
  lastVerdict = verdict;
}

/**
 * One station of the path: its large number, the number below, each with a text that depends on it, and its level (0 to 1). A number
 * is [value, text].
 */
function stage(name, [large, largeText], [small, smallText], full) {
  const box = byId(`stage-${name}`);
  setNumber(box.querySelector(".rate"), large, largeText);
  setText(box.querySelector(".what"), t(`stage.${name}.large`, { n: large, n_count: large }));
  setNumber(box.querySelector(".inside"), small, smallText);
  setText(box.querySelector(".unit"), t(`stage.${name}.small`, { n: small, n_count: small }));
  const width = `${Math.round(Math.min(1, Math.max(0, full || 0)) * 100)}%`;
  const level = box.querySelector(".level i");
  if (level.style.width !== width) level.style.width = width;
}

/** The thickness of the arrow after a station: one step for each power of about three of its rate. */
function flow(name, speed) {
  setData(byId(`stage-${name}`), "flow", speed > 0 ? Math.min(9, Math.max(1, Math.round(Math.log10(speed) * 2))) : 0);
}

const total = (processes, name) => processes.reduce((sum, process) => sum + (process[name] ?? 0), 0);

/** The path from the buyers to the database. `most` is the highest backlog in the window. */
export function showPipeline(row, frame, most) {
  const { sale, processes = [], totals } = frame;
  const handled = (row.committed ?? 0) + (row.rejected ?? 0);
  const worked = handled + (row.redelivered ?? 0);
  const net = (row.accepted ?? 0) - handled;
  const held = total(processes, "held_orders");
  const speed = (value) => [value, rate(value)];
  const number = (value) => [value, count(value)];
  stage("buyers", speed(row.arrivals), number(totals?.arrivals), 0);
  stage("gate", speed(row.accepted), number(row.remaining), row.remaining / sale?.stock);
  // What waits is what the queue is for; how fast it grows or shrinks comes second.
  stage("queue", number(row.backlog), [Math.round(net), change(net)], row.backlog / most);
  stage("worker", speed(worked), number(held), held / Math.max(row.backlog ?? 0, 1));
  stage("database", speed(row.committed), number(row.sold), row.sold / sale?.stock);
  flow("buyers", row.arrivals);
  flow("gate", row.accepted);
  flow("queue", worked);
  flow("worker", row.committed);
}

/** Where the units of a sale are, as [name, units]. Where orders hold several units, only units in flight are known. */
export function terms(sale) {
  const remaining = sale.remaining ?? null;
  if (remaining === null) return [["remaining", null], ["sold", sale.sold]];
  const rejected = sale.rejected_orders ?? 0;
  const single = sale.orders === sale.sold && sale.reserved_orders === sale.stock - remaining;
  const tail = rejected > 0 ? [["rejected", rejected]] : [];
  if (!single) {
    const flight = sale.stock - remaining - sale.sold - rejected;
    return [["remaining", remaining], ["in_flight", Math.max(0, flight)], ["sold", sale.sold], ...tail];
  }
  // Gate and ledger are read one after the other; orders that moved meanwhile count as queued.
  const flight = Math.max(0, sale.reserved_orders - sale.orders - rejected);
  const pending = Math.min(sale.pending_orders ?? 0, flight);
  return [["remaining", remaining], ["pending", pending], ["queued", flight - pending], ["sold", sale.sold], ...tail];
}

function term(name, units) {
  const number = make("b", { "data-value": units ?? "" }, count(units));
  return make("span", { class: "term", "data-term": name }, number, make("small", {}, t(`term.${name}`)));
}

/** stock = gate + pending + queued + sold, as numbers and as a bar. */
export function showEquation(sale, invariants, now) {
  const box = byId("equation");
  box.hidden = !sale;
  if (!sale) return;
  const parts = terms(sale);
  const line = box.querySelector(".terms");
  const bar = box.querySelector(".units");
  const names = [...parts.map(([name]) => name), document.documentElement.lang].join(" ");
  if (line.dataset.names !== names) {
    line.dataset.names = names;
    line.replaceChildren(term("stock", sale.stock), make("i", {}, "="));
    parts.forEach(([name, units], at) => line.append(...(at ? [make("i", {}, "+")] : []), term(name, units)));
    bar.replaceChildren(...parts.map(([name]) => make("i", { "data-term": name })));
  }
  for (const [name, units] of [["stock", sale.stock], ...parts]) {
    setNumber(line.querySelector(`[data-term="${name}"] b`), units, count(units));
    const segment = bar.querySelector(`[data-term="${name}"]`);
    if (segment) segment.style.flexGrow = String(units ?? 0);
  }
  const conserved = invariants?.conserved;
  const mark = byId("equation-mark");
  setData(mark, "state", conserved === true ? "ok" : conserved === false ? "bad" : "unknown");
  if (conserved === true) setText(mark, t("equation.holds", { age: wholeSeconds(now - invariants.audited_at) }));
  else if (conserved === false) setText(mark, t("equation.broken"));
  else setText(mark, invariants ? t("equation.unknown") : "");
}
