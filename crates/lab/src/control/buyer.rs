//! Buyers for the shop of a demonstration, who have no identity provider to log in at: each call makes one who is new.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use seckill_core::UserId;
use serde::{Deserialize, Serialize};

use super::guard::Json;
use super::panel::Panel;

/// The user ids of these buyers: far above those that load runs and people choose, and below 2^53, so that every language reads
/// them from JSON as they are.
const USERS: std::ops::Range<u64> = 1 << 52..1 << 53;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Serialize)]
struct Buyer {
    user_id: UserId,
    /// Valid for as long as those of a load run.
    token: String,
}

/// `POST /api/v1/control/buyer`: 201 and the token of a buyer who is new. Nobody gets a token of a buyer who is there already.
pub(super) async fn fresh(State(panel): State<Arc<Panel>>, Json(Nothing {}): Json<Nothing>) -> Response {
    let user = rand::random_range(USERS);
    let buyer = Buyer { user_id: UserId(user), token: (panel.sign)(user) };
    (StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Answer(buyer)).into_response()
}
