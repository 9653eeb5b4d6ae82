//! Accepts connections, a bounded number of them, and can close one without an answer, which `axum::serve` cannot.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at the same time; more wait to be accepted.
const CONNECTIONS: usize = 2_000;
/// How long one may take to send the head of its next request; idle ones end by it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// In place of an answer: the connection is held open for a while, then closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoAnswer;

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Serves `router` until `shutdown`, then lets every connection finish the request it is on.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    hold: Duration,
    shutdown: CancellationToken,
) {
    let (permits, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    let accept = async {
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(stream, router.clone(), hold, shutdown.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Mostly out of file descriptors: a pause lets connections end.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    let _: Option<Infallible> = shutdown.run_until_cancelled(accept).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, hold: Duration, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(router);
    let ending = shutdown.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, ending) = (routes.call(request), ending.clone());
        async move {
            let response: Response = match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<NoAnswer>().is_none() {
                return Ok(response);
            }
            let _ = tokio::time::timeout(hold, ending.cancelled()).await;
            // An error of the service closes the connection.
            Err(io::Error::other("not answered, on purpose"))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is a client that went away, or a fault on purpose.
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
