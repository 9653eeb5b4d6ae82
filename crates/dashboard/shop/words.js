// Numbers, money and times in the buyer's language, and the sentence for a problem.

import { knows, languageTag, t } from "./i18n.js";

export const count = (value) => new Intl.NumberFormat(languageTag()).format(value);

/** Hundredths of a currency. Intl knows how each is written; one that it does not know is written after the number. */
export function price(cents, currency) {
  try {
    return new Intl.NumberFormat(languageTag(), { style: "currency", currency }).format(cents / 100);
  } catch {
    return `${new Intl.NumberFormat(languageTag(), { minimumFractionDigits: 2 }).format(cents / 100)} ${currency}`;
  }
}

/** A time of day with milliseconds, as the steps of an order need it. */
export function clock(moment) {
  const format = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" };
  return new Intl.DateTimeFormat(languageTag(), format).format(moment);
}

/** A day and a time of day, for a start that is far away. */
export const dateTime = (moment) => new Intl.DateTimeFormat(languageTag(), { dateStyle: "medium", timeStyle: "short" }).format(moment);

/** A length of time: 4 ms, 1.24 s, 3 min 5 s. */
export function length(milliseconds) {
  if (milliseconds < 1000) return t("milliseconds", { n: count(Math.round(milliseconds)) });
  if (milliseconds < 60_000) return t("seconds", { n: new Intl.NumberFormat(languageTag(), { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(milliseconds / 1000) });
  return waiting(milliseconds);
}

/** The same in whole seconds, rounded up, and at most two units: how long there is still to wait. */
export function waiting(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const parts = [["days", Math.floor(seconds / 86_400)], ["hours", Math.floor(seconds / 3600) % 24], ["minutes", Math.floor(seconds / 60) % 60], ["seconds", seconds % 60]];
  const from = parts.findIndex(([, n]) => n > 0);
  if (from < 0) return t("seconds", { n: 0 });
  return parts.slice(from, from + 2).filter(([, n]) => n > 0).map(([unit, n]) => t(unit, { n })).join(" ");
}

/** Days, hours, minutes and seconds of a countdown, as two digits each; the days only where there are any. */
export function digits(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const parts = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, "0"));
}

/** What a problem means for the buyer. A kind that this page does not know is told in the gateway's own words. */
export function sentence(problem, args = {}) {
  const key = `problem.${problem.kind}`;
  const words = { detail: problem.detail, status: problem.status, remaining: problem.fields?.remaining, ...args };
  if (problem.kind === "sold-out" && words.remaining > 0) return t("problem.sold-out.some", { n: words.remaining });
  if (knows(key)) return t(key, words);
  return problem.detail || t("problem.status", words);
}
