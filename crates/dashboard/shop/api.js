// The gateway's HTTP API, called as any client would call it: JSON, a buyer's token, and refusals as problems (RFC 9457). Also the
// server's clock, which counts for the start of a sale.

import { recall, remember } from "./dom.js";

const BASE = new URL("api/v1/", document.baseURI);
// A gateway answers an order within about 20 s.
const TIMEOUT_MS = 30000;
// An event of a stream is far shorter.
const MAX_EVENT = 64 * 1024;

/** What may be sent again after a while without any harm: every call of a buyer has its effect once. */
const PASSING = new Set([
  "network", "body-too-slow", "rate-limited", "overloaded", "unavailable", "rebuilding", "paused", "outcome-unknown", "change-unknown",
  "request-under-way", "payment-under-way", "room-full",
]);
// Before a start only a short wait is worth sitting out: the page shows the longer ones as a countdown.
const EARLY = new Set(["not-open", "tickets-later", "room-opens-later"]);
const SHORT_SECONDS = 10;

/** A refusal, or no answer at all. `kind` is the last part of the problem's `type`. */
export class Problem extends Error {
  constructor(kind, { status = 0, detail = "", retryAfter = null, fields = {} } = {}) {
    super(detail || kind);
    Object.assign(this, { kind, status, detail, retryAfter, fields });
  }

  /** Whether the same request may succeed a little later. */
  get passes() {
    if (EARLY.has(this.kind)) return this.retryAfter !== null && this.retryAfter <= SHORT_SECONDS;
    return PASSING.has(this.kind) || this.status === 429 || this.status >= 500;
  }
}

/** The buyer's token. It is kept for this tab only, and sent to this gateway only. */
export const token = {
  get: () => recall("shop.token", "sessionStorage") ?? "",
  set: (value) => remember("shop.token", value || null, "sessionStorage"),
};

// The server's clock minus that of `performance`. Each answer names a moment that has passed at the server, so the largest
// difference is the nearest one. The device's own clock may be wrong, and is not asked.
let ahead = -Infinity;

function hear(moment) {
  if (Number.isFinite(moment)) ahead = Math.max(ahead, moment - performance.now());
}

/** What is known of the server's clock at the least: to be added to a moment of `performance.now()`. */
export const clockAhead = () => ahead;

/** The time at the server in milliseconds since 1970. */
export const serverNow = () => performance.now() + (Number.isFinite(ahead) ? ahead : performance.timeOrigin);

async function send(method, path, { body, headers = {}, signal, open = false, anonymous = false } = {}) {
  const sent = { ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (!anonymous && token.get()) sent.Authorization = `Bearer ${token.get()}`;
  const limits = [signal, open ? null : AbortSignal.timeout(TIMEOUT_MS)].filter(Boolean);
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.any(limits),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem("network");
  }
  hear(Date.parse(response.headers.get("Date") ?? ""));
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const fields = (await response.json().catch(() => null)) ?? {};
  const kind = typeof fields.type === "string" ? fields.type.split("/").pop() : "status";
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  const retryAfter = Number.isFinite(seconds) ? seconds : null;
  return new Problem(kind, { status: response.status, detail: fields.detail, retryAfter, fields });
}

/** One call: its status, its JSON, and the seconds of `Retry-After`, if there are any. Throws a Problem. */
export async function call(method, path, options = {}) {
  const response = await send(method, path, options);
  let json;
  try {
    json = await response.json();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    // The answer broke off, or is none of a gateway's.
    throw new Problem("network");
  }
  hear(Date.parse(json?.as_of ?? ""));
  return { status: response.status, json, retryAfter: Number(response.headers.get("Retry-After")) || null };
}

/** The server-sent events of a call, as { name, data }. Read by fetch, since EventSource sends no token. */
export async function* events(path, signal) {
  const response = await send("GET", path, { signal, open: true });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (text + value).split(/\r?\n\r?\n/);
      text = parts.pop();
      if (text.length > MAX_EVENT) throw new Problem("network");
      yield* parts.map(readEvent).filter((event) => event !== null);
    }
  } catch (error) {
    if (signal.aborted || error instanceof Problem) throw error;
    throw new Problem("network");
  } finally {
    // Whoever has heard enough leaves the loop: then the connection is closed.
    reader.cancel().catch(() => {});
  }
}

function readEvent(part) {
  const lines = part.split(/\r?\n/);
  const of = (field) => lines.filter((line) => line.startsWith(`${field}:`)).map((line) => line.slice(field.length + 1).replace(/^ /, ""));
  const data = of("data").join("\n");
  // A comment, which keeps the connection alive.
  if (!data) return null;
  try {
    return { name: of("event")[0] ?? "message", data: JSON.parse(data) };
  } catch {
    throw new Problem("network");
  }
}
