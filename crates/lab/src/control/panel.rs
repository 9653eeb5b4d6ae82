//! The state that the handlers of the controls share.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use seckill_core::{Backend, Fault};
use seckill_dashboard::Feed;
use seckill_dashboard::problem::problem;
use seckill_token::admin::AdminTokens;

use crate::experiment::Runner;
use crate::load::LoadRunner;

/// What every handler needs.
pub(super) struct Panel {
    pub(super) backend: Backend,
    pub(super) feed: Arc<Feed>,
    pub(super) admins: AdminTokens,
    /// Whether the gateway is bound to a loopback address.
    pub(super) loopback: bool,
    /// Whether orders can be paid by card, so that calls to a bank can go wrong.
    pub(super) has_bank: bool,
    pub(super) loads: Arc<LoadRunner>,
    pub(super) experiments: Arc<Runner>,
    /// A buyer's bearer token.
    pub(super) sign: Arc<dyn Fn(u64) -> String + Send + Sync>,
}

/// 503: a fault of the back end.
pub(super) fn unavailable(fault: &Fault) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &format!("{fault}."))
}
