//! Why a load test could not begin. What happens to a single request is an [`Outcome`](crate::Outcome), never an error.

use thiserror::Error;

/// A load test could not begin; no request has been sent.
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
