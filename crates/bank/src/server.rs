//! The payment service. It takes no real money: cards are names such as `tok_1`, and `tok_declined` is declined.
//!
//! Whatever it has answered, it keeps: an answer leaves only after its line is on disk.

mod books;
mod connections;
mod effects;
mod faults;
mod http;
mod journal;
mod problem;
mod webhooks;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use effects::Effects;
use faults::FaultSwitch;
pub use faults::Faults;
use journal::Journal;

/// How the service behaves.
#[derive(Debug)]
pub struct Config {
    /// Folder that keeps what has happened; without one, it is forgotten when the process ends.
    pub data_dir: Option<PathBuf>,
    /// Who is told of each outcome.
    pub webhook: Option<WebhookTarget>,
    /// What goes wrong from the start on.
    pub faults: Faults,
    /// How long a request that is never answered is held open.
    pub hold: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { data_dir: None, webhook: None, faults: Faults::default(), hold: Duration::from_secs(30) }
    }
}

/// Where webhooks go.
#[derive(Debug)]
pub struct WebhookTarget {
    pub url: Url,
    /// Signs them: see [`crate::signature`].
    pub secret: SecretString,
}

/// Serves until `shutdown`, then lets every request end.
///
/// # Errors
/// The data folder cannot be used: at the start, or later. After a failed write nothing more is answered, because memory and
/// disk differ from then on.
pub async fn run(listener: TcpListener, config: Config, shutdown: CancellationToken) -> io::Result<()> {
    let faults = Arc::new(FaultSwitch::new(config.faults));
    let (books, journal, writer) = match config.data_dir {
        Some(folder) => {
            // Reading the file again may take seconds.
            let opened = tokio::task::spawn_blocking(move || journal::open(&folder)).await;
            let (books, file) = opened.map_err(io::Error::other)??;
            let journal = Arc::new(Journal::on_disk());
            (books, Arc::clone(&journal), Some(tokio::spawn(journal::write(journal, file))))
        }
        None => (books::Books::default(), Arc::new(Journal::in_memory()), None),
    };
    let (notices, sender) = match config.webhook {
        Some(target) => {
            let (notices, sender) = webhooks::start(target, Arc::clone(&faults)).map_err(io::Error::other)?;
            (Some(notices), Some(tokio::spawn(sender)))
        }
        None => (None, None),
    };
    let effects = Arc::new(Effects::new(books, journal.clone(), notices));
    let router = http::router(Arc::clone(&effects), faults);
    // A write that fails ends the service as a shutdown does.
    let close = shutdown.child_token();
    let serving = connections::serve(listener, router, config.hold, close.clone());
    let ended = match writer {
        None => {
            serving.await;
            Ok(())
        }
        Some(mut writer) => {
            tokio::pin!(serving);
            tokio::select! {
                () = serving.as_mut() => {
                    effects.finished().await;
                    journal.close();
                    writer.await.map_err(io::Error::other)?
                }
                failed = &mut writer => {
                    close.cancel();
                    serving.await;
                    failed.map_err(io::Error::other)?
                }
            }
        }
    };
    effects.finished().await;
    // With the last sender gone, the webhooks that wait are sent, and that is it.
    drop(effects);
    if let Some(sender) = sender
        && tokio::time::timeout(webhooks::GRACE, sender).await.is_err()
    {
        tracing::warn!("webhooks were left unsent");
    }
    ended
}
