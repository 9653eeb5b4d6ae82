//! The least that an HTTP server of this kind can do: read the JSON of an order and answer 202 with JSON. `scripts/bench.sh` measures
//! the gateway beside it.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let place =
        async |Json(order): Json<Value>| (StatusCode::ACCEPTED, Json(json!({"quantity": order["quantity"]})));
    let router =
        Router::new().route("/readyz", get(async || "ok")).route("/api/v1/sales/{id}/orders", post(place));
    axum::serve(TcpListener::bind(address).await?, router).await
}
