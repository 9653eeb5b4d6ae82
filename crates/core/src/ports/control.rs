//! The control plane: what processes report, and the settings that they read.

use async_trait::async_trait;
use serde_json::Value;

use crate::{Fault, Settings, Snapshot};

/// Where processes report how they are and read the settings. No order depends on it: every fault of it may be ignored and
/// leaves a gap in the dashboard's curves.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Hands `snapshot` to everyone who listens just now, and gives the settings in force. Kept by no one; a snapshot that
    /// was handed over twice does no harm. Settings are forgotten once no process has done this for some seconds.
    async fn exchange(&self, snapshot: &Snapshot) -> Result<Settings, Fault>;

    /// The settings in force. Changes nothing.
    async fn settings(&self) -> Result<Settings, Fault>;

    /// Puts `settings` in force if their revision is one above that of the settings in force; false: it is not, somebody
    /// else was faster, and nothing was changed. After [`Fault::Unknown`] they may be in force.
    async fn change(&self, settings: &Settings) -> Result<bool, Fault>;

    /// Keeps a load run as the newest, in place of the one before, for as long as the back end is there and for a day at the most.
    /// May be called again.
    async fn keep_load(&self, load: &Value) -> Result<(), Fault>;

    /// The load run that was kept last; `None`: there is none. What is kept of a run says that it is under way until its end is kept.
    async fn kept_load(&self) -> Result<Option<Value>, Fault>;

    /// Every snapshot of every process from now on.
    async fn listen(&self) -> Result<Box<dyn SnapshotListener>, Fault>;
}

/// Receives what processes report. After any fault drop it and ask for a new one.
#[async_trait]
pub trait SnapshotListener: Send {
    /// Waits for the next snapshot. May be cancelled without losing one. A listener that is too slow misses the oldest.
    async fn next(&mut self) -> Result<Snapshot, Fault>;
}
