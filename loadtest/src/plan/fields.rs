//! Reads fields of a scenario file in the form in which users write them as flags.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::plan::stages::parse_duration;

pub(crate) fn text<'de, D, T, E>(
    deserializer: D,
    read: fn(&str) -> Result<T, E>,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    E: Display,
{
    let text = String::deserialize(deserializer)?;
    read(&text).map(Some).map_err(serde::de::Error::custom)
}
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    text(deserializer, parse_duration)
}
