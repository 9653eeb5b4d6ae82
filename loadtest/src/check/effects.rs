//! What the refund events of the sale have caused at the server's own subscribers, which an admin may read: as many effects as the
//! ledger says there were events, once every event has arrived.

use std::time::Duration;

use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::check::shop::Shop;
use crate::error::Error;

/// The time from one look to the next while the counts do not agree.
const EVERY: Duration = Duration::from_millis(500);

/// One comparison of the server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectCheck {
    /// The subscriber's name, such as `loyalty`.
    pub subscriber: String,
    /// The type of the events, such as `refund.succeeded`; two types where their effects cannot be told apart.
    pub event: String,
    /// Effects that there must be; points for `loyalty`.
    pub expected: i64,
    /// Effects that there are.
    pub actual: i64,
}

impl From<seckill_core::effects::EffectCheck> for EffectCheck {
    fn from(check: seckill_core::effects::EffectCheck) -> Self {
        let seckill_core::effects::EffectCheck { subscriber, event, expected, actual } = check;
        Self { subscriber, event, expected, actual }
    }
}

impl EffectCheck {
    /// Whether each event had one effect.
    pub fn is_right(&self) -> bool {
        self.actual == self.expected
    }

    /// Whether there are too many effects, and no event that is still on its way can make that right. Points go down again with a late
    /// event, and what is compared with another subscriber's count may be ahead of it.
    pub fn is_certainly_wrong(&self) -> bool {
        let counted = match self.subscriber.as_str() {
            "funnel" | "notifications" => {
                matches!(self.event.as_str(), "refund.transferred" | "refund.succeeded")
            }
            name => name == "restock",
        };
        counted && self.actual > self.expected
    }
}

/// Reads the counts until each event had one effect, one certainly had more, or `within` is over; then as they are. A server that does
/// not answer is asked again until then. `None`: the server has no such counts.
///
/// # Errors
/// [`Error::Shop`] when the server did not give them to the end, or `stop` came before it was known.
pub(crate) async fn settled(
    shop: &mut Shop,
    sale: u64,
    admin: &HeaderValue,
    within: Duration,
    stop: &CancellationToken,
) -> Result<Option<Vec<EffectCheck>>, Error> {
    let began = Instant::now();
    loop {
        let read = shop.effects(admin, sale).await;
        let settled = match &read {
            Ok(Some(effects)) => {
                effects.iter().all(EffectCheck::is_right)
                    || effects.iter().any(EffectCheck::is_certainly_wrong)
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if settled || began.elapsed() > within {
            return read;
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            let reason = "the run was interrupted while events were on their way".to_owned();
            return Err(Error::Shop { doing: Shop::READING_EFFECTS, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_certain_only_where_no_event_can_make_it_right() {
        let is_certain = |subscriber: &str, event: &str, actual| {
            let (subscriber, event) = (subscriber.to_owned(), event.to_owned());
            EffectCheck { subscriber, event, expected: 2, actual }.is_certainly_wrong()
        };
        for (subscriber, event) in [
            ("funnel", "refund.transferred"),
            ("notifications", "refund.succeeded"),
            ("restock", "order.cancelled, refund.succeeded"),
        ] {
            assert_eq!([1, 2, 3].map(|actual| is_certain(subscriber, event, actual)), [false, false, true]);
        }
        for (subscriber, event) in [
            ("loyalty", "order.paid, refund.succeeded"),
            ("notifications", "refund.held"),
            ("funnel", "refund.requested"),
        ] {
            assert!(!is_certain(subscriber, event, 3), "{subscriber} {event}");
        }
    }
}
