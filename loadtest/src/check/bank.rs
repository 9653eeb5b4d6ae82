//! The bank's own list of charges, beside what the server says of them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::check::lines::{Lines, number};
use crate::error::Error;
use crate::send::client::{Clients, Failure};
use crate::send::target::Target;
use crate::send::template::Template;

/// The first line of the list.
const HEAD: &[u8] = b"key,order_id,amount_cents,status,refunded_cents";
const DOING: &str = "read the bank's charges";

/// The charges of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OrderCharges {
    /// Charges that the bank has carried out.
    pub succeeded: u64,
    pub charged_cents: u64,
    pub refunded_cents: u64,
}

/// All charges since the bank was first read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Charges {
    /// By order; every order that was asked for is in it.
    pub of: BTreeMap<Uuid, OrderCharges>,
    /// Charges of other orders that the bank has carried out, and the first of these orders.
    pub others: u64,
    pub other: Option<Uuid>,
}

/// A bank. Charges that it had when it was first read do not count.
pub struct Bank {
    clients: Clients,
    before: u64,
}

impl Bank {
    /// Connects, and counts the charges that the bank has already.
    ///
    /// # Errors
    /// [`Error::Connect`], and [`Error::Shop`] when the list cannot be read.
    pub async fn open(target: Target) -> Result<Self, Error> {
        let clients = Clients::connect(target, 1).await?;
        let mut bank = Self { clients, before: 0 };
        let mut count = 0;
        bank.read(|_| {
            count += 1;
            Some(())
        })
        .await?;
        bank.before = count;
        Ok(bank)
    }

    /// The charges since then, for these orders and for all others together.
    ///
    /// # Errors
    /// [`Error::Shop`] when the list cannot be read to its end.
    pub async fn charges(&self, orders: impl Iterator<Item = Uuid>) -> Result<Charges, Error> {
        let of = orders.map(|order| (order, OrderCharges::default())).collect();
        let mut charges = Charges { of, ..Charges::default() };
        let (mut at, before) = (0, self.before);
        self.read(|line| {
            at += 1;
            if at > before { charges.row(line) } else { Some(()) }
        })
        .await?;
        Ok(charges)
    }

    async fn read(&self, mut row: impl FnMut(&[u8]) -> Option<()>) -> Result<(), Error> {
        let wrong = |reason: String| Error::Shop { doing: DOING, reason };
        let path = self.clients.target().path("/v1/charges.csv");
        let uri = path.try_into().expect("the path of a URL makes a path");
        let request = Template::get(self.clients.target()).anonymous(uri);
        let mut lines = Lines::default();
        let mut line = |number: u64, line: &[u8]| match number {
            1 => line == HEAD,
            _ => line.is_empty() || row(line).is_some(),
        };
        let status = self.clients.another().stream(request, |piece| lines.take(piece, &mut line)).await;
        match status.map_err(|failure: Failure| wrong(failure.to_string()))? {
            200 => lines.end(line).map_err(wrong),
            status => Err(wrong(format!("the bank answers {status}"))),
        }
    }
}

impl Charges {
    fn row(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.split(|&byte| byte == b',');
        let _key = Uuid::try_parse_ascii(fields.next()?).ok()?;
        let order = Uuid::try_parse_ascii(fields.next()?).ok()?;
        let amount = number(fields.next()?)?;
        let succeeded = match fields.next()? {
            b"succeeded" => true,
            b"declined" => false,
            _ => return None,
        };
        let refunded = number(fields.next()?)?;
        if !succeeded {
            return Some(());
        }
        match self.of.get_mut(&order) {
            Some(charges) => {
                charges.succeeded += 1;
                charges.charged_cents = charges.charged_cents.saturating_add(amount);
                charges.refunded_cents = charges.refunded_cents.saturating_add(refunded);
            }
            None => {
                self.others += 1;
                self.other.get_or_insert(order);
            }
        }
        Some(())
    }

    /// Charges of the orders that were asked for, what they came to, and what went back.
    pub fn totals(&self) -> OrderCharges {
        self.of.values().fold(OrderCharges::default(), |sum, one| OrderCharges {
            succeeded: sum.succeeded + one.succeeded,
            charged_cents: sum.charged_cents.saturating_add(one.charged_cents),
            refunded_cents: sum.refunded_cents.saturating_add(one.refunded_cents),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_added_up_by_order_and_declined_ones_do_not_count() {
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut charges = Charges { of: [(mine, OrderCharges::default())].into(), ..Charges::default() };
        let key = Uuid::from_u128(9);
        for line in [
            format!("{key},{mine},500,succeeded,200"),
            format!("{key},{mine},500,succeeded,0"),
            format!("{key},{mine},500,declined,0"),
            format!("{key},{other},700,succeeded,0"),
        ] {
            assert!(charges.row(line.as_bytes()).is_some(), "{line}");
        }
        let sum = OrderCharges { succeeded: 2, charged_cents: 1_000, refunded_cents: 200 };
        assert_eq!((charges.totals(), charges.others, charges.other), (sum, 1, Some(other)));
        assert!(
            charges.row(b"x,y").is_none()
                && charges.row(format!("{key},{mine},1,lost,0").as_bytes()).is_none()
        );
    }
}
