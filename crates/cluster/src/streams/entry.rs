//! Entries of a stream, as Redis answers them.

use deadpool_redis::redis::{FromRedisValue, Value};
use seckill_core::{Dependency, Fault};

/// The field that has the message.
pub(super) const BODY: &str = "body";
/// Why a message was parked.
pub(super) const REASON: &str = "reason";
/// When a message was parked, in milliseconds since 1970, UTC.
pub(super) const PARKED_AT: &str = "parked_at";

/// Names and values. Others may have written an entry with a name that is no text; it is parked as a message without a body.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    fields: Fields,
}

impl Entry {
    /// The message; of an entry that has none, which seckill never writes, an empty one.
    pub(super) fn body(&self) -> &[u8] {
        self.field(BODY).unwrap_or_default()
    }

    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
    }
}

/// Reads a list of entries. Redis before 7 answers nothing in place of an entry that somebody has deleted.
pub(super) fn entries(reply: Value) -> Result<Vec<Entry>, Fault> {
    let entries: Vec<Option<(String, Fields)>> = read(reply)?;
    Ok(entries.into_iter().flatten().map(|(id, fields)| Entry { id, fields }).collect())
}

/// Reads the answer of XREADGROUP for one stream.
pub(super) fn read_entries(reply: Value) -> Result<Vec<Entry>, Fault> {
    let streams: Option<Vec<(String, Value)>> = read(reply)?;
    match streams.into_iter().flatten().next() {
        Some((_, list)) => entries(list),
        None => Ok(Vec::new()),
    }
}

pub(super) fn read<T: FromRedisValue>(reply: Value) -> Result<T, Fault> {
    T::from_redis_value(reply).map_err(|error| {
        Fault::unavailable(Dependency::Queue, format!("Redis gave an answer that cannot be read: {error}"))
    })
}
