//! Reports a process to the dashboards of all gateways.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{Backend, Readiness};
use seckill_dashboard::{Identity, Reporter, SettingsHandler, WorkerState};
use tokio::sync::watch;

/// The identity of a process with the role `role` that serves on `address`.
pub(crate) fn identity(role: &str, address: SocketAddr) -> Identity {
    let host = match address.ip().is_unspecified() {
        true => hostname(),
        false => address.ip().to_string(),
    };
    Identity::new(format!("{role} at {host}:{}", address.port()))
}

/// What a process reports beside its metrics.
pub(crate) struct Reported {
    /// `None`: no worker runs in this process.
    pub(crate) worker: Option<Arc<dyn WorkerState>>,
    /// Without one the process ignores the settings.
    pub(crate) handler: Option<Arc<dyn SettingsHandler>>,
    /// What its `/readyz` answers.
    pub(crate) readiness: watch::Receiver<Option<Readiness>>,
}

/// Starts to publish snapshots of this process, until it ends.
pub(crate) fn start(
    identity: Identity,
    is_gateway: bool,
    backend: &Backend,
    prometheus: PrometheusHandle,
    reported: Reported,
) -> Arc<Reporter> {
    let control = Arc::clone(&backend.control);
    let Reported { worker, handler, readiness } = reported;
    let reporter = Reporter::new(identity, is_gateway, control, prometheus, worker, handler);
    let reporter = Arc::new(reporter.with_readiness(readiness));
    let reporting = Arc::clone(&reporter);
    tokio::spawn(async move { reporting.run().await });
    reporter
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}
