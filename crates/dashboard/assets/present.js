// Presentation mode: one sentence, the chart and the four invariants, large enough for a projector. A key, a button, or #present.

import { byId, setText } from "./dom.js";
import { count, percent } from "./format.js";
import { t } from "./i18n.js";

const HASH = "#present";

const isOn = () => location.hash === HASH;

/** Whether a key is meant for what has the focus, and not for the page. */
const isTyped = ({ target, ctrlKey, metaKey, altKey }) => ctrlKey || metaKey || altKey || target.closest?.("input, select, textarea, pre");

/** `changed` is called when the mode begins or ends, because the chart has another size then. */
export function setUpPresentation(changed) {
  const toggle = (on) => {
    // Neither an entry in the history, nor a jump to an element of that name.
    history.replaceState(null, "", on ? HASH : location.pathname + location.search);
    apply();
  };
  const apply = () => {
    document.body.dataset.present = isOn() ? "yes" : "no";
    byId("present").setAttribute("aria-pressed", String(isOn()));
    changed();
  };
  byId("present").addEventListener("click", () => toggle(!isOn()));
  addEventListener("hashchange", apply);
  addEventListener("keydown", (event) => {
    if (isTyped(event)) return;
    if (event.key === "p") toggle(!isOn());
    else if (event.key === "Escape" && isOn()) toggle(false);
  });
  apply();
}

/** The one sentence, of the peaks in the window. */
export function showHeadline({ arrivals, writes, share }, answered) {
  const numbers = { arrivals: count(arrivals), writes: count(writes), share: percent(share) };
  const quiet = answered > 0 ? t("headline.answered", { n: count(answered), n_count: answered }) : t("headline.quiet");
  setText(byId("headline"), arrivals > 0 || writes > 0 ? t(share === null ? "headline.unshaved" : "headline", numbers) : quiet);
}
