//! The control plane of one process: snapshots go to whoever listens within it, settings and the newest load run live
//! as long as it does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use seckill_core::{ControlPlane, Dependency, Fault, Settings, Snapshot, SnapshotListener};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Snapshots that a slow listener may be behind before it misses the oldest: four seconds' worth.
const KEPT: usize = 16;

pub(crate) struct LocalControl {
    snapshots: broadcast::Sender<Snapshot>,
    /// Held only to read or swap.
    settings: Mutex<Settings>,
    /// The newest load run. Held only to read or swap.
    load: Mutex<Option<Value>>,
}

impl LocalControl {
    pub(crate) fn new() -> Self {
        Self { snapshots: broadcast::Sender::new(KEPT), settings: Mutex::default(), load: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        // Assigning leaves the settings whole, whoever panicked.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ControlPlane for LocalControl {
    async fn exchange(&self, snapshot: &Snapshot) -> Result<Settings, Fault> {
        // An error here means that nobody listens.
        let _ = self.snapshots.send(snapshot.clone());
        self.settings().await
    }

    async fn settings(&self) -> Result<Settings, Fault> {
        Ok(self.lock().clone())
    }

    async fn change(&self, settings: &Settings) -> Result<bool, Fault> {
        let mut now = self.lock();
        let next = now.revision + 1 == settings.revision;
        if next {
            *now = settings.clone();
        }
        Ok(next)
    }

    async fn keep_load(&self, load: &Value) -> Result<(), Fault> {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load.clone());
        Ok(())
    }

    async fn kept_load(&self) -> Result<Option<Value>, Fault> {
        Ok(self.load.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn listen(&self) -> Result<Box<dyn SnapshotListener>, Fault> {
        Ok(Box::new(Listener(self.snapshots.subscribe())))
    }
}

struct Listener(broadcast::Receiver<Snapshot>);

#[async_trait]
impl SnapshotListener for Listener {
    async fn next(&mut self) -> Result<Snapshot, Fault> {
        loop {
            match self.0.recv().await {
                Ok(snapshot) => return Ok(snapshot),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => {
                    return Err(Fault::unavailable(Dependency::ControlPlane, "the back end was closed"));
                }
            }
        }
    }
}
