// The choice of theme and language, which both pages have in their header.

import { byId, remember } from "./dom.js";
import { currentLanguage, setLanguage } from "./i18n.js";

/** Fills the two lists and follows them; `restyle` is called after a change of the theme, here or in the system. */
export function setUpChoices(restyle = () => {}) {
  const theme = byId("theme");
  theme.value = document.documentElement.dataset.theme ?? "system";
  theme.addEventListener("change", () => {
    const system = theme.value === "system";
    if (system) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
    remember("theme", system ? null : theme.value);
    restyle();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  const language = byId("language");
  language.value = currentLanguage();
  language.addEventListener("change", () => setLanguage(language.value));
}
