// Formats numbers and times for people, in the chosen language.

import { languageTag, t } from "./i18n.js";

const NONE = "–";
const formats = new Map();

function numberFormat(digits) {
  const key = `${languageTag()} ${digits}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.NumberFormat(languageTag(), { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  return formats.get(key);
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 12345 → 12,345; – for null. */
export const count = (value) => (known(value) ? numberFormat(0).format(value) : NONE);

/** 99900 hundredths → 999.00. */
export const hundredths = (value) => (known(value) ? numberFormat(2).format(value / 100) : NONE);

/** 2000 → 2,000/s. */
export const rate = (value) => (known(value) ? t("per_second", { n: count(value) }) : NONE);

/** 312 → +312/s: a rate of change, with its sign. */
export function change(value) {
  if (!known(value)) return NONE;
  const rounded = Math.round(value);
  const sign = rounded > 0 ? "+" : rounded < 0 ? "−" : "±";
  return t("per_second", { n: sign + count(Math.abs(rounded)) });
}

/** Milliseconds, with three digits: 4.21 ms, 312 ms, 3.22 s. */
export function milliseconds(value) {
  if (!known(value)) return NONE;
  if (value >= 1000) return t("seconds", { n: numberFormat(value >= 10000 ? 1 : 2).format(value / 1000) });
  return t("milliseconds", { n: numberFormat(value >= 100 ? 0 : value >= 10 ? 1 : 2).format(value) });
}

/** An age or a length in seconds: 0.3 s, 12 s, 4 min, 2 h. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const whole = Math.max(0, seconds);
  if (whole < 10) return t("seconds", { n: numberFormat(1).format(whole) });
  if (whole < 120) return t("seconds", { n: count(Math.floor(whole)) });
  if (whole < 7200) return t("minutes", { n: count(Math.floor(whole / 60)) });
  return t("hours", { n: count(Math.floor(whole / 3600)) });
}

/** Whole seconds, for countdowns and checks. */
export const wholeSeconds = (seconds) => t("seconds", { n: count(Math.max(0, Math.round(seconds))) });

/** 0.742 → 74 %. */
export const percent = (share) => (known(share) ? t("percent", { n: count(share * 100) }) : NONE);

/** Unix seconds → the local time of day. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(languageTag(), { hour12: false });
}

/** A drain rate as workers and settings have it: "2000", "auto", "unlimited", "paused". */
export function drainRate(value) {
  if (value === null || value === undefined) return NONE;
  return ["auto", "unlimited", "paused"].includes(value) ? t(`drain.${value}`) : rate(Number(value));
}
