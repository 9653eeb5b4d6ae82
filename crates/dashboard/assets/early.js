// Sets theme and language before the first paint. A module would run after it, and the page would flicker.
"use strict";
(() => {
  const read = (name) => {
    try {
      return localStorage.getItem(`seckill.${name}`);
    } catch {
      return null; // storage is off: there is no stored choice
    }
  };
  const theme = read("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const preferred = (navigator.languages ?? [navigator.language]).find((language) => /^(zh|en)/i.test(language));
  const language = read("language") ?? (/^zh/i.test(preferred ?? "") ? "zh" : "en");
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
})();
