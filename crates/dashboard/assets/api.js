// Calls to the gateway's control API, with the admin token, and its refusals as sentences.

import { recall, remember } from "./dom.js";
import { knows, t } from "./i18n.js";

const BASE = new URL("api/v1/", document.baseURI);
const TIMEOUT_MS = 20000;

/** A refusal or a failure; `message` is for people. `status` is 0 if there was no answer. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The admin token: kept for this tab only. */
export const token = {
  get: () => recall("token", "sessionStorage") ?? "",
  set: (value) => remember("token", value || null, "sessionStorage"),
};

/** The message of a problem (RFC 9457): by its type where this page has a sentence for it, else as the gateway words it. */
function explain(status, problem) {
  const slug = problem?.type?.split("/").at(-1);
  if (status === 401 && token.get()) return t("problem.token_wrong");
  if (knows(`problem.${slug}`)) {
    const fields = (problem.errors ?? []).map(({ field }) => (knows(`field.${field}`) ? t(`field.${field}`) : field));
    return t(`problem.${slug}`, { fields: fields.join(t("comma")), detail: problem.detail });
  }
  return problem?.detail ?? problem?.title ?? t("error.status", { status });
}

/** The JSON of the answer, or null if it has none; throws a Refusal. */
export async function call(method, path, body) {
  const headers = {};
  if (body !== undefined || method !== "GET") headers["Content-Type"] = "application/json";
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Refusal(0, t("error.network"));
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Refusal(response.status, explain(response.status, answer));
  return answer;
}
