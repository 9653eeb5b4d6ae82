// The table of each chart: the time that is shown, second by second. It is filled only while it is open.

import { make } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./i18n.js";
import { TABLES } from "./panels.js";
import { bySecond } from "./store.js";

const MOST_ROWS = 300;
const open = new Set();

function fill(details, view) {
  const columns = TABLES[details.dataset.table];
  const head = make("tr", {}, make("th", { scope: "col" }, t("time")));
  for (const { key, label } of columns) head.append(make("th", { scope: "col" }, label ?? t(key)));
  const body = make("tbody");
  for (const value of bySecond(view, MOST_ROWS)) {
    const row = make("tr", {}, make("th", { scope: "row" }, clock(value("t"))));
    for (const { name, format } of columns) row.append(make("td", {}, format(value(name))));
    body.append(row);
  }
  details.querySelector("table").replaceChildren(make("thead", {}, head), body);
}

/** Fills every open table once a second. `views` gives the view of a chart by its name, or null while there is none. */
export function startTables(views) {
  const refill = (details) => {
    const view = views(details.dataset.table);
    if (view) fill(details, view);
  };
  for (const details of document.querySelectorAll("details[data-table]")) {
    const { table } = details.dataset;
    // Named after its chart, so that the tables can be told apart in a list of the page's regions.
    details.closest("figure").querySelector("h2").id = `title-${table}`;
    details.querySelector("summary").id = `unfold-${table}`;
    const labels = `title-${table} unfold-${table}`;
    const box = make("div", { class: "wide seconds", tabindex: "0", role: "region", "aria-labelledby": labels }, make("table"));
    details.append(box);
    details.addEventListener("toggle", () => {
      if (details.open) {
        open.add(details);
        refill(details);
      } else {
        open.delete(details);
        details.querySelector("table").replaceChildren();
      }
    });
  }
  setInterval(() => {
    if (document.hidden) return;
    for (const details of open) refill(details);
  }, 1000);
}
