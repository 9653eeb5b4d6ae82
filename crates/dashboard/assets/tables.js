// The table of each chart: the last minute, second by second. It is filled only while it is open.

import { make } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";
import { TABLES } from "./panels.js";

const SECONDS = 60;
const open = new Set();

function fill(details, series) {
  const columns = TABLES[details.dataset.table];
  const head = make("tr", {}, make("th", { scope: "col" }, t("time")));
  for (const { key, label } of columns) head.append(make("th", { scope: "col" }, label ?? t(key)));
  const body = make("tbody");
  for (const value of series.bySecond(SECONDS)) {
    const row = make("tr", {}, make("th", { scope: "row" }, clock(value("t"))));
    for (const { name, format } of columns) row.append(make("td", {}, format(value(name))));
    body.append(row);
  }
  details.querySelector("table").replaceChildren(make("thead", {}, head), body);
}

/** Fills every open table once a second. */
export function startTables(series) {
  for (const details of document.querySelectorAll("details[data-table]")) {
    const box = make("div", { class: "wide seconds", tabindex: "0", role: "region", "data-i18n-label": "table" }, make("table"));
    details.append(box);
    details.addEventListener("toggle", () => {
      if (details.open) {
        open.add(details);
        fill(details, series);
      } else {
        open.delete(details);
        details.querySelector("table").replaceChildren();
      }
    });
  }
  setInterval(() => {
    if (document.hidden) return;
    for (const details of open) fill(details, series);
  }, 1000);
}
