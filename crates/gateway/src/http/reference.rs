//! The contract for clients: the OpenAPI document, and a page that shows it, served from this process alone.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, serve};

/// `/openapi.json`, and the page at `/docs/`.
pub(super) fn router(document: &OpenApi) -> Router {
    let document: Arc<str> = document.to_json().expect("the document is plain JSON").into();
    let config = Arc::new(Config::from("/openapi.json").validator_url("none"));
    let json = move || async move { ([(header::CONTENT_TYPE, "application/json")], document.to_string()) };
    let index = Arc::clone(&config);
    Router::new()
        .route("/openapi.json", get(json))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(move || async move { asset("index.html", index) }))
        .route("/docs/{*file}", get(move |Path(file): Path<String>| async move { asset(&file, config) }))
}

fn asset(file: &str, config: Arc<Config<'static>>) -> Response {
    match serve(file, config) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, "the reference page cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
