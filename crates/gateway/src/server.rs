//! Accepts connections, a bounded number of them, and ends them gracefully. `axum::serve` has neither a limit on
//! connections nor a time-out for clients that never finish their headers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The usual time for the head of a request. Longer than the 60 s for which proxies keep idle connections: the proxy closes them
/// first, and sends no request on one that is being closed here.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// What connections may cost.
pub struct Limits {
    /// At the same time; more wait to be accepted.
    pub connections: usize,
    /// How long one may take to send the head of its next request; idle ones end by it too.
    pub head: Duration,
}

/// Serves `router` until `shutdown`, then lets every connection finish the request it is on. Returns once the last one
/// is closed. Boxed for the same reason as [`run`](crate::run).
pub fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(serve_until(listener, router, limits, shutdown))
}

async fn serve_until(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let accept = async {
        loop {
            // The permit before the accept: what is above the limit waits in the kernel's backlog.
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(stream, router.clone(), limits.head, shutdown.clone());
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
    let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(accept).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, head: Duration, shutdown: CancellationToken) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .pipeline_flush(true)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is a client that went away or spoke no HTTP.
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
