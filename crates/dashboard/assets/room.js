// The waiting room of the sale: the document that every buyer sees, read once a second.

import { byId, setData, setNumber, setText } from "./dom.js";
import { count, duration } from "./format.js";
import { t } from "./i18n.js";

const EVERY_MS = 1000;

let sale = null;
let room = null;
/** Whether the gateway has said that there is nothing more to read of this sale. */
let over = false;

/** Reads the document of the sale that is shown; what a slow answer says of an earlier sale is dropped. */
async function read() {
  const of = sale;
  if (of === null || over || document.hidden) return;
  const url = new URL(`api/v1/sales/${of}/waiting-room`, document.baseURI);
  const answer = await fetch(url, { signal: AbortSignal.timeout(5 * EVERY_MS) }).catch(() => null);
  const read = answer?.ok ? await answer.json().catch(() => null) : null;
  if (of !== sale) return;
  room = read;
  over = answer !== null && answer.status >= 400 && answer.status < 500;
}

setInterval(read, EVERY_MS);

/** The section; hidden where the sale has no room, or nothing is known of it. */
export function showRoom(shown) {
  const of = shown?.has_waiting_room ? shown.id : null;
  if (of !== sale) {
    [sale, room, over] = [of, null, false];
    read();
  }
  const box = byId("room");
  box.hidden = room === null;
  if (room === null) return;
  setData(box, "state", room.state);
  setText(box.querySelector(".state"), t(`room.${room.state}`));
  for (const name of ["waiting", "admitted", "arrivals"]) {
    setNumber(box.querySelector(`[data-count=${name}]`), room[name], count(room[name]));
  }
  const words = { rate: count(room.rate_per_second), wait: duration(room.estimated_wait_seconds) };
  const known = room.estimated_wait_seconds !== null && room.waiting > 0;
  setText(box.querySelector(".words"), t(known ? "room.wait" : "room.rate", words));
  box.querySelector(".level i").style.width = `${Math.round((room.admitted / room.arrivals || 0) * 100)}%`;
}
