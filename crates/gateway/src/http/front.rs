//! What stands before the router: a request meets it first, and its answer last. All of it is one future. As layers of the router,
//! each part would box the request's future once more, and copy all layers below it for each request.

use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use futures_util::future::Either;

use super::contract::Routes;
use super::guard::Asked;
use super::problem::Refusal;
use super::request::{Durations, name_route};
use super::{App, body, guard, orders};
use crate::server::Respond;

/// The gateway's router, behind everything that holds for all of its routes.
#[derive(Clone)]
pub(crate) struct Front(Arc<Shared>);

struct Shared {
    app: Arc<App>,
    router: Router,
    /// The gateway's own routes, by path.
    routes: matchit::Router<&'static str>,
    durations: Durations,
}

impl Front {
    pub(super) fn new(app: &Arc<App>, own: Routes, others: Router) -> Self {
        // Before the layers, so that this answer, too, has the name of its route.
        let others = others.method_not_allowed_fallback(async || Refusal::MethodNotAllowed);
        let others = others.layer(from_fn(body::in_time)).layer(from_fn(name_route));
        let mut routes = matchit::Router::new();
        let mut paths = own.paths;
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            routes.insert(path, path).expect("the router takes the same paths");
        }
        let missing = (async |uri: Uri| Refusal::NoSuchPath(uri))
            .layer(from_fn_with_state(Arc::clone(app), guard::guard_missing));
        let router = own
            .router
            .with_state(Arc::clone(app))
            .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
            .merge(others)
            .fallback(missing);
        Self(Arc::new(Shared { app: Arc::clone(app), router, routes, durations: Durations::default() }))
    }
}

impl Respond for Front {
    async fn respond(self, request: Request) -> Response {
        let Shared { app, router, routes, durations } = &*self.0;
        let route = routes.at(request.uri().path()).ok().map(|found| *found.value);
        let asked = Asked::of(route, &request);
        // Futures that are made and awaited in one place are not copied into each other.
        let handle = |request| match asked.order() {
            // What a flash sale gets most of goes straight to its handler.
            Some(sale) => Either::Left(orders::place_in(app, sale, request)),
            // Boxed: each connection has room for one request's future, and few hold this one.
            None => Either::Right(Box::pin(router.clone().respond(request))),
        };
        let answer = |request| match route {
            Some(_) => Either::Left(guard::guarded(app, asked, request, handle)),
            None => Either::Right(Box::pin(router.clone().respond(request))),
        };
        let wants_head = *request.method() == Method::HEAD;
        let mut response = durations.observe(route, asked.may_be_change(), request, answer).await;
        if wants_head {
            drop_body(&mut response);
        }
        response
    }
}

/// Of an answer to HEAD only the head is sent. The router does so for what it answers itself, and hyper on HTTP/1.1 alone.
fn drop_body(response: &mut Response) {
    if response.body().is_end_stream() {
        return;
    }
    let body = std::mem::take(response.body_mut());
    if let Some(length) = body.size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
}
