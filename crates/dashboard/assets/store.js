// The last minutes of the feed, column by column in typed arrays, and the event log. Draws nothing.

// Five minutes at four rows a second are 1,200; when twice that is full, the older half goes in one move.
const CAPACITY = 2400;
const KEEP = 1200;
const LOG_LIMIT = 200;
// A pause this long in the rows is drawn as a gap, not as a line across it.
const GAP_SECONDS = 2;
// Time that steps back further than this is a clock that was set, not a row that came twice.
const CLOCK_STEP_SECONDS = 5;

/** Rows by time, as columns. */
export class Series {
  #columns = new Map();
  #length = 0;

  /** Starts over with these columns. */
  reset(names) {
    this.#length = 0;
    this.#columns = new Map(names.map((name) => [name, new Float64Array(CAPACITY)]));
  }

  /** Whether the history has told what the columns are. */
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

  /** Adds a row; one that is there already (by t) is left out. Null becomes NaN, which charts show as a gap. */
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

  /** The numbers of one sale do not go over into those of the next. */
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

/** The largest number in a column; 0 when there is none. NaN is passed over. */
export function peak(column) {
  let most = 0;
  for (const value of column) if (value > most) most = value;
  return most;
}

/** The event log, oldest first, each entry once. */
export class Log {
  entries = [];
  /** Grows with every change, so that a view knows when to draw. */
  revision = 0;

  reset() {
    this.entries = [];
    this.revision += 1;
  }

  /** Adds an entry unless it is there; tells whether it was new. */
  push(entry) {
    if (this.entries.some((other) => other.id === entry.id)) return false;
    this.entries.push(entry);
    if (this.entries.length > LOG_LIMIT) this.entries.splice(0, this.entries.length - LOG_LIMIT);
    this.revision += 1;
    return true;
  }
}
