// Sets theme and language before the first paint: a module would run after it, and the page would flash.
"use strict";
(() => {
  const read = (name) => {
    try {
      return localStorage.getItem(`seckill.${name}`);
    } catch {
      return null; // storage is off; then nothing is remembered
    }
  };
  const theme = read("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const preferred = (navigator.languages ?? [navigator.language]).find((language) => /^(zh|en)/i.test(language));
  const language = read("language") ?? (/^zh/i.test(preferred ?? "") ? "zh" : "en");
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
})();
