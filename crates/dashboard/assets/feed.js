// The connection to the gateway's live feed: opens it, keeps it open, and knows the age of the newest frame.

const STALE_SECONDS = 1.5;
// Frames come four times a second. After so long without one, the connection counts as dead.
const DEAD_SECONDS = 10;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 10000;

/** Opens the feed and keeps it open. `handlers`: history, frame, log; each gets the parsed data. */
export class Feed {
  #url;
  #handlers;
  #source = null;
  #pause = FIRST_PAUSE;
  #timer = 0;
  #open = false;
  #openedAt = 0;
  #receivedAt = 0;
  #serverTime = 0;

  constructor(url, handlers) {
    this.#url = url;
    this.#handlers = handlers;
  }

  start() {
    this.stop();
    const source = new EventSource(this.#url);
    this.#source = source;
    const on = (name, handle) => source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    source.addEventListener("open", () => {
      this.#open = true;
      this.#pause = FIRST_PAUSE;
      this.#openedAt = performance.now();
    });
    on("history", this.#handlers.history);
    on("frame", (frame) => {
      this.#receivedAt = performance.now();
      this.#serverTime = frame.row[0];
      this.#handlers.frame(frame);
    });
    on("log", this.#handlers.log);
    source.addEventListener("bye", () => {
      this.#open = false; // the gateway ends the stream; EventSource connects again by itself
    });
    source.addEventListener("error", () => {
      this.#open = false;
      // After an answer that is not a stream (a proxy's 502), EventSource does not connect again.
      if (source.readyState === EventSource.CLOSED) this.#later();
    });
  }

  stop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#open = false;
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.start(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  /** Replaces a connection that counts as dead. Called regularly. */
  check() {
    const silentFor = (performance.now() - Math.max(this.#openedAt, this.#receivedAt)) / 1000;
    if (this.#open && silentFor > DEAD_SECONDS) this.start();
  }

  /** Seconds since the last frame; null before the first. */
  get age() {
    return this.#receivedAt ? (performance.now() - this.#receivedAt) / 1000 : null;
  }

  /** Whether there was a frame yet. */
  get begun() {
    return this.#serverTime > 0;
  }

  /** "live", "stale" or "offline". */
  get state() {
    if (!this.#open || !this.begun) return "offline";
    return this.age > STALE_SECONDS ? "stale" : "live";
  }

  /** The time of the gateway's clock in unix seconds. The clock of this machine may differ. */
  get now() {
    return this.begun ? this.#serverTime + this.age : Date.now() / 1000;
  }
}
