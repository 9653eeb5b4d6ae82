//! The least that a gateway could do: parse the body and answer a 202 of the usual size. What the load generator and
//! the gateway are measured against. `cargo run --release -p loadtest --example bare -- 127.0.0.1:8080`

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router, extract::Path};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Deserialize)]
struct OrderRequest {
    quantity: u32,
}

#[derive(Serialize)]
struct OrderResponse {
    order_id: Uuid,
    sale_id: u64,
    quantity: u32,
    status: &'static str,
}

async fn order(Path(sale_id): Path<u64>, Json(request): Json<OrderRequest>) -> impl IntoResponse {
    let order_id = Uuid::now_v7();
    let body = OrderResponse { order_id, sale_id, quantity: request.quantity, status: "queued" };
    (StatusCode::ACCEPTED, [(header::LOCATION, format!("/api/v1/orders/{order_id}"))], Json(body))
}

/// As much of the sale as a load generator looks at before it begins.
async fn sale(Path(sale_id): Path<u64>) -> impl IntoResponse {
    Json(serde_json::json!({"id": sale_id, "stock": 100_000_000, "phase": "open"}))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let router =
        Router::new().route("/api/v1/sales/{id}", get(sale)).route("/api/v1/sales/{id}/orders", post(order));
    axum::serve(listener, router).await
}
