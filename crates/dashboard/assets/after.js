// After the order: how many orders were paid, cancelled and refunded, and the events that wait.

import { byId, make, setData, setNumber, setText } from "./dom.js";
import { count, duration } from "./format.js";
import { t } from "./i18n.js";
import { hasRefunds, showRefunds } from "./refunds.js";

const STEPS = ["accepted", "committed", "paid", "expired", "cancelled", "refunded"];
const COME_LATER = STEPS.slice(2);

/** Whether anything here is of interest: the sale's orders are to be paid, or some were, or events wait. */
function isOfInterest({ sale, totals, after, refunds }) {
  const events = after ? [after.outbox_pending, after.outbox_parked, ...after.subscribers.flatMap((each) => [each.waiting_events, each.parked_events])] : [];
  return typeof sale?.payment_window_ms === "number" || hasRefunds(refunds) || [...COME_LATER.map((step) => totals?.[step]), ...events].some((n) => n > 0);
}

const newStep = (step) =>
  make("li", { "data-step": step }, make("b"), make("small", { "data-i18n": `after.${step}` }, t(`after.${step}`)), make("span", { class: "level", "aria-hidden": "true" }, make("i")));

function showFunnel(totals) {
  const list = byId("funnel");
  if (list.children.length === 0) list.append(...STEPS.map(newStep));
  for (const item of list.children) {
    const orders = totals?.[item.dataset.step];
    setNumber(item.querySelector("b"), orders, count(orders));
    item.querySelector("i").style.width = `${Math.round(Math.min(1, orders / totals?.accepted || 0) * 100)}%`;
  }
}

const parkedWords = (events) => (events > 0 ? t("after.parked", { n: count(events), n_count: events }) : "");

function showOutbox(after) {
  const box = byId("outbox");
  const pending = after?.outbox_pending ?? null;
  setData(box, "value", pending ?? "");
  setData(box, "age", after?.outbox_age_seconds ?? "");
  const words = { n: count(pending), n_count: pending, age: duration(after?.outbox_age_seconds) };
  setText(box.querySelector(".words"), after ? t(pending > 0 ? "after.outbox" : "after.outbox.empty", words) : t("after.unknown"));
  showParked(box.querySelector(".parked"), after?.outbox_parked ?? 0);
}

function showParked(chip, events) {
  chip.hidden = !(events > 0);
  setNumber(chip, events, parkedWords(events));
}

const newSubscriber = (name) =>
  make("li", { "data-subscriber": name }, make("span", {}, name), make("b"), make("span", { class: "chip warn parked" }));

function showSubscribers(subscribers) {
  const list = byId("subscribers");
  const names = subscribers.map(({ name }) => name).join(" ");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...subscribers.map(({ name }) => newSubscriber(name)));
  }
  subscribers.forEach(({ waiting_events, parked_events }, at) => {
    setNumber(list.children[at].querySelector("b"), waiting_events, count(waiting_events));
    showParked(list.children[at].querySelector(".parked"), parked_events);
  });
}

function showRepeated(events) {
  const line = byId("repeated");
  line.hidden = !(events > 0);
  setNumber(line, events, t("after.repeated", { n: count(events), n_count: events }));
}

/** The whole section; hidden where there is nothing to show. */
export function showAfter(frame) {
  const box = byId("after");
  box.hidden = !isOfInterest(frame);
  if (box.hidden) return;
  showFunnel(frame.totals);
  showOutbox(frame.after);
  showSubscribers(frame.after?.subscribers ?? []);
  showRepeated(frame.totals?.repeated_events);
  showRefunds(frame.refunds, frame.totals?.refunds_denied ?? 0);
}
