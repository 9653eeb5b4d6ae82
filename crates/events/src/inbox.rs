//! The inbox: what makes the effect of an event happen once, however often the event comes.

use seckill_core::{AbortPoint, Backend, Effect, Fault, abort_point};
use uuid::Uuid;

/// Writes the effects of an event at a consumer, in one transaction with the record that the consumer has taken it in; false: it
/// had before, and nothing was changed. The record's unique key decides. A consumer that looked first and acted later would act
/// twice when two deliveries of one event look before either of them acts.
///
/// # Errors
/// [`Fault::Unavailable`]: nothing was changed. [`Fault::Unknown`]: all of it was, or nothing. Asking again is safe.
pub async fn once(backend: &Backend, consumer: &str, event: Uuid, effects: &[Effect]) -> Result<bool, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    if !transaction.first_time(consumer, event).await? {
        // Nothing is in it; ended like this, its connection can be used again.
        return transaction.commit().await.map(|()| false);
    }
    for effect in effects {
        transaction.apply(effect).await?;
    }
    abort_point(AbortPoint::InboxWritten);
    transaction.commit().await?;
    abort_point(AbortPoint::InboxCommitted);
    Ok(true)
}
