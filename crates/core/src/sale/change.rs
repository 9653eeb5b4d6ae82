//! What an operator may change about a sale, and the rule that decides it. Every ledger uses this one.

use chrono::Datelike;

use super::new::{NewSale, is_name, not_a_name};
use super::{Sale, SaleState};
use crate::{FieldError, Timestamp};

/// A wish to change a sale. What is `None` stays as it is. Every value is the one to be reached, not a difference, so the same
/// change again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SaleChange {
    /// A name for people: 1 to 200 characters.
    pub name: Option<String>,
    /// What is sold: 1 to 200 characters.
    pub product: Option<String>,
    /// All units on sale since the beginning, the sold ones included: from the present number to 100,000,000.
    pub stock: Option<u32>,
    /// The first moment after the sale: later than its start, and not in the past.
    pub ends_at: Option<Timestamp>,
    /// Whether the sale ends now, if it has not ended yet. It may be one that has not started.
    pub close: bool,
    /// Whether buyers are asked to come back later.
    pub paused: Option<bool>,
}

/// Why a sale was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotChanged {
    /// It is closed out: it has no gate any more.
    ClosedOut,
    /// These values are not allowed.
    Invalid(Vec<FieldError>),
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaleChanged {
    /// The sale as it is now. Its revision is one higher if anything is different.
    Done(Box<Sale>),
    /// There is no such sale.
    NoSuchSale,
    /// The sale stays as it is.
    Refused(NotChanged),
}

impl SaleChange {
    /// The sale after the change, on the next revision; on the same one if nothing is different.
    ///
    /// # Errors
    /// Why it is not allowed, every wrong field at once.
    pub fn apply(&self, sale: &Sale, now: Timestamp) -> Result<Sale, NotChanged> {
        let mut next = sale.clone();
        if let Some(name) = &self.name {
            next.name.clone_from(name);
        }
        if let Some(product) = &self.product {
            next.product.clone_from(product);
        }
        next.stock = self.stock.unwrap_or(sale.stock);
        next.ends_at = self.ends_at.unwrap_or(sale.ends_at);
        if self.close {
            next.ends_at = next.ends_at.min(now);
        }
        next.paused = self.paused.unwrap_or(sale.paused);
        if next == *sale {
            return Ok(next);
        }
        if sale.state == SaleState::ClosedOut {
            return Err(NotChanged::ClosedOut);
        }
        let wrong = self.wrong_fields(sale, now);
        if !wrong.is_empty() {
            return Err(NotChanged::Invalid(wrong));
        }
        next.revision += 1;
        Ok(next)
    }

    fn wrong_fields(&self, sale: &Sale, now: Timestamp) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        for (field, text) in [("name", &self.name), ("product", &self.product)] {
            if let Some(text) = text.as_deref().filter(|text| !is_name(text)) {
                wrong.push(FieldError::new(field, not_a_name(text)));
            }
        }
        match self.stock {
            Some(stock) if stock < sale.stock => {
                let why = format!(
                    "is {stock}; the sale has {} units and can only get more, because units may be promised already",
                    sale.stock
                );
                wrong.push(FieldError::new("stock", why));
            }
            Some(stock) if stock > NewSale::MAX_STOCK => {
                let most = NewSale::MAX_STOCK;
                wrong.push(FieldError::new(
                    "stock",
                    format!("is {stock}; allowed are {most} units at the most"),
                ));
            }
            _ => {}
        }
        if let Some(ends_at) = self.ends_at.filter(|ends_at| *ends_at != sale.ends_at) {
            let why = if ends_at <= sale.starts_at {
                Some(format!("is {ends_at}, not after starts_at, {}", sale.starts_at))
            } else if ends_at < now {
                Some(format!("is {ends_at}, which is over; close the sale to end it now"))
            } else if ends_at.year() >= 3000 {
                Some("must lie before the year 3000".to_owned())
            } else {
                None
            };
            wrong.extend(why.map(|why| FieldError::new("ends_at", why)));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;
    use crate::{Phase, SaleId};

    fn sale() -> Sale {
        let now = crate::now();
        let new = serde_json::json!({
            "name": "phone", "stock": 10, "starts_at": now - Duration::hours(1), "ends_at": now + Duration::hours(1),
        });
        Sale::new(SaleId(1), serde_json::from_value(new).unwrap())
    }

    fn fields(refused: Result<Sale, NotChanged>) -> Vec<&'static str> {
        let Err(NotChanged::Invalid(wrong)) = refused else { panic!("{refused:?}") };
        wrong.iter().map(|wrong| wrong.field).collect()
    }

    #[test]
    fn a_change_raises_the_revision_once() {
        let (sale, now) = (sale(), crate::now());
        let change = SaleChange { stock: Some(12), paused: Some(true), ..SaleChange::default() };
        let next = change.apply(&sale, now).unwrap();
        assert_eq!(next, Sale { stock: 12, paused: true, revision: 1, ..sale });
        assert_eq!(change.apply(&next, now).unwrap(), next);
        assert_eq!(SaleChange::default().apply(&next, now).unwrap(), next);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let (sale, now) = (sale(), crate::now());
        let wrong = SaleChange {
            name: Some(" ".to_owned()),
            product: Some("x".repeat(201)),
            stock: Some(9),
            ends_at: Some(now - Duration::seconds(1)),
            ..SaleChange::default()
        };
        assert_eq!(fields(wrong.apply(&sale, now)), ["name", "product", "stock", "ends_at"]);
        let wrong = SaleChange {
            stock: Some(NewSale::MAX_STOCK + 1),
            ends_at: Some(sale.starts_at),
            ..SaleChange::default()
        };
        assert_eq!(fields(wrong.apply(&sale, now)), ["stock", "ends_at"]);
    }

    #[test]
    fn a_sale_is_closed_once_also_before_its_start() {
        let (sale, now) = (sale(), crate::now());
        let close = SaleChange { close: true, ..SaleChange::default() };
        let closed = close.apply(&sale, now).unwrap();
        assert_eq!((closed.ends_at, closed.phase(now)), (now, Phase::Closed));
        assert_eq!(close.apply(&closed, now + Duration::hours(2)).unwrap(), closed);
        let upcoming = Sale { starts_at: now + Duration::minutes(1), ..sale };
        assert_eq!(upcoming.phase(now), Phase::Upcoming);
        assert_eq!(close.apply(&upcoming, now).unwrap().phase(now), Phase::Closed);
    }

    #[test]
    fn a_sale_that_is_closed_out_stays_as_it_is() {
        let (sale, now) = (Sale { state: SaleState::ClosedOut, ..sale() }, crate::now());
        let later = SaleChange { ends_at: Some(now + Duration::hours(2)), ..SaleChange::default() };
        assert_eq!(later.apply(&sale, now), Err(NotChanged::ClosedOut));
    }
}
