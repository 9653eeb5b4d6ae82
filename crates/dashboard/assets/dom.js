// Small helpers for elements. Text always goes through textContent, so nothing that a server sends is ever markup.

/** The element with this id; the page is served with all of them. */
export const byId = (id) => document.getElementById(id);

/** Sets text only where it differs: four times a second most of it does not. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a data attribute only where it differs. */
export function setData(element, name, value) {
  const text = String(value);
  if (element.dataset[name] !== text) element.dataset[name] = text;
}

/** A number for people in the text, and the bare one in data-value. */
export function setNumber(element, value, text) {
  setText(element, text);
  setData(element, "value", value ?? "");
}

/** A new element: make("li", { class: "x" }, "text", child). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Reads a remembered choice; storage may be off, and then nothing is remembered. */
export function recall(name, storage = "localStorage") {
  try {
    return window[storage].getItem(`seckill.${name}`);
  } catch {
    return null;
  }
}

/** Remembers a choice, or forgets it when it is null. */
export function remember(name, value, storage = "localStorage") {
  try {
    if (value === null) window[storage].removeItem(`seckill.${name}`);
    else window[storage].setItem(`seckill.${name}`, value);
  } catch {
    // Storage is off: the choice holds until the page is left.
  }
}

/** Says something once to screen readers; never called at the pace of the feed. */
export function announce(text) {
  setText(byId("announcer"), text);
}
