// The last minutes of the feed, column by column in typed arrays, and the event log. Draws nothing.

// Five minutes have 1,200 rows. When there are twice as many, the older half is removed at once.
const CAPACITY = 2400;
const KEEP = 1200;
const LOG_LIMIT = 200;
// A pause between two rows that is longer than this is drawn as a gap.
const GAP_SECONDS = 2;
// A row that is older than the newest row by more than this means that the gateway's clock was set back.
const CLOCK_STEP_SECONDS = 5;

// After so long without traffic, the next request begins another stretch.
const QUIET_SECONDS = 5;
// What is shown before the first request and after the last write of a stretch.
const LEAD_SECONDS = 1;
const ENDED_SECONDS = 1.5;
// Where one of these is above 0, something goes on.
const BUSY = ["arrivals", "committed", "backlog", "direct_arrivals", "direct_committed"];

/** The number of the first row at `moment` or later; with `after`, of the first row after it. */
function bound(times, length, moment, after) {
  let at = length;
  while (at > 0 && (after ? times[at - 1] > moment : times[at - 1] >= moment)) at -= 1;
  return at;
}

/** A view that keeps its numbers, whatever becomes of the series: the part of `view` from one moment to another. */
export function cut(view, from, to, origin = view.origin) {
  const inside = [...view.ago.keys()].filter((at) => view.ago[at] + view.latest >= from && view.ago[at] + view.latest <= to);
  const pick = (column) => Float64Array.from(inside, (at) => column[at]);
  const columns = new Map(view.names.map((name) => [name, pick(view.column(name))]));
  const ago = pick(view.ago).map((seconds) => seconds + view.latest - to);
  return { ...view, latest: to, seconds: to - from, origin, ago, column: (name) => columns.get(name) ?? new Float64Array(0) };
}

/** Rows by time, as columns. */
export class Series {
  #columns = new Map();
  #length = 0;

  /** Removes all rows, and sets the columns. */
  reset(names) {
    this.#length = 0;
    this.#columns = new Map(names.map((name) => [name, new Float64Array(CAPACITY)]));
  }

  /** Whether the columns are known, which the history names. */
  get ready() {
    return this.#columns.has("t");
  }

  get length() {
    return this.#length;
  }

  /** The time of the newest row in unix seconds, or null. */
  get latest() {
    return this.#length ? this.#columns.get("t")[this.#length - 1] : null;
  }

  /** Adds a row unless there is one of its time. Null becomes NaN, which charts show as a gap. */
  push(row) {
    const time = row[0];
    const latest = this.latest;
    if (latest !== null) {
      if (time < latest - CLOCK_STEP_SECONDS) this.#length = 0;
      else if (time <= latest) return;
      else if (time - latest > GAP_SECONDS || this.#anotherSale(row)) this.#append([latest + 0.01]);
    }
    this.#append(row);
  }

  /** Whether a row is of another sale than the row before, so that there is a gap between their numbers. */
  #anotherSale(row) {
    const at = [...this.#columns.keys()].indexOf("sale");
    const before = this.#columns.get("sale")?.[this.#length - 1];
    return at >= 0 && !Object.is(before, row[at] ?? NaN);
  }

  #append(row) {
    if (this.#length === CAPACITY) {
      for (const column of this.#columns.values()) column.copyWithin(0, CAPACITY - KEEP);
      this.#length = KEEP;
    }
    let at = 0;
    for (const column of this.#columns.values()) {
      column[this.#length] = row[at] ?? NaN;
      at += 1;
    }
    this.#length += 1;
  }

  /**
   * The rows from one moment to another, in unix seconds. A view has the column `column(name)`; `ago`: seconds before its end, which
   * is `latest` (0 or negative); `seconds`: its length; and `origin`: the moment from which its time is counted, or null.
   */
  between(from, to, origin = null) {
    const times = this.#columns.get("t") ?? new Float64Array(0);
    const [first, end] = [from, to].map((moment, at) => bound(times, this.#length, moment, at === 1));
    return {
      latest: to,
      seconds: to - from,
      origin,
      ago: times.slice(first, end).map((time) => time - to),
      column: (name) => this.#columns.get(name)?.slice(first, end) ?? new Float64Array(0),
      names: [...this.#columns.keys()],
    };
  }

  /** The view of the last `seconds`. */
  last(seconds) {
    const latest = this.latest ?? 0;
    return this.between(latest - seconds, latest);
  }

  /** The last stretch with traffic, as { from, to, goesOn }; null: there is none. */
  lastTraffic() {
    const times = this.#columns.get("t");
    let [first, last] = [-1, -1];
    for (let at = this.#length - 1; at >= 0; at -= 1) {
      if (first >= 0 && times[first] - times[at] > QUIET_SECONDS) break;
      if (!this.#isBusy(at)) continue;
      first = at;
      if (last < 0) last = at;
    }
    if (last < 0) return null;
    const goesOn = this.latest - times[last] < ENDED_SECONDS;
    return { from: times[first] - LEAD_SECONDS, to: goesOn ? this.latest : times[last] + ENDED_SECONDS, goesOn };
  }

  #isBusy(at) {
    return BUSY.some((name) => this.#columns.get(name)?.[at] > 0);
  }
}

/** One row a second of a view, newest first, each as a function from column name to value. */
export function bySecond(view, most) {
  const columns = new Map(view.names.map((name) => [name, view.column(name)]));
  const rows = [];
  let second = Infinity;
  for (let at = view.ago.length - 1; at >= 0 && rows.length < most; at -= 1) {
    const whole = Math.floor(view.latest + view.ago[at]);
    // A row without arrivals is a gap.
    if (whole >= second || Number.isNaN(columns.get("arrivals")?.[at])) continue;
    second = whole;
    rows.push((name) => (name === "t" ? view.latest + view.ago[at] : columns.get(name)?.[at] ?? NaN));
  }
  return rows;
}

/** The largest number in a column; 0 if there is none. NaN is skipped. */
export function peak(column) {
  let most = 0;
  for (const value of column) if (value > most) most = value;
  return most;
}

/** The event log, oldest first, each entry once. */
export class Log {
  entries = [];
  /** Grows with every change; a view compares it to decide whether to draw. */
  revision = 0;

  reset() {
    this.entries = [];
    this.revision += 1;
  }

  /** Adds an entry unless it is there; returns whether it was new. */
  push(entry) {
    if (this.entries.some((other) => other.id === entry.id)) return false;
    this.entries.push(entry);
    if (this.entries.length > LOG_LIMIT) this.entries.splice(0, this.entries.length - LOG_LIMIT);
    this.revision += 1;
    return true;
  }
}
