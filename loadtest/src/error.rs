//! Faults of a load test as a whole. How a single request ended is an [`Outcome`](crate::send::outcome::Outcome), never an
//! error.

use thiserror::Error;

/// A load test could not begin, and no order request was sent. [`Error::Shop`] may also come later: a request other than an
/// order failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The target is not a usable address.
    #[error("{url:?} cannot be a target: {reason}; give something like http://127.0.0.1:8080")]
    Target { url: String, reason: String },
    /// Nobody answers at the target.
    #[error("cannot connect to {target}: {reason}; check that the server runs and listens there")]
    Connect {
        target: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The plan cannot be carried out.
    #[error("{field} is {value}; allowed is {allowed}")]
    Plan {
        /// The plan's field.
        field: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error(
        "the scenario cannot be read: {reason}\nsuch a file has fields like rate = 5000, duration = \"10s\""
    )]
    Scenario {
        /// What is wrong, with the line.
        reason: String,
    },
    /// Fields that contradict each other.
    #[error("{what}; give something like {example}")]
    Clash {
        what: &'static str,
        /// The right form.
        example: &'static str,
    },
    /// A text that cannot be read.
    #[error("the {what} {text:?} cannot be read: {reason}; give something like {example}")]
    Malformed {
        /// What the text is for, such as `stages`.
        what: &'static str,
        text: String,
        reason: String,
        /// The right form.
        example: &'static str,
    },
    #[error(
        "the admin token cannot be sent in a header: it is empty or has a character other than visible ASCII"
    )]
    AdminToken,
    /// A request other than an order failed.
    #[error("cannot {doing}: {reason}")]
    Shop {
        /// What was tried, such as `make a sale`.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// There is no such sale.
    #[error(
        "{target} has no sale {sale}; give the id of one that it has, like --sale 1, or an --admin-token to have one made"
    )]
    NoSuchSale {
        /// The sale's id.
        sale: u64,
        target: String,
    },
    /// The sale's orders cannot be paid.
    #[error(
        "the orders of sale {sale} cannot be paid; give a sale with a price and a payment window, or an --admin-token to have one made"
    )]
    NoPayments {
        /// The sale's id.
        sale: u64,
    },
    /// The sale takes no orders now.
    #[error("sale {sale} is not open: {reason}")]
    NotOpen {
        /// The sale's id.
        sale: u64,
        /// Why not, and what to do.
        reason: String,
    },
    /// A token that no HTTP header can carry.
    #[error(
        "the token of buyer {buyer} (counted from 0) cannot be sent in a header: it is empty or has a character other than visible ASCII"
    )]
    Token {
        /// Whose token, counted from 0.
        buyer: usize,
    },
    /// Fewer tokens than buyers.
    #[error("there are {tokens} tokens for {buyers} buyers; every buyer needs one of their own")]
    TooFewTokens { tokens: usize, buyers: u64 },
}
