// What does not work: the stations of the path in red with their reasons, and a banner for each trouble.

import { byId, make, setData, setText } from "./dom.js";
import { count, wholeSeconds } from "./format.js";
import { knows, t } from "./i18n.js";

/** The station of each part of the back end. */
const STATIONS = { gate: "gate", queue: "queue", ledger: "database" };

const isWorker = ({ roles }) => roles.includes("worker");

/** The parts that cannot be used, as far as one of the processes knows, as [name, reason]. */
function down(processes) {
  const found = new Map();
  for (const { readiness } of processes) {
    for (const [name, reason] of Object.entries(readiness?.down ?? {})) if (!found.has(name)) found.set(name, reason);
  }
  return [...found];
}

/** Every trouble, as { station, level, text, banner }; `text` is for the station, `banner` for above. */
function troubles({ processes = [], settings, sale, cut_off: cutOff }, now) {
  const all = [];
  const add = (key, level, station, text, banner = text) => all.push({ key, level, station, text, banner });
  const servers = down(processes);
  for (const [name, reason] of servers) {
    const server = knows(`server.${name}`) ? t(`server.${name}`) : name;
    add(`down ${name}`, "bad", STATIONS[name], t("trouble.down", { reason }), t("banner.down", { server, reason }));
  }
  if (cutOff) add("cut off", "bad", null, "", t("banner.cut_off"));
  const workers = processes.filter(isWorker);
  // While no process is heard, nobody knows whether a worker is there.
  if (workers.length === 0 && processes.length > 0 && !cutOff) add("no worker", "bad", "worker", t("trouble.no_worker"), t("banner.no_worker"));
  if (workers.length > 0 && workers.every(({ drain_rate }) => drain_rate === "paused")) {
    add("workers paused", "bad", "worker", t("trouble.workers_paused"), t("banner.workers_paused"));
  }
  if (sale?.paused) add("sale paused", "bad", "gate", t("trouble.sale_paused"), t("banner.sale_paused"));
  if (sale?.state === "rebuilding") add("rebuilding", "bad", "gate", t("trouble.rebuilding"), t("banner.rebuilding"));
  const gateways = processes.filter(({ roles }) => roles.includes("gateway"));
  const draining = gateways.filter(({ readiness }) => readiness?.status === "draining");
  if (draining.length > 0) add("draining", "warn", "buyers", t("trouble.draining"), t("banner.draining", { name: draining[0].name }));
  for (const [name, fault] of Object.entries(settings?.faults ?? {})) {
    if (!fault) continue;
    const words = { fault: knows(`fault.${name}`) ? t(`fault.${name}`) : name, time: wholeSeconds(fault.until - now) };
    add(`fault ${name}`, "warn", null, "", t("banner.fault", words));
  }
  return all;
}

function showStation(name, trouble) {
  const box = byId(`stage-${name}`);
  setData(box, "health", trouble?.level ?? "ok");
  const line = box.querySelector(".why");
  line.hidden = !trouble;
  setText(line, trouble ? trouble.text : "");
}

function showBanners(all) {
  const list = byId("banners");
  list.hidden = all.length === 0;
  const keys = all.map(({ key }) => key).join("|");
  if (list.dataset.keys !== keys) {
    list.dataset.keys = keys;
    list.replaceChildren(...all.map(({ key, level }) => make("li", { "data-trouble": key, "data-level": level })));
  }
  all.forEach(({ banner }, at) => setText(list.children[at], banner));
}

/** The stations and the banners. */
export function showHealth(frame, now) {
  const all = troubles(frame, now);
  for (const station of ["buyers", "gate", "queue", "worker", "database"]) {
    showStation(station, all.find((trouble) => trouble.station === station));
  }
  showBanners(all);
}

/** What a process says of itself, for the list of processes; "" while it is well. */
export function readinessWords({ readiness }) {
  if (!readiness || readiness.status === "ready") return "";
  const parts = Object.keys(readiness.down).map((name) => (knows(`server.${name}`) ? t(`server.${name}`) : name));
  const why = [...parts, ...(readiness.sales ? [t("trouble.sales")] : [])].join(t("and"));
  return t(`readiness.${readiness.status}`, { why, why_count: count(parts.length) });
}
