// The spike of a flash sale with k6: buyers at a ramping arrival rate, each with another token.
//
//   seckill token --users 200000 > tokens.txt
//   k6 run -e TOKENS="$PWD/tokens.txt" -e SALE=1 loadtest/k6/spike.js
//
// From the environment: TARGET (http://127.0.0.1:8080), SALE (1), TOKENS (tokens.txt, beside this script unless it is a whole
// path), RATE (5000), the buyers a second at the peak. 409 is a right answer: it says that the sale is sold out.

import { check } from "k6";
import exec from "k6/execution";
import { SharedArray } from "k6/data";
import http from "k6/http";
import { Counter } from "k6/metrics";

const TARGET = __ENV.TARGET || "http://127.0.0.1:8080";
const SALE = __ENV.SALE || "1";
const RATE = Number(__ENV.RATE || 5000);

// Read once and shared, so that a million tokens are not held by every virtual user.
const tokens = new SharedArray("tokens", () =>
  open(__ENV.TOKENS || "tokens.txt").split("\n").map((line) => line.trim()).filter((line) => line !== ""));

const outcomes = {
  202: new Counter("orders_accepted"),
  200: new Counter("orders_replayed"),
  409: new Counter("orders_sold_out"),
};
const other = new Counter("orders_other");

// k6 calls every 4xx a failure unless it is told which are not.
http.setResponseCallback(http.expectedStatuses(200, 202, 409));

export const options = {
  scenarios: {
    spike: {
      executor: "ramping-arrival-rate",
      startRate: Math.ceil(RATE / 50),
      timeUnit: "1s",
      stages: [
        { duration: "3s", target: Math.ceil(RATE / 50) },
        { duration: "1s", target: RATE },
        { duration: "5s", target: RATE },
        { duration: "3s", target: 0 },
      ],
      preAllocatedVUs: 500,
      maxVUs: 5000,
    },
  },
  thresholds: {
    checks: ["rate>0.999"],
    // Iterations that could not begin on time: the generator, not the target, was too slow.
    dropped_iterations: ["count==0"],
  },
  summaryTrendStats: ["med", "p(90)", "p(95)", "p(99)", "p(99.9)", "max"],
};

export default function () {
  // Counts over all virtual users, so no two requests have the same token until all have been used.
  const token = tokens[exec.scenario.iterationInTest % tokens.length];
  const response = http.post(`${TARGET}/api/v1/sales/${SALE}/orders`, '{"quantity":1}', {
    headers: { "Authorization": `Bearer ${token}`, "Content-Type": "application/json" },
    tags: { name: "order" },
  });
  (outcomes[response.status] || other).add(1);
  check(response, {
    "accepted, replayed or sold out": (answer) => [202, 200, 409].includes(answer.status),
  });
}
