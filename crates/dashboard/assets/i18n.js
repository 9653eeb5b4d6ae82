// The languages of the page: the chosen one, and the text for a key. The texts are in en.js and zh.js. The shop has this file, too, with
// texts of its own.

import en from "./en.js";
import zh from "./zh.js";
import { remember } from "./dom.js";

const dictionaries = { en, zh };
const tags = { en: "en", zh: "zh-CN" };
const listeners = new Set();
let language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";

/** The chosen language, "en" or "zh". */
export const currentLanguage = () => language;

/** Its BCP 47 tag, for Intl. */
export const languageTag = () => tags[language];

/** Whether the chosen language has a text for this key. A code of a newer gateway may have none. */
export const knows = (key) => key in dictionaries[language];

/**
 * The text for a key. `{name}` is replaced from `args`; `{n:order|orders}` depends on whether n is 1.
 */
export function t(key, args = {}) {
  const text = dictionaries[language][key] ?? dictionaries.en[key] ?? key;
  return text.replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) => {
    const value = args[name] ?? "";
    if (one === undefined) return String(value);
    return Number(args[`${name}_count`] ?? value) === 1 ? one : many;
  });
}

const attributes = { i18n: null, i18nLabel: "aria-label", i18nTitle: "title", i18nPlaceholder: "placeholder" };

/** Fills every element that names a key in data-i18n, data-i18n-label, data-i18n-title or data-i18n-placeholder. */
export function translate(root = document) {
  const selector = "[data-i18n],[data-i18n-label],[data-i18n-title],[data-i18n-placeholder]";
  for (const element of root.querySelectorAll(selector)) {
    for (const [name, attribute] of Object.entries(attributes)) {
      const key = element.dataset[name];
      if (key === undefined) continue;
      if (attribute) element.setAttribute(attribute, t(key));
      else element.textContent = t(key);
    }
  }
}

/** Calls back after every change of language. */
export const onLanguage = (listener) => listeners.add(listener);

/** Changes the language of the whole page and stores the choice. */
export function setLanguage(chosen) {
  language = chosen in dictionaries ? chosen : "en";
  document.documentElement.lang = tags[language];
  remember("language", language);
  translate();
  for (const listener of listeners) listener();
}
