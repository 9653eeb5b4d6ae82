//! Why a load test could not begin, or its sale could not be looked at. What happens to a single request is an [`Outcome`](crate::send::outcome::Outcome), never an error.

use thiserror::Error;

/// A load test could not begin, so that no order request has been sent; or, for [`Error::Shop`], a question beside the
/// orders got no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The target is no address that can be used.
    #[error("{url:?} cannot be a target: {reason}; give something like http://127.0.0.1:8080")]
    Target {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers at the target.
    #[error("cannot connect to {target}: {reason}; check that the server runs and listens there")]
    Connect {
        /// The target.
        target: String,
        /// What the operating system said.
        reason: String,
    },
    /// The plan cannot be carried out.
    #[error("{field} is {value}; allowed is {allowed}")]
    Plan {
        /// The plan's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A scenario file that cannot be read.
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
        /// What contradicts what.
        what: &'static str,
        /// The right form.
        example: &'static str,
    },
    /// A text that cannot be read.
    #[error("the {what} {text:?} cannot be read: {reason}; give something like {example}")]
    Malformed {
        /// What the text is for, such as `stages`.
        what: &'static str,
        /// As it was given.
        text: String,
        /// What is wrong with it.
        reason: String,
        /// The right form.
        example: &'static str,
    },
    /// The admin token cannot be sent.
    #[error(
        "the admin token cannot be sent in a header: it is empty or has a character other than visible ASCII"
    )]
    AdminToken,
    /// Something other than an order went wrong at the server.
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
        /// The target.
        target: String,
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
    TooFewTokens {
        /// Tokens given.
        tokens: usize,
        /// Buyers planned.
        buyers: u64,
    },
}
