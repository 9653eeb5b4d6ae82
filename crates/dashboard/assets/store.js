// The last minutes of the feed, column by column in typed arrays, and the event log. Draws nothing.

// Five minutes have 1,200 rows. When there are twice as many, the older half is removed at once.
const CAPACITY = 2400;
const KEEP = 1200;
const LOG_LIMIT = 200;
// A pause between two rows that is longer than this is drawn as a gap.
const GAP_SECONDS = 2;
// A row that is older than the newest row by more than this means that the gateway's clock was set back.
const CLOCK_STEP_SECONDS = 5;

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

  /** The rows of the last `seconds`: the view's `column(name)` and `ago`, seconds before the newest row (negative). */
  last(seconds) {
    const latest = this.latest ?? 0;
    const times = this.#columns.get("t");
    let from = this.#length;
    while (from > 0 && times[from - 1] >= latest - seconds) from -= 1;
    const to = this.#length;
    const empty = new Float64Array(0);
    return {
      latest,
      seconds,
      ago: times ? times.slice(from, to).map((time) => time - latest) : empty,
      column: (name) => this.#columns.get(name)?.subarray(from, to) ?? empty,
    };
  }

  #isGap(at) {
    return Number.isNaN(this.#columns.get("arrivals")?.[at]);
  }

  /** One row a second over the last `seconds`, newest first, each as a function from column name to value. */
  bySecond(seconds) {
    const times = this.#columns.get("t");
    const rows = [];
    let second = Infinity;
    for (let at = this.#length - 1; at >= 0 && rows.length < seconds; at -= 1) {
      const whole = Math.floor(times[at]);
      if (whole >= second || this.#isGap(at)) continue;
      second = whole;
      rows.push((name) => this.#columns.get(name)?.[at] ?? NaN);
    }
    return rows;
  }
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
