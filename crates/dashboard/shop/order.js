// The buyer's order: its status as it changes, what can be done with it, and what happened when.

import { call, clockAhead, Problem, serverNow } from "./api.js";
import { announce, byId, make, recall, remember, setData, setText } from "./dom.js";
import { knows, onLanguage, t } from "./i18n.js";
import { follow, patiently } from "./patience.js";
import { clock, length, price, sentence, waiting } from "./words.js";

const card = byId("order");
/** Statuses after which the buyer may order again. */
const OVER = ["rejected", "cancelled", "refunded"];
/** A step that a subscriber writes is there a moment after the status. */
const STEP_LATER_MS = 1500;
/** How often a change is sent before the buyer is told why it does not succeed. */
const TRIES = 4;
/** The events that a status is the outcome of; until one of them is there, the timeline is read once more. */
const STEP_OF = { paid: ["order.paid", "refund.denied"], cancelled: ["order.cancelled"], refunding: ["refund.requested"], refund_held: ["refund.held"], refunded: ["refund.succeeded"] };

let order = null;
let currency = "USD";
let steps = [];
let busy = false;
let problem = null;
let again = null;
let following = null;
let seen = null;
let changed = () => {};

/** Whether the buyer holds an order that counts. */
export const holds = () => order !== null && !OVER.includes(order.status);

/** Calls back when the order becomes one that counts, or one that does not any more. */
export const onOrder = (listener) => (changed = listener);

/**
 * Shows this order and follows it. `moments` are those of this page, if the order was made here: of the click, of the request and of its
 * answer, by `performance.now()`.
 */
export function take(next, moneyOf, moments = null) {
  [currency, seen] = [moneyOf, moments];
  if (next.order_id !== order?.order_id) [order, steps, problem] = [null, [], null];
  put(next);
  start();
  const begun = payment().kept?.body;
  if (begun) {
    byId("way").value = begun.card ? "card" : "balance";
    if (begun.card) byId("card").value = begun.card;
    draw();
  }
}

/** For a buyer who is another one now. */
export function drop() {
  following?.abort();
  [order, steps, problem, again] = [null, [], null, null];
  draw();
  changed();
}

/** Queued, then committed, then whatever comes after: no order goes back. */
const stage = (status) => ["queued", "committed"].indexOf(status) + 1 || 3;

function put(next) {
  // The answer of a call and an event of the stream may overtake each other.
  if (order && stage(next.status) < stage(order.status)) return;
  const news = order?.status !== next.status;
  order = { ...order, ...next, pay_by: next.pay_by ?? null };
  if (news) {
    announce(statusSentence());
    readTimeline();
  }
  draw();
  changed();
}

/** Whether nothing more happens to the order by itself. */
const rests = () => OVER.includes(order.status) || order.status === "paid" || (order.status === "committed" && !order.pay_by);

/** Follows the order's event stream until it rests. Called again after whatever the buyer does with it. */
function start() {
  following?.abort();
  following = new AbortController();
  const { signal } = following;
  const id = order.order_id;
  const hear = (next) => {
    if (signal.aborted) return true;
    put(next);
    return rests();
  };
  follow(`orders/${id}/events`, hear, signal).catch((error) => {
    if (signal.aborted) return;
    problem = error instanceof Problem ? error : new Problem("network");
    draw();
  });
}

let reading = 0;

async function readTimeline(tries = 2) {
  const [id, turn] = [order.order_id, ++reading];
  const timeline = await call("GET", `orders/${id}/timeline`).catch(() => null);
  if (turn !== reading || order?.order_id !== id) return;
  if (timeline) {
    steps = timeline.json.steps;
    draw();
  }
  const wanted = STEP_OF[order.status];
  const has = !wanted || steps.some(({ what }) => wanted.includes(what));
  if (!has && tries > 0) setTimeout(() => turn === reading && readTimeline(tries - 1), STEP_LATER_MS);
}

/** Makes a change of the order, and shows what comes of it. */
async function change(action) {
  if (busy) return;
  [busy, problem] = [true, null];
  draw();
  try {
    await action((why, until) => {
      again = { why, until };
      draw();
    });
  } catch (error) {
    problem = error instanceof Problem ? error : new Problem("network");
  } finally {
    [busy, again] = [false, null];
    if (order) start();
    draw();
  }
}

const post = (what, waits, options = {}) =>
  patiently(() => call("POST", `orders/${order.order_id}/${what}`, { body: {}, ...options }), waits, undefined, TRIES);

/** The payment that was begun: the same key and body again have the same effect once, also after a reload. */
function payment() {
  const name = `shop.payment.${order.order_id}`;
  const keep = (value) => remember(name, value && JSON.stringify(value), "sessionStorage");
  let kept = null;
  try {
    kept = JSON.parse(recall(name, "sessionStorage"));
  } catch {
    // Something else is stored there: a new payment takes its place.
  }
  return { kept, keep };
}

/** A name that no other payment has. crypto.randomUUID is missing on pages that came over plain HTTP. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

async function pay(waits) {
  const { kept, keep } = payment();
  const way = byId("way").value;
  const wanted = way === "balance" ? { balance_cents: order.amount_cents } : { card: byId("card").value.trim() };
  const same = kept && JSON.stringify(kept.body) === JSON.stringify(wanted);
  const { key, body } = same ? kept : { key: newKey(), body: wanted };
  keep({ key, body });
  for (;;) {
    const options = { body, headers: { "Idempotency-Key": key } };
    const paid = await post("payment", waits, options).catch((error) => {
      // Whatever was refused for good is paid with a new key, if at all.
      if (error instanceof Problem && !error.passes) keep(null);
      throw error;
    });
    if (paid.json.status === "paid") {
      keep(null);
      return put({ ...order, status: "paid", pay_by: null });
    }
    // The bank has not said how it ended.
    const wait = (paid.retryAfter ?? 2) * 1000;
    waits(new Problem("processing"), performance.now() + wait);
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (order.status !== "committed") return;
  }
}

function setUp() {
  byId("pay-form").addEventListener("submit", (event) => {
    event.preventDefault();
    change(pay);
  });
  byId("way").addEventListener("change", draw);
  byId("cancel-order").addEventListener("click", () => change(async (waits) => put((await post("cancel", waits)).json)));
  byId("refund").addEventListener("click", () => change(async (waits) => put((await post("refund", waits)).json)));
  onLanguage(draw);
  // A browser has six connections for all of its tabs, and nobody looks at this one now.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) following?.abort();
    else if (order && !rests()) start();
  });
}

const reasonKey = () => `reason.${order.reason}`;

function statusSentence() {
  const key = order.reason && knows(`status.${order.status}.${order.reason}`) ? `status.${order.status}.${order.reason}` : `status.${order.status}`;
  const payable = order.status === "committed" && order.pay_by ? "status.committed.to_pay" : key;
  return t(payable, { reason: order.reason && knows(reasonKey()) ? t(reasonKey()) : (order.reason ?? "") });
}

/**
 * The click and the answer by the server's clock, which took the order at `accepted`: between the request and its answer. So its clock
 * is known up to half of that time, or better. They are kept for a reload.
 */
function ownMoments(accepted) {
  const name = `shop.clicked.${order.order_id}`;
  if (seen) {
    const ahead = Math.min(Math.max(accepted - (seen.sent + seen.answered) / 2, clockAhead()), accepted - seen.sent);
    seen.shown ??= { clicked: seen.clicked + ahead, answered: Math.max(seen.answered + ahead, accepted) };
    remember(name, JSON.stringify(seen.shown), "sessionStorage");
    return seen.shown;
  }
  try {
    const { clicked, answered } = JSON.parse(recall(name, "sessionStorage"));
    return Number.isFinite(clicked) && Number.isFinite(answered) ? { clicked, answered } : null;
  } catch {
    return null;
  }
}

/** What this page has seen itself comes to what the gateway knows, in the order in which it must have been. */
function allSteps() {
  const known = steps.map(({ at, what }) => ({ at: Date.parse(at), what }));
  const accepted = known.find(({ what }) => what === "order.accepted")?.at ?? Date.parse(order.accepted_at);
  if (!Number.isFinite(accepted)) return known;
  if (known.length === 0) known.push({ at: accepted, what: "order.accepted" });
  const here = ownMoments(accepted);
  if (here) {
    known.push({ at: here.clicked, what: "clicked", here: true }, { at: here.answered, what: "answered", here: true });
  }
  const rank = (step) => ["clicked", "order.accepted", "answered"].indexOf(step.what);
  return known.sort((one, other) => one.at - other.at || (rank(one) >= 0 && rank(other) >= 0 ? rank(one) - rank(other) : 0));
}

function drawSteps() {
  const all = allSteps();
  const items = all.map((step, nth) => {
    const name = knows(`step.${step.what}`) ? t(`step.${step.what}`) : step.what;
    const since = nth === 0 ? "" : `+ ${length(Math.max(0, step.at - all[nth - 1].at))}`;
    return make(
      "li",
      { "data-step": step.what },
      make("span", { class: "dot", "aria-hidden": "true" }),
      make("span", { class: "what" }, name, ...(step.here ? [make("small", {}, ` ${t("step.here")}`)] : [])),
      make("span", { class: "when" }, make("time", { datetime: new Date(step.at).toISOString() }, clock(step.at)), make("small", {}, since)),
    );
  });
  byId("steps").replaceChildren(...items);
}

function draw() {
  card.hidden = order === null;
  if (order === null) return;
  setData(card, "status", order.status);
  setData(card, "id", order.order_id);
  setText(byId("order-status"), t(`status.${order.status}.short`));
  setText(byId("order-sentence"), statusSentence());
  setText(byId("order-id"), order.order_id);
  const amount = typeof order.amount_cents === "number" ? price(order.amount_cents, currency) : "–";
  setText(byId("order-amount"), t("order.amount", { n: order.quantity, amount }));
  const payable = order.status === "committed" && order.pay_by !== null;
  byId("pay-form").hidden = !payable;
  byId("card-field").hidden = byId("way").value !== "card";
  setText(byId("pay"), t("pay", { amount }));
  byId("cancel-order").hidden = !payable;
  byId("refund").hidden = order.status !== "paid";
  // aria-disabled keeps the focus where it is, for those who use the keyboard.
  for (const id of ["pay", "cancel-order", "refund"]) byId(id).setAttribute("aria-disabled", String(busy));
  byId("order-problem").hidden = problem === null;
  setText(byId("order-problem"), problem ? sentence(problem) : "");
  drawSteps();
  tickOrder();
}

/** What changes with the time alone. */
export function tickOrder() {
  if (order === null) return;
  const left = order.pay_by ? Date.parse(order.pay_by) - serverNow() : null;
  byId("pay-left").hidden = left === null;
  if (left !== null) setText(byId("pay-left"), t("pay.left", { time: waiting(left) }));
  byId("order-again").hidden = again === null;
  if (again) setText(byId("order-again"), t("again", { why: sentence(again.why), time: waiting(again.until - performance.now()) }));
}

setUp();
