//! The list of a sale's recorded orders, which comes as CSV.

use futures_util::{StreamExt, stream};
use seckill_core::{OrderId, OrderStatus, Timestamp, UserId};

use crate::Stream;
use crate::error::Error;
use crate::http::Source;
use crate::lines::Lines;

/// How the first line begins. Columns of a newer gateway come behind these.
const HEAD: &str = "order_id,user_id,quantity,status,accepted_at_ms,recorded_at_ms";

/// An order that the ledger has recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedOrder {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its units.
    pub quantity: u32,
    /// Where it stands.
    pub status: OrderStatus,
    /// When a gateway took the request.
    pub accepted_at: Timestamp,
    /// When the ledger recorded it, by the ledger's clock.
    pub recorded_at: Timestamp,
}

/// The orders, line by line.
pub(crate) fn orders(source: Source) -> Stream<RecordedOrder> {
    let reader = Reader { source, lines: Lines::default(), number: 0 };
    stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        match reader.next().await.transpose()? {
            Ok(order) => Some((Ok(order), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Reader {
    source: Source,
    lines: Lines,
    /// Lines that were read.
    number: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordedOrder>, Error> {
        loop {
            while let Some(line) = self.lines.next() {
                self.number += 1;
                if self.number == 1 && line.starts_with(HEAD) {
                    continue;
                }
                let order = (self.number > 1).then(|| row(&line)).flatten();
                let wrong = || {
                    self.source
                        .unreadable(format!("line {} is not one of such a list: {line:?}", self.number))
                };
                return order.ok_or_else(wrong).map(Some);
            }
            match self.source.piece().await? {
                Some(piece) => self.lines.take_in(&piece).map_err(|reason| self.source.unreadable(reason))?,
                None if self.lines.has_rest() || self.number == 0 => {
                    return Err(self.source.unreadable("it ends in the middle of a line".to_owned()));
                }
                None => return Ok(None),
            }
        }
    }
}

fn row(line: &str) -> Option<RecordedOrder> {
    let mut fields = line.split(',');
    let mut next = || fields.next();
    let moment = |text: &str| Timestamp::from_timestamp_millis(text.parse().ok()?);
    Some(RecordedOrder {
        order_id: next()?.parse().ok()?,
        user_id: UserId(next()?.parse().ok()?),
        quantity: next()?.parse().ok()?,
        status: status(next()?)?,
        accepted_at: moment(next()?)?,
        recorded_at: moment(next()?)?,
    })
}

/// A recorded order is either rejected or committed, and then whatever came after.
fn status(word: &str) -> Option<OrderStatus> {
    if word == OrderStatus::Rejected.as_str() {
        return Some(OrderStatus::Rejected);
    }
    OrderStatus::parse_committed(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_columns_behind_it_that_are_not_known() {
        let line = "0192f8c4-3f6b-7d1a-8000-000000000007,42,2,refund_held,1700000000123,1700000000456,new";
        let order = row(line).unwrap();
        assert_eq!((order.user_id, order.quantity, order.status), (UserId(42), 2, OrderStatus::RefundHeld));
        assert_eq!((order.recorded_at - order.accepted_at).num_milliseconds(), 333);
        for wrong in ["", "x,42,2,paid,1,2", "0192f8c4-3f6b-7d1a-8000-000000000007,42,2,queued,1,2"] {
            assert_eq!(row(wrong), None, "{wrong}");
        }
    }
}
