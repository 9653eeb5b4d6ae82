//! The drain rate of the workers, and their pause.

use seckill_core::DrainRate;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What the workers are told, and what they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkersView {
    /// Counts the changes; 0 when there was none.
    pub revision: u64,
    /// Orders a second for all workers together, or `unlimited`, or `auto`; `null`: each has the rate that it was started with.
    #[schema(value_type = Option<String>)]
    pub drain_rate: Option<DrainRate>,
    /// Whether they are to rest, whatever the rate.
    pub paused: bool,
    /// The workers that reported within the last moment.
    pub workers: Vec<WorkerView>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Its name for people.
    pub name: String,
    /// In force: its share of the rate, `unlimited`, or `paused`.
    #[schema(value_type = String)]
    pub drain_rate: DrainRate,
    /// The revision that it has applied.
    pub revision: u64,
}

/// What to change; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkersBody {
    /// `null`: the rate that each worker was started with.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Rate>)]
    pub drain_rate: Option<Option<Rate>>,
    /// Whether they are to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// A number, or a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Rate {
    /// Orders a second: 1 to 1,000,000.
    Number(u32),
    /// `unlimited` or `auto`.
    Word(String),
}

/// Tells `null` from a field that was left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Rate>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
