//! The routes of the two pages, live and experiments: their files and the feed.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use seckill_core::ProcessId;
use tokio_util::sync::CancellationToken;

use crate::assets;
use crate::feed::Feed;
use crate::live::{self, Live};

/// The pages and the feed of the gateway `process`; its streams end with `shutdown`. With `controls` the pages show
/// controls and experiments, whose routes somebody else serves.
pub fn routes(feed: &Arc<Feed>, process: ProcessId, controls: bool, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/", get(assets::index))
        .route("/labs", get(assets::labs))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/live", get(live::live))
        .with_state(Arc::new(Live::new(Arc::clone(feed), process, controls, shutdown)))
}
