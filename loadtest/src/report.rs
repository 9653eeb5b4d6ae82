//! The report: its fields, how they are computed, the verdict, and the forms in which it is shown.

pub mod compare;
mod effects;
#[cfg(feature = "html")]
pub mod html;
pub mod lifecycle;
pub mod measured;
#[cfg(test)]
mod sample;
pub mod schema;
pub mod series;
mod text;
pub mod threshold;
mod verdict;
pub mod verification;
