// The way to an order: a buyer, the waiting room, a ticket with its proof of work, and the order itself. Each where the sale wants it.

import { call, Problem, serverNow, token } from "./api.js";
import { recall, remember } from "./dom.js";
import { follow, patiently } from "./patience.js";

/** How often a ticket or a place that is refused is asked for anew, before the buyer is told. */
const TRIES = 3;
/** A ticket that ends sooner is not worth sending. */
const LEAST_TICKET_MS = 2000;

/**
 * Buys, and answers the order as the gateway placed it, whether it is a new one, and when the request was `sent` and `answered` by
 * `performance.now()`. `show({ step, … })` is told of each step: `buyer`, `room` with the place, `proof`
 * with the numbers tried, `ticket`, `order`, and `again` with the problem and the moment of the next try.
 */
export async function buy(sale, quantity, show, signal) {
  if (!token.get()) {
    show({ step: "buyer" });
    await becomeBuyer(signal);
  }
  const waits = (problem, until) => show({ step: "again", problem, until });
  for (let tries = 1; ; tries++) {
    try {
      if (sale.waiting_room && !keptTicket(sale)) await beAdmitted(sale, show, waits, signal);
      const headers = sale.require_ticket ? { "Seckill-Ticket": await ticket(sale, show, waits, signal) } : {};
      show({ step: "order" });
      let sent;
      const order = () => {
        sent = performance.now();
        return call("POST", `sales/${sale.id}/orders`, { body: { quantity }, headers, signal });
      };
      const { status, json } = await patiently(order, waits, signal);
      return { order: json, isNew: status === 202, sent, answered: performance.now() };
    } catch (problem) {
      const again = ["ticket-invalid", "ticket-required", "not-admitted", "proof-invalid", "proof-required"].includes(problem.kind);
      if (!again || tries === TRIES) throw problem;
      forgetTicket(sale);
    }
  }
}

/** Becomes a new buyer of a demonstration. Elsewhere tokens come from the shop's own login: a Problem `no-token`. */
async function becomeBuyer(signal) {
  let made;
  try {
    made = await call("POST", "control/buyer", { body: {}, signal });
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.passes) throw problem;
    throw new Problem("no-token");
  }
  token.set(made.json.token);
}

/** Enters the waiting room, and waits until this buyer is admitted. */
async function beAdmitted(sale, show, waits, signal) {
  for (let tries = 1; ; tries++) {
    const enter = () => call("POST", `sales/${sale.id}/waiting-room`, { body: {}, signal });
    let place = (await patiently(enter, waits, signal)).json;
    show({ step: "room", place });
    try {
      if (place.state === "waiting") {
        await follow(`sales/${sale.id}/waiting-room/events`, (next) => {
          place = next;
          show({ step: "room", place });
          return place.state !== "waiting";
        }, signal);
      }
      if (place.state === "admitted") return;
      throw new Problem("turn-passed");
    } catch (problem) {
      // A room that was lost with its store is a new one, and wants its buyers to enter again.
      if (problem.kind !== "not-admitted" || tries === TRIES) throw problem;
    }
  }
}

const ticketKey = (sale) => `shop.ticket.${sale.id}`;

/** A ticket that was fetched before and is still good. */
function keptTicket(sale) {
  try {
    const kept = JSON.parse(recall(ticketKey(sale), "sessionStorage"));
    return kept && Date.parse(kept.expires_at) - serverNow() > LEAST_TICKET_MS ? kept.ticket : null;
  } catch {
    return null;
  }
}

/** For a buyer who is another one now, or a ticket that was refused. */
export const forgetTicket = (sale) => remember(ticketKey(sale), null, "sessionStorage");

async function ticket(sale, show, waits, signal) {
  const kept = keptTicket(sale);
  if (kept) return kept;
  const body = {};
  if (sale.proof_of_work) {
    show({ step: "proof", tried: 0, of: 0 });
    const challenge = await patiently(() => call("GET", `sales/${sale.id}/challenge`, { signal }), waits, signal);
    body.altcha = await prove(challenge.json, (tried) => show({ step: "proof", tried, of: challenge.json.maxnumber }), signal);
  }
  show({ step: "ticket" });
  const handed = await patiently(() => call("POST", `sales/${sale.id}/ticket`, { body, signal }), waits, signal);
  remember(ticketKey(sale), JSON.stringify(handed.json), "sessionStorage");
  return handed.json.ticket;
}

/** Solves a challenge in a thread of its own, so that the page stays alive. */
function prove(challenge, progress, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const worker = new Worker(new URL("./proof-worker.js", import.meta.url));
    const end = (settle, value) => {
      worker.terminate();
      signal.removeEventListener("abort", cancel);
      settle(value);
    };
    const cancel = () => end(reject, signal.reason);
    signal.addEventListener("abort", cancel);
    worker.addEventListener("error", () => end(reject, new Problem("no-worker-thread")));
    worker.addEventListener("message", ({ data }) => {
      if (typeof data?.tried === "number") progress(data.tried);
      else if (data === null) end(reject, new Problem("proof-invalid"));
      else end(resolve, data);
    });
    worker.postMessage({ ...challenge, progress: true });
  });
}
