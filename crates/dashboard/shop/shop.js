// The shop: one sale, its countdown and its stock, and the button. What happens to the order afterwards is in order.js.

import { call, Problem, serverNow, token } from "./api.js";
import { buy, forgetTicket } from "./buy.js";
import { setUpChoices } from "./choices.js";
import { announce, byId, setData, setText } from "./dom.js";
import { onLanguage, t, translate } from "./i18n.js";
import { drop, holds, onOrder, take, tickOrder } from "./order.js";
import { sleep } from "./patience.js";
import { count, dateTime, digits, length, price, sentence, waiting } from "./words.js";

const LOOK_MS = 2000;
const LOOK_EARLY_MS = 5000;
const TICK_MS = 200;
/** A start that is further away than a day is told by its date as well; an end only once it is less than an hour away. */
const FAR_MS = 86_400_000;
const NEAR_MS = 3_600_000;

let sale = null;
let missing = null;
let work = null;
let step = null;
let problem = null;
let lastPhase = null;

const wanted = new URLSearchParams(location.search).get("sale");

/** The sale of the address, or the newest that is not over and that this gateway sells. */
async function find() {
  if (wanted !== null) {
    if (!/^[1-9]\d{0,19}$/.test(wanted)) throw new Problem("not-found");
    return (await call("GET", `sales/${wanted}`, { anonymous: true })).json;
  }
  const { sales } = (await call("GET", "sales", { anonymous: true })).json;
  const sold = sales.filter(({ mode }) => mode !== "direct");
  const newest = sold.find(({ ends_at }) => Date.parse(ends_at) > serverNow()) ?? sold[0];
  if (!newest) throw new Problem("no-sale");
  return (await call("GET", `sales/${newest.id}`, { anonymous: true })).json;
}

/** Looks at the sale, or for one. */
async function lookOnce() {
  const first = sale === null;
  try {
    sale = first ? await find() : (await call("GET", `sales/${sale.id}`, { anonymous: true })).json;
    missing = null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    missing = error;
  }
  draw();
  if (first && sale) findOrder();
}

/** Looks at the sale again and again, while the page is seen. */
async function look() {
  for (;;) {
    if (!document.hidden || sale === null) await lookOnce();
    // An address without a sale has none later either.
    if (missing?.kind === "not-found") return;
    const pause = sale && phase() === "upcoming" ? LOOK_EARLY_MS : LOOK_MS;
    // Not all pages at the same moment.
    await sleep(pause * (0.8 + Math.random() * 0.4));
  }
}

/** What the sale is at this moment, by the server's clock. */
function phase() {
  const now = serverNow();
  if (sale.state === "closed_out" || now >= Date.parse(sale.ends_at)) return "closed";
  if (now < Date.parse(sale.starts_at)) return "upcoming";
  if (sale.paused) return "paused";
  if (sale.state === "rebuilding") return "rebuilding";
  if (sale.remaining === 0) return "sold_out";
  return "open";
}

/** The moment at which the waiting room opens; null where the sale has none. */
function roomOpens() {
  const room = sale.waiting_room;
  return room ? Date.parse(sale.starts_at) - room.opens_before_ms : null;
}

/** Whether the button does anything now. A waiting room can be entered before the start. */
function canBuy(now) {
  if (holds() || work) return false;
  const opens = roomOpens();
  if (now === "upcoming") return opens !== null && serverNow() >= opens;
  return now === "open" || (now === "sold_out" && opens !== null);
}

function buttonWords(now) {
  if (now === "closed" || now === "paused" || now === "rebuilding") return t(`button.${now}`);
  if (roomOpens() !== null) {
    if (now === "upcoming" && serverNow() < roomOpens()) return t("button.room_later");
    return t(problem?.kind === "turn-passed" ? "button.room_again" : "button.room");
  }
  return t(now === "open" ? "button.open" : `button.${now}`);
}

const quantity = () => Math.min(Math.max(1, Math.round(Number(byId("quantity").value)) || 1), sale.per_user_limit);

async function start() {
  const clicked = performance.now();
  work = new AbortController();
  [step, problem] = [null, null];
  draw();
  byId("cancel-work").focus();
  try {
    const { order, isNew, sent, answered } = await buy(sale, quantity(), showStep, work.signal);
    take(order, sale.currency, isNew ? { clicked, sent, answered } : null);
    lookOnce();
    byId("order-title").focus();
    byId("order").scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (!work.signal.aborted) await failed(error);
  } finally {
    [work, step] = [null, null];
    draw();
    if (document.activeElement === document.body) (holds() ? byId("order-title") : byId("buy")).focus();
  }
}

async function failed(error) {
  problem = error instanceof Problem ? error : new Problem("network");
  // Both tell of an order that the buyer has.
  const id = problem.fields.order_id;
  if (id) await call("GET", `orders/${id}`).then(({ json }) => take(json, sale.currency), () => {});
  if (problem.kind === "no-token" || problem.kind === "unauthenticated") {
    byId("account").open = true;
    byId("token").focus();
  }
}

let spoken = "";

function showStep(next) {
  step = next;
  drawStep();
  // Numbers that change all the time are shown and not spoken.
  const words = step.step === "room" ? stepWords() : step.step === "again" ? sentence(step.problem) : t(`work.${step.step}`);
  if (words === spoken) return;
  announce((spoken = words));
  byId("work").scrollIntoView({ block: "nearest" });
}

/** What the page is doing for the buyer. */
function drawStep() {
  byId("work").hidden = work === null;
  if (!work) return;
  const bar = byId("work-bar");
  const proof = step?.step === "proof";
  bar.hidden = !proof;
  if (proof) bar.value = step.of ? step.tried / step.of : 0;
  setData(byId("work"), "step", step?.step ?? "");
  setText(byId("work-title"), t(`work.${step?.step ?? "order"}`));
  setText(byId("work-words"), stepWords());
  const place = step?.step === "room" ? step.place : null;
  byId("place").hidden = place === null;
  if (!place) return;
  setData(byId("place"), "state", place.state);
  setText(byId("ahead"), place.ahead === null || place.ahead === undefined ? "–" : count(place.ahead));
  setText(byId("wait"), typeof place.estimated_wait_seconds === "number" ? waiting(place.estimated_wait_seconds * 1000) : "–");
  setText(byId("position"), place.position ? count(place.position) : "–");
}

function stepWords() {
  if (!step) return "";
  if (step.step === "again") return t("again", { why: sentence(step.problem), time: waiting(step.until - performance.now()) });
  if (step.step === "room") {
    const key = `room.${step.place.state}.${step.place.room}`;
    return t(["room.waiting.gathering", "room.waiting.paused", "room.waiting.sold_out"].includes(key) ? key : `room.${step.place.state}`);
  }
  return t(`work.${step.step}.words`);
}

function draw() {
  byId("notice").hidden = sale !== null && missing === null;
  const notices = { "not-found": "notice.not_found", "no-sale": "notice.no_sale" };
  setText(byId("notice"), t(missing ? (notices[missing.kind] ?? "notice.away") : "notice.loading"));
  byId("product").hidden = sale === null;
  drawAccount();
  if (!sale) return;
  const now = phase();
  document.title = `${sale.name} · seckill`;
  setText(byId("name"), sale.name);
  setText(byId("product-name"), sale.product === sale.name ? "" : sale.product);
  byId("product-name").hidden = sale.product === sale.name;
  setText(byId("price"), sale.price_cents > 0 ? price(sale.price_cents, sale.currency) : t("free"));
  setData(byId("phase"), "phase", now);
  setText(byId("phase"), t(`phase.${now}`));
  drawStock(now);
  drawForm(now);
  drawStep();
  byId("problem").hidden = problem === null;
  setText(byId("problem"), problem ? sentence(problem) : "");
  tick();
}

function drawStock(now) {
  const left = sale.remaining;
  const words = now === "closed" ? t("stock.closed") : left === null ? t("stock.unknown") : left === 0 ? t("stock.none") : t("stock.left", { n: count(left) });
  setText(byId("left"), words);
  setData(byId("left"), "value", left ?? "");
  setText(byId("stock-total"), t("stock.of", { n: count(sale.stock) }));
  byId("meter").style.width = `${Math.round(((left ?? 0) / sale.stock) * 1000) / 10}%`;
  const conditions = [sale.per_user_limit > 1 ? t("limit", { n: sale.per_user_limit }) : t("limit.one")];
  if (sale.payment_window_ms) conditions.push(t("condition.payment", { time: length(sale.payment_window_ms) }));
  if (sale.waiting_room) conditions.push(t("condition.room"));
  else if (sale.require_ticket) conditions.push(t(sale.proof_of_work ? "condition.proof" : "condition.ticket"));
  setText(byId("conditions"), conditions.join(t("joint")));
}

function drawForm(now) {
  byId("buy-form").hidden = holds() || work !== null;
  setData(byId("product"), "busy", holds() || work ? "yes" : "no");
  const several = sale.per_user_limit > 1;
  byId("amount-field").hidden = !several;
  byId("quantity").max = sale.per_user_limit;
  const able = canBuy(now);
  byId("buy").setAttribute("aria-disabled", String(!able));
  setText(byId("buy"), buttonWords(now));
  byId("comes-back").hidden = now !== "sold_out";
}

function drawAccount() {
  const user = userOf(token.get());
  setText(byId("who"), user ? t("account.user", { user }) : t("account.nobody"));
  setData(byId("account"), "user", user ?? "");
  byId("leave").hidden = user === null;
}

/** The user that a token names. The gateway decides whether it is true. */
function userOf(text) {
  try {
    const [, claims] = text.split(".");
    return String(JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).sub);
  } catch {
    return null;
  }
}

/** What changes with the time alone. */
function tick() {
  if (!sale) return;
  const now = phase();
  if (now !== lastPhase) {
    const first = lastPhase === null;
    lastPhase = now;
    if (!first) {
      announce(t(`said.${now}`));
      return draw();
    }
  }
  const opens = roomOpens();
  const before = now === "upcoming";
  const toRoom = before && opens !== null && serverNow() < opens;
  const until = toRoom ? opens : before ? Date.parse(sale.starts_at) : now === "closed" ? null : Date.parse(sale.ends_at);
  const left = until === null ? null : until - serverNow();
  byId("countdown").hidden = left === null || (!before && left > NEAR_MS);
  if (left !== null) {
    setText(byId("countdown-label"), t(toRoom ? "countdown.room" : before ? "countdown.start" : "countdown.end"));
    const parts = digits(left);
    ["days", "hours", "minutes", "seconds"].forEach((name, at) => setText(byId(`cd-${name}`), parts[at]));
    byId("cd-days").parentElement.hidden = parts[0] === "00";
    setText(byId("countdown-date"), before && left > FAR_MS ? dateTime(until) : "");
    setData(byId("countdown"), "left", Math.ceil(left / 1000));
  }
  const able = String(!canBuy(now));
  if (byId("buy").getAttribute("aria-disabled") !== able) drawForm(now);
  if (step?.step === "again") setText(byId("work-words"), stepWords());
  tickOrder();
}

/** Finds the buyer's order after a reload, or in another tab with the same token. */
async function findOrder() {
  if (!token.get() || !sale) return;
  try {
    const { orders } = (await call("GET", `sales/${sale.id}/orders/mine`)).json;
    const newest = orders.at(-1);
    if (newest) take(newest, sale.currency);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
    draw();
  }
}

function setUpAccount() {
  byId("account-form").addEventListener("submit", (event) => {
    event.preventDefault();
    become(byId("token").value.trim());
  });
  byId("leave").addEventListener("click", () => become(""));
}

function become(text) {
  work?.abort();
  token.set(text);
  byId("token").value = "";
  problem = null;
  if (sale) forgetTicket(sale);
  drop();
  draw();
  if (text) byId("account").open = false;
  announce(byId("who").textContent);
  findOrder();
}

function setUpForm() {
  const field = byId("quantity");
  const by = (more) => () => (field.value = String(Math.min(Math.max(1, quantity() + more), sale.per_user_limit)));
  byId("less").addEventListener("click", by(-1));
  byId("more").addEventListener("click", by(1));
  field.addEventListener("change", by(0));
  byId("buy-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (sale && canBuy(phase())) start();
  });
  byId("cancel-work").addEventListener("click", () => {
    work?.abort();
    announce(t("said.cancelled"));
  });
}

translate();
setUpChoices();
setUpForm();
setUpAccount();
onOrder(draw);
onLanguage(draw);
draw();
setInterval(tick, TICK_MS);
document.addEventListener("visibilitychange", tick);
look();
