//! Whether a process can work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadinessReport {
    /// All of it in one word.
    pub status: Readiness,
    /// `embedded` or `cluster`.
    pub backend: String,
    /// Each server that it works with, by name.
    pub dependencies: BTreeMap<String, DependencyReport>,
    /// What is wrong with the sales; not there where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sales: Option<String>,
}

/// Whether a process can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can, with a dependency away that it can do without for a time.
    Degraded,
    /// It cannot.
    Unready,
    /// It is shutting down.
    Draining,
}

impl Readiness {
    /// The word in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unready => "unready",
            Self::Draining => "draining",
        }
    }
}

/// One dependency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DependencyReport {
    /// Whether it answers.
    pub status: DependencyStatus,
    /// Whether the process cannot work without it.
    pub needed: bool,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a dependency answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyStatus {
    /// It does.
    Up,
    /// It does not.
    Down,
}
