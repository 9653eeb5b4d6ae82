//! The fates within one process: news go to whoever listens in it.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{Dependency, FateNews, Fates, FatesListener, Fault, Heard};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// News, each of up to 2,000 orders, that a slow listener may be behind before it misses the oldest.
const KEPT: usize = 256;

pub(crate) struct LocalFates(broadcast::Sender<Arc<FateNews>>);

impl LocalFates {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

#[async_trait]
impl Fates for LocalFates {
    fn announce(&self, news: FateNews) {
        // An error here means that nobody listens.
        let _ = self.0.send(Arc::new(news));
    }

    async fn listen(&self) -> Result<Box<dyn FatesListener>, Fault> {
        Ok(Box::new(Listener(self.0.subscribe())))
    }
}

struct Listener(broadcast::Receiver<Arc<FateNews>>);

#[async_trait]
impl FatesListener for Listener {
    async fn next(&mut self) -> Result<Heard, Fault> {
        match self.0.recv().await {
            Ok(news) => Ok(Heard::News(Arc::unwrap_or_clone(news))),
            Err(RecvError::Lagged(missed)) => {
                metrics::counter!("seckill_fates_dropped_total").increment(missed);
                Ok(Heard::Gap)
            }
            Err(RecvError::Closed) => Err(Fault::unavailable(Dependency::Ledger, "the back end was closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use seckill_core::OrderId;

    use super::*;

    #[tokio::test]
    async fn a_listener_that_is_too_slow_hears_of_the_gap() {
        let fates = LocalFates::new();
        let mut listener = fates.listen().await.unwrap();
        let news = || FateNews { orders: Vec::new(), changed: vec![OrderId::generate()] };
        for _ in 0..=KEPT {
            fates.announce(news());
        }
        assert_eq!(listener.next().await.unwrap(), Heard::Gap);
        for _ in 0..KEPT {
            assert!(matches!(listener.next().await.unwrap(), Heard::News(_)));
        }
        let last = news();
        fates.announce(last.clone());
        assert_eq!(listener.next().await.unwrap(), Heard::News(last));
    }
}
