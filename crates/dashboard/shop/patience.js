// Waiting: between two tries of a call, and for the events of a stream. What waits can be cancelled, and says until when it waits.

import { events, Problem } from "./api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;

/** Resolves after so long; throws when it is cancelled. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const cancel = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", cancel);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", cancel);
  });
}

/** As long as the server says, or longer from time to time; never the same for everyone, so that a crowd comes back spread out. */
const pauseAfter = (retryAfter, pause) => (retryAfter === null ? pause : retryAfter * 1000) + Math.random() * 1000;

/**
 * Makes a call again and again until it succeeds or is refused for good, or `tries` are over. `waits(problem, until)` is told before
 * each pause, with the moment of the next try by `performance.now()`.
 */
export async function patiently(action, waits, signal, tries = Infinity) {
  for (let pause = FIRST_PAUSE_MS, nth = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS), nth++) {
    signal?.throwIfAborted();
    try {
      return await action();
    } catch (problem) {
      if (!(problem instanceof Problem) || !problem.passes || nth >= tries) throw problem;
      const wait = pauseAfter(problem.retryAfter, pause);
      waits(problem, performance.now() + wait);
      await sleep(wait, signal);
    }
  }
}

/** Reads a stream, and opens it again when it ends, until `take(data)` answers true. */
export async function follow(path, take, signal) {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    let retryAfter = null;
    try {
      for await (const { data } of events(path, signal)) {
        pause = FIRST_PAUSE_MS;
        if (take(data)) return;
      }
    } catch (problem) {
      if (!(problem instanceof Problem) || !problem.passes) throw problem;
      retryAfter = problem.retryAfter;
    }
    await sleep(pauseAfter(retryAfter, pause), signal);
  }
}
