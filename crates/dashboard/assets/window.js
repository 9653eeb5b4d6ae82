// The time that the charts show: the last run by itself, the last minutes, a part that was frozen or zoomed in, or a kept run.

import { byId, recall, remember, setData, setText } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { cut } from "./store.js";

// What is shown before the first run.
const BEFORE_SECONDS = 60;
// A load may take so long from its start to its first order.
const LEAD_SECONDS = 10;
const RUN = "run";

/** Decides what the charts show. `series`: the rows; `changed` is called when something else is to be shown. */
export class Shown {
  #series;
  #changed;
  #choice = RUN;
  /** The last run that has ended, so that it stays when its rows are no longer kept. */
  #held = null;
  /** A view that stands still; null: the charts go on. */
  #frozen = null;
  /** When the newest load was started, or null. */
  #loadStart = null;

  constructor(series, changed) {
    this.#series = series;
    this.#changed = changed;
  }

  /** When the newest load was started, in unix seconds; undefined: there was none. */
  set loadStart(seconds) {
    this.#loadStart = seconds ?? null;
  }

  /** The view, or null before the first row. */
  view() {
    if (!this.#series.ready) return null;
    if (this.#frozen) return this.#frozen;
    return this.#choice === RUN ? this.#run() : this.#series.last(Number(this.#choice));
  }

  #run() {
    const traffic = this.#series.lastTraffic();
    if (!traffic) return this.#held?.view ?? this.#series.last(BEFORE_SECONDS);
    // A run begins with its load, even if the run before has only just ended.
    const start = this.#loadStart;
    const origin = start !== null && start > traffic.from - LEAD_SECONDS && start < traffic.to ? start : traffic.from;
    // The rows of its beginning may be gone already, so the ends are compared.
    if (this.#held?.to === traffic.to && !traffic.goesOn) return this.#held.view;
    const view = this.#series.between(origin, traffic.to, origin);
    this.#held = traffic.goesOn ? null : { to: traffic.to, view: cut(view, origin, traffic.to) };
    return this.#held?.view ?? view;
  }

  get isFrozen() {
    return this.#frozen !== null;
  }

  /** Stops the charts where they are. */
  freeze() {
    const view = this.view();
    if (!view) return;
    this.#show(cut(view, view.latest - view.seconds, view.latest, view.origin ?? view.latest - view.seconds));
  }

  /** Shows a part of what is shown: from so many seconds before its end to so many. */
  zoom(from, to) {
    const view = this.view();
    if (!view) return;
    const origin = view.origin ?? view.latest - view.seconds;
    this.#show(cut(view, view.latest + Math.max(from, -view.seconds), view.latest + Math.min(to, 0), origin));
  }

  /** Back to what goes on. */
  live() {
    this.#show(null);
  }

  #show(view) {
    this.#frozen = view;
    this.#changed();
  }

  /** Adds the event handlers of the switch and the button. */
  setUp() {
    const box = byId("window");
    const name = () => {
      for (const input of box.querySelectorAll("input")) {
        setText(input.nextElementSibling, input.value === RUN ? t("window.run") : t("seconds", { n: input.value }));
      }
      this.#nameButton();
    };
    onLanguage(name);
    const remembered = box.querySelector(`input[value="${recall("window")?.match(/^\w+$/)?.[0]}"]`);
    if (remembered) remembered.checked = true;
    const choose = () => {
      this.#choice = box.querySelector("input:checked").value;
      remember("window", this.#choice);
      this.live();
    };
    box.addEventListener("change", choose);
    byId("freeze").addEventListener("click", () => (this.isFrozen ? this.live() : this.freeze()));
    name();
    choose();
  }

  #nameButton(elsewhere = false) {
    const away = this.isFrozen || elsewhere;
    setText(byId("freeze"), t(away ? "window.live" : "window.freeze"));
    setData(byId("freeze"), "on", away ? "yes" : "no");
  }

  /** Brings the button up to date; `elsewhere`: a kept run is shown. */
  show(elsewhere) {
    this.#nameButton(elsewhere);
  }
}
