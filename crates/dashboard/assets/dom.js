// Small helpers for elements. Text is always set as textContent, so that text from a server is never markup.

/** The element with this id; the page is served with all of them. */
export const byId = (id) => document.getElementById(id);

/** Sets a text only if it differs, because most texts are the same in most frames. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a data attribute only if it differs. */
export function setData(element, name, value) {
  const text = String(value);
  if (element.dataset[name] !== text) element.dataset[name] = text;
}

/** Sets a formatted number as the text, and the plain number as data-value. */
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

/** Reads a stored choice; null if there is none, or if storage is off. */
export function recall(name, storage = "localStorage") {
  try {
    return window[storage].getItem(`seckill.${name}`);
  } catch {
    return null;
  }
}

/** Stores a choice, or removes it if it is null. */
export function remember(name, value, storage = "localStorage") {
  try {
    if (value === null) window[storage].removeItem(`seckill.${name}`);
    else window[storage].setItem(`seckill.${name}`, value);
  } catch {
    // Storage is off: the choice is lost with the page.
  }
}

/** Announces a text to screen readers. Not for texts that change with every frame. */
export function announce(text) {
  setText(byId("announcer"), text);
}
