//! `POST /api/v1/bank/news`: the bank says that something became of a payment. It may say so twice, late, out of order, or never,
//! so it is believed no more than that: the bank is asked.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use seckill_bank::BankNotice;
use seckill_bank::signature::{self, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use seckill_core::OrderService;
use seckill_dashboard::problem::problem;

struct News {
    orders: Arc<dyn OrderService>,
    secret: String,
}

/// The route, for a gateway that knows the secret with which the bank signs.
pub(crate) fn routes(orders: Arc<dyn OrderService>, secret: String) -> Router {
    let news = Arc::new(News { orders, secret });
    Router::new().route("/api/v1/bank/news", post(take)).with_state(news)
}

async fn take(
    State(news): State<Arc<News>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Response> {
    let refuse = |status, slug, detail: String| problem(status, slug, &format!("{detail}."));
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = seckill_core::now().timestamp();
    signature::verify(&news.secret, header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER), &body, now)
        .map_err(|error| refuse(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string()))?;
    let notice: BankNotice = serde_json::from_slice(&body).map_err(|error| {
        refuse(StatusCode::BAD_REQUEST, "malformed", format!("the body cannot be read: {error}"))
    })?;
    if let Some(order) = notice.order_id {
        // The bank sends it again after an error; and whoever looks after payments finds it in any case.
        news.orders.look_up_payment(order).await.map_err(|fault| {
            tracing::warn!(order_id = %order, error = %fault, "the bank's news cannot be looked up");
            refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the payment cannot be looked up now".to_owned(),
            )
        })?;
    }
    Ok(StatusCode::NO_CONTENT)
}
