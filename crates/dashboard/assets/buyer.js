// The way to the shop of the sale that is shown, to be a buyer in the middle of the crowd.

import { byId } from "./dom.js";

/** Leads to this sale; without one to the shop, which finds the newest. */
export function showBuyer(sale) {
  const address = sale ? `shop?sale=${sale.id}` : "shop";
  const link = byId("be-a-buyer");
  if (link.getAttribute("href") !== address) link.setAttribute("href", address);
}
