// The refunds that have not come to their end: how many, and where the newest ones are on their way.

import { byId, make, setData, setNumber, setText } from "./dom.js";
import { count, duration, hundredths } from "./format.js";
import { t } from "./i18n.js";

const STEPS = ["risk_control", "transfers", "end"];

/** Whether some refund runs or is held. */
export const hasRefunds = (refunds) => refunds?.running > 0 || refunds?.held > 0;

function newRefund(id) {
  const steps = STEPS.map((step) => make("li", { "data-at": step }));
  const held = make("span", { class: "chip warn held", hidden: "" });
  return make("li", { "data-order": id }, make("code", {}, id), make("b"), make("ol", { class: "steps" }, ...steps), held);
}

/** The steps before that of the refund are done. One that is held is at none of them. */
function fillRefund(item, refund) {
  const at = STEPS.indexOf(refund.step);
  setData(item, "step", refund.step);
  setNumber(item.querySelector("b"), refund.amount_cents, hundredths(refund.amount_cents));
  const steps = item.querySelector(".steps");
  steps.hidden = at < 0;
  [...steps.children].forEach((step, number) => {
    setData(step, "state", number < at ? "done" : number === at ? "now" : "later");
    if (number === at) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
    const words = { done: count(refund.transfers_done), all: count(refund.transfers) };
    setText(step, t(`refunds.step.${step.dataset.at}`, words));
  });
  const held = item.querySelector(".held");
  held.hidden = refund.step !== "held";
  setText(held, t("refunds.step.held"));
}

function showNewest(newest) {
  const list = byId("refunds").querySelector(".newest");
  const ids = newest.map((refund) => refund.order_id).join(" ");
  if (list.dataset.ids !== ids) {
    list.dataset.ids = ids;
    list.replaceChildren(...newest.map((refund) => newRefund(refund.order_id)));
  }
  newest.forEach((refund, at) => fillRefund(list.children[at], refund));
}

/** `denied` counts the refunds that a human has denied, since the processes began. */
export function showRefunds(refunds, denied) {
  const box = byId("refunds");
  box.hidden = !hasRefunds(refunds) && !(denied > 0);
  const { running, held, held_age_seconds, newest } = refunds ?? { running: 0, held: 0, newest: [] };
  const words = { running: count(running), denied: count(denied) };
  setText(box.querySelector(".words"), t(denied > 0 ? "refunds.counts.denied" : "refunds.counts", words));
  setData(box, "running", running);
  setData(box, "held", held);
  const chip = box.querySelector(".counts .held");
  chip.hidden = !(held > 0);
  setText(chip, t("refunds.held", { n: count(held), age: duration(held_age_seconds) }));
  showNewest(newest);
  const more = running + held - newest.length;
  const rest = box.querySelector(".rest");
  rest.hidden = !(more > 0);
  setNumber(rest, more, t("refunds.rest", { n: count(more) }));
}
