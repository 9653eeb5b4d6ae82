//! Fates as text: JSON in which what the orders of one commit have in common stands once.

use seckill_core::{
    CancelReason, Claim, FateNews, Heard, LedgerOrder, OrderId, OrderStatus, RejectReason, SaleId, Timestamp,
    UserId,
};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Text {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Group>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<OrderId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gap: bool,
}

/// Orders that differ in nothing but what each of them says of itself.
#[derive(Serialize, Deserialize)]
struct Group {
    #[serde(flatten)]
    common: Common,
    orders: Vec<One>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Common {
    sale: SaleId,
    status: OrderStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejected: Option<RejectReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled: Option<CancelReason>,
    sequence: u32,
    /// Milliseconds since 1970, as all times here.
    recorded: i64,
}

/// Id, user, quantity, the moment it was accepted, hundredths.
#[derive(Serialize, Deserialize)]
struct One(OrderId, UserId, u32, i64, u64);

pub(super) fn gap() -> String {
    text(&Text { gap: true, ..Text::default() })
}

pub(super) fn write(news: &FateNews) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for order in &news.orders {
        let common = Common {
            sale: order.sale_id,
            status: order.status,
            rejected: order.rejected,
            cancelled: order.cancelled,
            sequence: order.sequence,
            recorded: order.recorded_at.timestamp_millis(),
        };
        let Claim { order_id, user_id, quantity, accepted_at } = order.claim;
        let one = One(order_id, user_id, quantity, accepted_at.timestamp_millis(), order.amount_cents);
        match groups.last_mut() {
            Some(group) if group.common == common => group.orders.push(one),
            _ => groups.push(Group { common, orders: vec![one] }),
        }
    }
    text(&Text { groups, changed: news.changed.clone(), gap: false })
}

pub(super) fn read(text: &[u8]) -> Result<Heard, String> {
    let Text { groups, changed, gap } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if gap {
        return Ok(Heard::Gap);
    }
    let mut orders = Vec::new();
    for Group { common, orders: some } in groups {
        let recorded_at = moment(common.recorded)?;
        for One(order_id, user_id, quantity, accepted, amount_cents) in some {
            orders.push(LedgerOrder {
                sale_id: common.sale,
                claim: Claim { order_id, user_id, quantity, accepted_at: moment(accepted)? },
                amount_cents,
                status: common.status,
                rejected: common.rejected,
                cancelled: common.cancelled,
                sequence: common.sequence,
                recorded_at,
            });
        }
    }
    Ok(Heard::News(FateNews { orders, changed }))
}

fn moment(millis: i64) -> Result<Timestamp, String> {
    Timestamp::from_timestamp_millis(millis).ok_or_else(|| format!("no moment: {millis} ms since 1970"))
}

fn text(text: &Text) -> String {
    serde_json::to_string(text).expect("plain fields can be written as JSON")
}

#[cfg(test)]
mod tests {
    use seckill_core::{Order, now};

    use super::*;

    fn order(sale: u64) -> Order {
        let order_id = OrderId::generate_for(SaleId(sale));
        let claim = Claim { order_id, user_id: UserId(u64::MAX), quantity: 1_000, accepted_at: now() };
        Order { sale_id: SaleId(sale), epoch: 1, claim }
    }

    #[test]
    fn news_read_back_as_written_and_a_full_batch_is_small() {
        let at = now();
        let mut orders: Vec<_> =
            (0..2_000).map(|_| LedgerOrder::committed(&order(7), 100_000_000, at)).collect();
        assert!(write(&FateNews { orders: orders.clone(), changed: Vec::new() }).len() < 240_000);
        orders.push(LedgerOrder::rejected(&order(7), RejectReason::SoldOut, at));
        orders.push(LedgerOrder {
            status: OrderStatus::Cancelled,
            cancelled: Some(CancelReason::Expired),
            sequence: 2,
            ..LedgerOrder::committed(&order(u64::MAX), 1, at)
        });
        let news = FateNews { orders, changed: vec![OrderId::generate()] };
        assert_eq!(read(write(&news).as_bytes()), Ok(Heard::News(news)));
        assert_eq!(read(gap().as_bytes()), Ok(Heard::Gap));
        assert!(read(b"{").is_err());
    }
}
