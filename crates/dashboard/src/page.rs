//! The routes of the page: its files and its feed.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use seckill_core::ProcessId;
use tokio_util::sync::CancellationToken;

use crate::assets;
use crate::feed::Feed;
use crate::live::{self, Live};

/// The page and the feed of the gateway `process`; its streams end with `shutdown`. With `controls` the page shows its
/// controls, whose routes somebody else serves.
pub fn routes(feed: &Arc<Feed>, process: ProcessId, controls: bool, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/", get(assets::index))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/live", get(live::live))
        .with_state(Arc::new(Live::new(Arc::clone(feed), process, controls, shutdown)))
}
