//! Reads what the gate's scripts and commands answer. Whatever is not as seckill writes it is an error, never guessed.

use deadpool_redis::redis::{FromRedisValue, Value, from_redis_value};
use seckill_core::{
    Claim, Decision, GateCondition, GateLevel, Holder, HolderPage, Holding, KnownSales, OrderId,
    QueueProgress, Reservation, ReservationId, Reserved, SaleId, SoldOutSince, Timestamp, UserId,
};

/// What was found instead of what was expected.
type Found = String;

/// Reads the answer of `reserve.lua` to so many claims.
pub(super) fn reserved(reply: Value, claims: usize) -> Result<Reserved, Found> {
    let mut words = Words(list(reply)?.into_iter());
    let entry: String = words.next()?;
    let reservation = if entry.is_empty() { None } else { Some(entry.parse()?) };
    let decisions = (0..claims).map(|_| decision(&mut words)).collect::<Result<_, _>>()?;
    match words.0.next() {
        None => Ok(Reserved { decisions, reservation }),
        Some(_) => Err(format!("more than {claims} decisions")),
    }
}

fn decision(words: &mut Words) -> Result<Decision, Found> {
    Ok(match words.next::<u8>()? {
        0 => Decision::Reserved,
        1 => Decision::Replayed {
            order_id: order_id(&words.next::<String>()?)?,
            quantity: words.next()?,
            pending: words.next::<u8>()? == 1,
            accepted_at: timestamp(words.next()?)?,
        },
        2 => Decision::SoldOut { remaining: words.next()? },
        3 => Decision::OverLimit { limit: words.next()? },
        4 => Decision::NotOpen,
        5 => Decision::Closed,
        6 => Decision::Paused,
        code => return Err(format!("a decision of code {code}")),
    })
}

/// Reads the answer of `stranded.lua`.
pub(super) fn reservations(reply: Value) -> Result<Vec<Reservation>, Found> {
    list(reply)?.into_iter().map(reservation).collect()
}

fn reservation(entry: Value) -> Result<Reservation, Found> {
    let (id, fields): (String, Vec<(String, String)>) = read(entry)?;
    let claims = fields.iter().map(|(order, text)| claim(order, text)).collect::<Result<_, _>>()?;
    Ok(Reservation { id: id.parse()?, claims })
}

/// Reads one field of a pending entry: order id, and "user:quantity:accepted_at".
fn claim(order: &str, text: &str) -> Result<Claim, Found> {
    let parts: Vec<_> = text.split(':').collect();
    let &[user, quantity, accepted_at] = parts.as_slice() else {
        return Err(format!("the pending order {text:?}"));
    };
    Ok(Claim {
        order_id: order_id(order)?,
        user_id: UserId(number(user)?),
        quantity: number(quantity)?,
        accepted_at: timestamp(number(accepted_at)?)?,
    })
}

/// Reads what a user's entry among the buyers of each of `sales` is.
pub(super) fn holdings(reply: Value, sales: &[SaleId]) -> Result<Vec<Holding>, Found> {
    let found: Vec<Option<String>> = read(reply)?;
    if found.len() != sales.len() {
        return Err(format!("{} answers to {} questions", found.len(), sales.len()));
    }
    let held = sales.iter().zip(found).filter_map(|(sale, text)| Some(holding(*sale, &text?)));
    held.collect()
}

fn holding(sale_id: SaleId, text: &str) -> Result<Holding, Found> {
    let (order_id, quantity, accepted_at, _) = buyer(text)?;
    Ok(Holding { sale_id, order_id, quantity, accepted_at })
}

/// Reads one buyer: "order_id:quantity:accepted_at:entry".
fn buyer(text: &str) -> Result<(OrderId, u32, Timestamp, ReservationId), Found> {
    let parts: Vec<_> = text.split(':').collect();
    let &[order, quantity, accepted_at, entry] = parts.as_slice() else {
        return Err(format!("the buyer {text:?}"));
    };
    Ok((order_id(order)?, number(quantity)?, timestamp(number(accepted_at)?)?, entry.parse()?))
}

/// Writes a buyer whose order is in the ledger. Its entry is one that the pending log never has, since a sequence number of 0
/// stands for no orders; its time is the earliest at which the order can have been set aside.
pub(super) fn settled_holder(claim: &Claim) -> String {
    let accepted_at = claim.accepted_at.timestamp_millis().max(0);
    format!("{}:{}:{accepted_at}:{accepted_at}-0", claim.order_id, claim.quantity)
}

/// Reads the answer of HSCAN on the buyers.
pub(super) fn holders(reply: Value) -> Result<HolderPage, Found> {
    let (cursor, fields): (u64, Vec<(String, String)>) = read(reply)?;
    let holder = |(user, text): &(String, String)| {
        let (order_id, quantity, accepted_at, entry) = buyer(text)?;
        let claim = Claim { order_id, user_id: UserId(number(user)?), quantity, accepted_at };
        Ok(Holder { claim, set_aside_ms: entry.millis })
    };
    // The field `-` is no user: it keeps the key in being.
    let holders = fields.iter().filter(|(user, _)| user != "-").map(holder).collect::<Result<_, Found>>()?;
    Ok(HolderPage { holders, next: (cursor != 0).then_some(cursor) })
}

/// Reads the answer of `condition.lua`.
pub(super) fn condition(reply: Value) -> Result<GateCondition, Found> {
    let mut words = Words(list(reply)?.into_iter());
    Ok(match words.next::<u8>()? {
        0 => GateCondition::Sound,
        1 => GateCondition::Missing,
        2 => GateCondition::OtherRun { epoch: words.next()? },
        3 => GateCondition::OtherEpoch { epoch: words.next()?, fenced: words.next()? },
        code => return Err(format!("a condition of code {code}")),
    })
}

/// Reads a moment in milliseconds, or nothing.
pub(super) fn maybe_millis(reply: Value) -> Result<Option<u64>, Found> {
    read(reply)
}

/// Reads the answer of `progress.lua`.
pub(super) fn progress(reply: Value) -> Result<Option<QueueProgress>, Found> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let (now_ms, last_set_aside_ms, made, came, oldest, reconciled_ms): (_, _, String, String, String, _) =
        read(reply)?;
    let maybe = |text: String| if text.is_empty() { Ok(None) } else { number(&text).map(Some) };
    Ok(Some(QueueProgress {
        now_ms,
        last_set_aside_ms,
        marker: maybe(made)?.zip(maybe(came)?),
        oldest_held_ms: maybe(oldest)?,
        reconciled_ms,
    }))
}

/// Reads the sales that were kept, or nothing.
pub(super) fn known_sales(reply: Value) -> Result<Option<KnownSales>, Found> {
    let json: Option<String> = read(reply)?;
    let parse = |json: String| {
        serde_json::from_str(&json).map_err(|error| format!("known sales that cannot be read: {error}"))
    };
    json.map(parse).transpose()
}

/// Reads the answer of `level.lua`.
pub(super) fn level(reply: Value) -> Result<Option<GateLevel>, Found> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let (epoch, remaining, orders, pending_orders) = read(reply)?;
    Ok(Some(GateLevel { epoch, remaining, orders, pending_orders }))
}

/// Reads the answer of `sold_out.lua`.
pub(super) fn sold_out(reply: Value) -> Result<Option<SoldOutSince>, Found> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let (returns, holders) = read(reply)?;
    Ok(Some(SoldOutSince { returns, holders }))
}

/// The words of a flat list, one after the other.
struct Words(std::vec::IntoIter<Value>);

impl Words {
    fn next<T: FromRedisValue>(&mut self) -> Result<T, Found> {
        read(self.0.next().ok_or("an answer that ends too early")?)
    }
}

fn list(reply: Value) -> Result<Vec<Value>, Found> {
    match reply {
        Value::Array(values) => Ok(values),
        other => Err(format!("{other:?} instead of a list")),
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Found> {
    from_redis_value(value).map_err(|error| error.to_string())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Found> {
    text.parse().map_err(|_| format!("{text:?} instead of a number"))
}

fn order_id(text: &str) -> Result<OrderId, Found> {
    text.parse().map_err(|_| format!("{text:?} instead of an order id"))
}

fn timestamp(millis: i64) -> Result<Timestamp, Found> {
    Timestamp::from_timestamp_millis(millis).ok_or_else(|| format!("{millis} instead of a time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "018bcfe5-687b-7000-8000-000000000001";

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn every_decision_is_read() {
        let words =
            [Value::Int(0), Value::Int(1), bulk(ORDER), bulk("2"), Value::Int(1), bulk("1700000000123")];
        let more = [2, 7, 3, 1, 4, 5, 6].map(Value::Int);
        let reply = Value::Array([vec![bulk("17-3")], words.to_vec(), more.to_vec()].concat());
        let read = reserved(reply, 7).unwrap();
        assert_eq!(read.reservation, Some(ReservationId { millis: 17, sequence: 3 }));
        assert_eq!(
            read.decisions,
            [
                Decision::Reserved,
                Decision::Replayed {
                    order_id: ORDER.parse().unwrap(),
                    quantity: 2,
                    pending: true,
                    accepted_at: Timestamp::from_timestamp_millis(1_700_000_000_123).unwrap(),
                },
                Decision::SoldOut { remaining: 7 },
                Decision::OverLimit { limit: 1 },
                Decision::NotOpen,
                Decision::Closed,
                Decision::Paused,
            ]
        );
    }

    #[test]
    fn what_is_not_as_we_write_it_is_an_error() {
        for (reply, claims) in [
            (Value::Nil, 0),
            (Value::Array(vec![]), 0),
            (Value::Array(vec![bulk("x")]), 0),
            (Value::Array(vec![bulk("")]), 1),
            (Value::Array(vec![bulk(""), Value::Int(0), Value::Int(0)]), 1),
            (Value::Array(vec![bulk(""), Value::Int(9)]), 1),
            (Value::Array(vec![bulk(""), Value::Int(1), bulk("no id")]), 1),
        ] {
            assert!(reserved(reply.clone(), claims).is_err(), "{reply:?}");
        }
        assert!(holdings(Value::Array(vec![bulk("a:b")]), &[SaleId(1)]).is_err());
        assert!(level(Value::Array(vec![bulk("1"), bulk(""), Value::Int(0), Value::Int(0)])).is_err());
    }
}
