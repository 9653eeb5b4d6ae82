//! The log of the page, in sentences: processes that come and go, settings, load, faults, violations. Bounded.

use std::collections::VecDeque;

use seckill_core::now;
use serde::Serialize;
use serde_json::Value;

const KEPT: usize = 200;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Counts up.
    pub(crate) id: u64,
    /// Seconds since 1970.
    pub(crate) t: f64,
    /// `process`, `load`, `fault`, `settings`, `sale` or `violation`.
    pub(crate) kind: &'static str,
    /// `info`, `warn` or `error`.
    pub(crate) level: &'static str,
    pub(crate) message: String,
    /// Names the message, so that a page can translate it.
    pub(crate) code: &'static str,
    /// The names and numbers in the message.
    pub(crate) args: Value,
    /// The number of the row that came next.
    #[serde(skip)]
    next_row: u64,
}

/// The newest entries.
#[derive(Default)]
pub(crate) struct Log {
    kept: VecDeque<Entry>,
    next: u64,
}

impl Log {
    /// Adds an entry that comes before row number `next_row`; returns it with its id and time.
    pub(crate) fn push(&mut self, new: NewEntry, next_row: u64) -> Entry {
        let NewEntry { kind, level, message, code, args } = new;
        let entry = Entry { id: self.next, t: seconds(), kind, level, message, code, args, next_row };
        self.next += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry.clone());
        entry
    }

    /// The entries from row number `row` on, oldest first.
    pub(crate) fn since(&self, row: u64) -> Vec<&Entry> {
        self.kept.iter().filter(|entry| entry.next_row >= row).collect()
    }
}

/// An entry that is not in the log yet.
#[derive(Debug)]
pub(crate) struct NewEntry {
    kind: &'static str,
    level: &'static str,
    message: String,
    code: &'static str,
    args: Value,
}

impl NewEntry {
    pub(crate) fn info(kind: &'static str, code: &'static str, message: String, args: Value) -> Self {
        Self { kind, level: "info", message, code, args }
    }

    pub(crate) fn warn(kind: &'static str, code: &'static str, message: String, args: Value) -> Self {
        Self { level: "warn", ..Self::info(kind, code, message, args) }
    }

    pub(crate) fn error(kind: &'static str, code: &'static str, message: String, args: Value) -> Self {
        Self { level: "error", ..Self::info(kind, code, message, args) }
    }
}

/// The present moment in seconds since 1970.
pub(crate) fn seconds() -> f64 {
    now().timestamp_millis() as f64 / 1_000.0
}
