//! Takes the place of `lab` in a program without the feature `lab`: no process is part of a demonstration.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use seckill_core::{Backend, Bank, ProcessId};
use seckill_dashboard::{Feed, Reporter, SettingsHandler};
use tokio_util::sync::CancellationToken;

use crate::options::BackendOptions;
use crate::secrets::Secrets;

/// There is none.
pub(crate) enum Lab {}

/// There are none.
pub(crate) enum Faults {}

impl Faults {
    pub(crate) async fn keep_relay<Relay: Future<Output = ()>>(
        &self,
        _start: impl Fn() -> Relay,
        _shutdown: &CancellationToken,
    ) {
        match *self {}
    }
}

impl Lab {
    pub(crate) fn of(_demo: bool, _options: &BackendOptions) -> Option<Self> {
        None
    }

    pub(crate) async fn of_gateway(
        _options: &BackendOptions,
        _secrets: Secrets,
        _log_json: bool,
    ) -> Option<Self> {
        None
    }

    pub(crate) fn wrap(&self, _backend: &Backend) -> Backend {
        match *self {}
    }

    pub(crate) fn wrap_bank(&mut self, _bank: Option<Arc<dyn Bank>>) -> Option<Arc<dyn Bank>> {
        match *self {}
    }

    pub(crate) fn faults(&self) -> Faults {
        match *self {}
    }

    pub(crate) fn settings_handler<W>(
        &self,
        _process: ProcessId,
        _worker: Option<Arc<W>>,
    ) -> Arc<dyn SettingsHandler> {
        match *self {}
    }

    pub(crate) fn controls(
        &self,
        _backend: &Backend,
        _feed: &Arc<Feed>,
        _reporter: &Arc<Reporter>,
        _address: SocketAddr,
        _config: &seckill_gateway::Config,
        _shutdown: CancellationToken,
    ) -> Router {
        match *self {}
    }

    pub(crate) async fn close(self) {
        match self {}
    }
}
