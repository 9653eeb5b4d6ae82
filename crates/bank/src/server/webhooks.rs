//! Sends webhooks: a bounded number at once, each a few times until somebody takes it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{ExponentialBuilder, Retryable};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use url::Url;

use super::WebhookTarget;
use super::faults::FaultSwitch;
use crate::notice::BankNotice;
use crate::signature::{self, SIGNATURE_HEADER, TIMESTAMP_HEADER};

/// Webhooks that may wait; more are left out.
const QUEUE: usize = 10_000;
/// Webhooks that may be under way.
const AT_ONCE: usize = 16;
/// How long a reordered webhook waits for the one that is to pass it.
const HELD_BACK: Duration = Duration::from_millis(500);
/// How long a shutdown waits for the webhooks.
pub(super) const GRACE: Duration = Duration::from_secs(5);

struct Target {
    client: reqwest::Client,
    url: Url,
    secret: SecretString,
}

/// The queue, and the task that sends what is put there. It ends when the queue's last sender is gone.
pub(super) fn start(
    target: WebhookTarget,
    faults: Arc<FaultSwitch>,
) -> reqwest::Result<(mpsc::Sender<BankNotice>, impl Future<Output = ()> + Send)> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let target = Arc::new(Target { client, url: target.url, secret: target.secret });
    let (sender, receiver) = mpsc::channel(QUEUE);
    Ok((sender, send_all(receiver, target, faults)))
}

async fn send_all(mut queue: mpsc::Receiver<BankNotice>, target: Arc<Target>, faults: Arc<FaultSwitch>) {
    let (permits, sending) = (Arc::new(Semaphore::new(AT_ONCE)), TaskTracker::new());
    while let Some(notice) = queue.recv().await {
        let mut notices = vec![notice];
        if faults.now().webhooks_reordered
            && let Ok(Some(next)) = tokio::time::timeout(HELD_BACK, queue.recv()).await
        {
            notices.insert(0, next);
        }
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let (target, faults) = (Arc::clone(&target), Arc::clone(&faults));
        sending.spawn(async move {
            for notice in notices {
                target.send(&notice).await;
                if faults.now().webhooks_doubled {
                    target.send(&notice).await;
                }
            }
            drop(permit);
        });
    }
    sending.close();
    sending.wait().await;
}

impl Target {
    async fn send(&self, notice: &BankNotice) {
        let body = serde_json::to_vec(notice).expect("a notice has only text");
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .with_max_times(5);
        if let Err(error) = (|| self.post(body.clone())).retry(pauses).await {
            tracing::warn!(key = %notice.key, error = %error.without_url(), "a webhook was given up");
        }
    }

    async fn post(&self, body: Vec<u8>) -> reqwest::Result<()> {
        // Signed anew for each try, or a late one would be too old.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header(TIMESTAMP_HEADER, now)
            .header(SIGNATURE_HEADER, signature::sign(self.secret.expose_secret(), now, &body))
            .body(body)
            .send()
            .await?
            .error_for_status()
            .map(drop)
    }
}
