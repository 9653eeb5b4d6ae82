// The common parts of all controls: a call that may be refused, and reading a field.

import { Refusal } from "./api.js";
import { byId, setText } from "./dom.js";
import { count } from "./format.js";
import { t } from "./i18n.js";

/** Shows the error beside a control, or removes it. */
function showError(box, refusal) {
  const line = box.querySelector(".error");
  line.hidden = !refusal;
  setText(line, refusal ? refusal.message : "");
  if (refusal?.status === 401 || refusal?.status === 403) {
    byId("token-card").hidden = false;
    byId("token").focus();
  }
}

/** Makes a call that the gateway may refuse, and shows its error in `box`. Returns whether it succeeded. */
export async function attempt(box, action) {
  try {
    const answer = await action();
    showError(box, null);
    return answer ?? true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    showError(box, error);
    return false;
  }
}

/** The number in a field, or undefined if it is empty; throws a Refusal that names the field. */
export function numberOf(id) {
  const field = byId(id);
  const text = field.value.trim();
  if (text === "" && !field.validity.badInput) return undefined;
  const { min, max } = field;
  if (!field.validity.valid) {
    const name = field.closest("label").querySelector("span").textContent;
    field.focus();
    throw new Refusal(0, t(max ? "error.range" : "error.number", { field: `“${name}”`, min: count(Number(min)), max: count(Number(max)) }));
  }
  return Number(text);
}
