//! What the queue has in common with its publishers and consumers.

use std::sync::Arc;

use super::connection::Link;
use super::intake::Intake;
use super::topology::names;
use crate::identity::Identity;
use crate::newer_log::NewerLog;

/// What the queue has in common with its publishers and consumers.
pub(super) struct Shared {
    pub(super) identity: Arc<Identity>,
    /// Consumers use it too, to park messages.
    pub(super) publishing: Link,
    pub(super) intake: Intake,
    newer: NewerLog,
}

impl Shared {
    pub(super) fn new(identity: Arc<Identity>, publishing: Link) -> Self {
        Self { identity, publishing, intake: Intake::default(), newer: NewerLog::default() }
    }

    /// Counts a message of a newer version, and warns of them once a minute.
    pub(super) fn log_newer(&self, version: u64) {
        self.newer.note(version, names::NEWER);
    }
}
