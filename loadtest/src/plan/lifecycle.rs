//! What buyers do once they have an order: each pays, pays twice, pays late, never pays, cancels, or pays and wants the money
//! back. Nothing here opens a connection.

use std::time::Duration;

use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::fields::duration;
use crate::plan::stages::parse_duration;

/// How long after its commit an order can be paid, unless a time is given.
const DEFAULT_WINDOW: Duration = Duration::from_secs(5);
/// The shortest window that a sale can have.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// The price of one unit in hundredths, unless one is given.
const DEFAULT_PRICE: u64 = 1_999;
/// The highest price that a sale can have.
const MAX_PRICE: u64 = 100_000_000_000;
/// How much the sum of the shares may differ from 1: the sum of decimal fractions is not exact.
const ROUNDING: f64 = 1e-6;
/// Late payments come within this time after the window, so that some of them race the expiry of their order.
const LATE_WITHIN: Duration = Duration::from_secs(2);

/// What one buyer does with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Pays at once.
    Pay,
    /// Sends the same payment twice at the same moment, under one key.
    PayTwice,
    /// Pays after the window.
    PayLate,
    /// Never pays, so that the order expires.
    Expire,
    /// Cancels the order.
    Cancel,
    /// Pays, and then wants the money back.
    Refund,
}

impl Behaviour {
    pub const ALL: [Self; 6] =
        [Self::Pay, Self::PayTwice, Self::PayLate, Self::Expire, Self::Cancel, Self::Refund];

    /// Its name in a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::PayTwice => "pay twice",
            Self::PayLate => "pay late",
            Self::Expire => "expire",
            Self::Cancel => "cancel",
            Self::Refund => "refund",
        }
    }
}

/// What buyers do after the order, as users write it: flags, or the table `[lifecycle]` of a scenario file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifecycleFlags {
    /// Go on after the order, in a sale that is made with this payment window: how long after its commit an order can be
    /// paid, 1s or more [default with the preset lifecycle: 5s].
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "After the order")]
    #[serde(deserialize_with = "duration")]
    pub payment_window: Option<Duration>,
    /// The price of one unit of the sale that is made, in hundredths. Refunds above the server's limit wait for a human
    /// [default: 1999].
    #[arg(long, value_name = "CENTS", value_parser = value_parser!(u64).range(1..=MAX_PRICE), help_heading = "After the order")]
    pub price: Option<u64>,
    /// The share of orders, 0 to 1, that are paid. This share and the next five add up to 1 [default: 0.5].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub pay: Option<f64>,
    /// The share whose payment is sent twice at the same moment, under one key [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub pay_twice: Option<f64>,
    /// The share that is paid after the payment window, which is too late [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub pay_late: Option<f64>,
    /// The share that is never paid and expires [default: 0.15].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub expire: Option<f64>,
    /// The share that is cancelled by its buyer [default: 0.05].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub cancel: Option<f64>,
    /// The share that is paid and then given back for the money [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = "After the order")]
    pub refund: Option<f64>,
}

impl LifecycleFlags {
    /// Fields that are not set are taken from `base`.
    #[must_use]
    pub(crate) fn over(self, base: Self) -> Self {
        Self {
            payment_window: self.payment_window.or(base.payment_window),
            price: self.price.or(base.price),
            pay: self.pay.or(base.pay),
            pay_twice: self.pay_twice.or(base.pay_twice),
            pay_late: self.pay_late.or(base.pay_late),
            expire: self.expire.or(base.expire),
            cancel: self.cancel.or(base.cancel),
            refund: self.refund.or(base.refund),
        }
    }

    /// What the buyers do after the order; `None`: no field is set, so they do nothing.
    ///
    /// # Errors
    /// [`Error::Plan`] for shares that do not add up to 1, or a field outside its range.
    pub fn plan(&self, seed: u64) -> Result<Option<LifecyclePlan>, Error> {
        if *self == Self::default() {
            return Ok(None);
        }
        let window = self.payment_window.unwrap_or(DEFAULT_WINDOW);
        let price_cents = self.price.unwrap_or(DEFAULT_PRICE);
        let given = [self.pay, self.pay_twice, self.pay_late, self.expire, self.cancel, self.refund];
        let shares = Shares::new(given)?;
        if window < SHORTEST_WINDOW {
            let value = humantime::format_duration(window).to_string();
            return Err(Error::Plan { field: "payment_window", value, allowed: "1s or more" });
        }
        if !(1..=MAX_PRICE).contains(&price_cents) {
            let value = price_cents.to_string();
            return Err(Error::Plan { field: "price", value, allowed: "1 to 100000000000, in hundredths" });
        }
        Ok(Some(LifecyclePlan { window, price_cents, shares, seed }))
    }
}

/// The shares of the behaviours, in the order of [`Behaviour::ALL`]. They add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares([f64; 6]);

impl Default for Shares {
    fn default() -> Self {
        Self([0.5, 0.1, 0.1, 0.15, 0.05, 0.1])
    }
}

impl Shares {
    /// The shares that are given, and the defaults of the others.
    fn new(given: [Option<f64>; 6]) -> Result<Self, Error> {
        let Self(mut shares) = Self::default();
        for (share, given) in shares.iter_mut().zip(given) {
            *share = given.unwrap_or(*share);
        }
        let sum: f64 = shares.iter().sum();
        if shares.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() <= ROUNDING {
            return Ok(Self(shares));
        }
        let [pay, twice, late, expire, cancel, refund] = shares;
        Err(Error::Plan {
            field: "the sum of the shares",
            value: format!(
                "{sum:.3} (pay {pay}, pay twice {twice}, pay late {late}, expire {expire}, cancel {cancel}, refund {refund})"
            ),
            allowed: "shares of 0 to 1 that add up to 1, such as --pay 0.6 --pay-twice 0",
        })
    }

    /// The share of one behaviour.
    pub fn of(&self, behaviour: Behaviour) -> f64 {
        self.0[behaviour as usize]
    }
}

/// What the buyers do after the order. The same seed makes the same buyers do the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LifecyclePlan {
    /// How long after its commit an order can be paid.
    pub window: Duration,
    /// The price of one unit, in hundredths.
    pub price_cents: u64,
    pub shares: Shares,
    pub seed: u64,
}

impl LifecyclePlan {
    /// What this buyer does. Any buyers in a row have the behaviours in nearly the planned shares.
    pub fn behaviour(&self, buyer: u32) -> Behaviour {
        let place = self.place(buyer, 0);
        let mut end = 0.0;
        for behaviour in Behaviour::ALL {
            end += self.shares.of(behaviour);
            if place < end {
                return behaviour;
            }
        }
        // The sum may be a rounding error below 1.
        Behaviour::Pay
    }

    /// How long after the window this buyer pays, if late.
    pub fn late_by(&self, buyer: u32) -> Duration {
        LATE_WITHIN.mul_f64(self.place(buyer, 1))
    }

    /// A place from 0 to 1, evenly spread over buyers in a row: multiples of the golden ratio, or of the square root of 2.
    fn place(&self, buyer: u32, dimension: u8) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        const ROOT: u64 = 0x6a09_e667_f3bc_c908;
        let step = if dimension == 0 { GOLDEN } else { ROOT };
        let at = u64::from(buyer).wrapping_add(self.seed.wrapping_mul(7_919));
        (at.wrapping_mul(step) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(flags: LifecycleFlags) -> LifecyclePlan {
        flags.plan(1).unwrap().unwrap()
    }

    fn count(plan: &LifecyclePlan, buyers: u32, behaviour: Behaviour) -> usize {
        (0..buyers).filter(|&buyer| plan.behaviour(buyer) == behaviour).count()
    }

    #[test]
    fn the_buyers_do_what_the_shares_say() {
        let window = Some(Duration::from_secs(3));
        let plan = plan(LifecycleFlags { payment_window: window, ..LifecycleFlags::default() });
        assert_eq!((plan.window, plan.price_cents), (Duration::from_secs(3), 1_999));
        for (behaviour, expected) in Behaviour::ALL.into_iter().zip([1_000, 200, 200, 300, 100, 200]) {
            let found = count(&plan, 2_000, behaviour);
            assert!(found.abs_diff(expected) <= 3, "{behaviour:?}: {found} of {expected}");
        }
        assert!((0..2_000).all(|buyer| plan.late_by(buyer) < LATE_WITHIN));
        let other = LifecyclePlan { seed: 2, ..plan };
        assert!((0..2_000).any(|buyer| plan.behaviour(buyer) != other.behaviour(buyer)));
    }

    #[test]
    fn all_buyers_may_do_the_same() {
        let zero = Some(0.0);
        let flags = LifecycleFlags {
            pay: zero,
            pay_twice: zero,
            pay_late: zero,
            expire: zero,
            cancel: zero,
            refund: Some(1.0),
            ..LifecycleFlags::default()
        };
        assert_eq!(count(&plan(flags), 1_000, Behaviour::Refund), 1_000);
    }

    #[test]
    fn shares_that_do_not_add_up_to_1_are_refused_with_all_of_them() {
        let wrong = [
            LifecycleFlags { pay: Some(0.6), ..LifecycleFlags::default() },
            LifecycleFlags { pay: Some(-0.1), pay_twice: Some(0.7), ..LifecycleFlags::default() },
            LifecycleFlags { pay: Some(f64::NAN), ..LifecycleFlags::default() },
        ];
        for flags in wrong {
            let error = flags.plan(1).unwrap_err().to_string();
            assert!(error.contains("pay twice") && error.contains("add up to 1"), "{error}");
        }
        let right = LifecycleFlags { pay: Some(0.6), pay_twice: Some(0.0), ..LifecycleFlags::default() };
        assert!(right.plan(1).is_ok());
    }

    #[test]
    fn a_window_or_a_price_outside_its_range_is_named() {
        let short =
            LifecycleFlags { payment_window: Some(Duration::from_millis(5)), ..LifecycleFlags::default() };
        let free = LifecycleFlags { price: Some(0), ..LifecycleFlags::default() };
        for (flags, field) in [(short, "payment_window"), (free, "price")] {
            assert!(flags.plan(1).unwrap_err().to_string().contains(field));
        }
        assert_eq!(LifecycleFlags::default().plan(1).unwrap(), None, "without a field nothing is done");
    }
}
