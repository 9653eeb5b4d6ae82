//! Why a run was not carried out: a sentence, and a code with its numbers, so that a page can translate it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Why a run has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `gateway_gone`, `workers_silent`, `too_long`, `not_looked_up`, `unclear`, `broke_down` or `refused`.
    pub code: String,
    /// The numbers in the sentence.
    pub args: Value,
    /// The sentence, in English.
    pub message: String,
}

impl Failure {
    fn new(code: &str, args: Value, message: String) -> Self {
        Self { code: code.to_owned(), args, message }
    }

    /// The gateway was killed.
    pub(super) fn gateway_gone() -> Self {
        Self::new("gateway_gone", json!({}), "the gateway that ran it is gone".to_owned())
    }

    /// Accepted orders wait for workers that have not written for so many seconds.
    pub(super) fn workers_silent(orders: u64, seconds: u64) -> Self {
        let message = format!(
            "{orders} accepted orders still wait for the workers, which have written nothing for {seconds} s; resume them, or raise \
             the drain rate, and send the load again"
        );
        Self::new("workers_silent", json!({"orders": orders, "seconds": seconds}), message)
    }

    /// Requests were still waiting to be sent.
    pub(super) fn too_long(seconds: u64) -> Self {
        let message = format!(
            "after {seconds} s requests were still waiting to be sent; lower the peak rate or the buyers"
        );
        Self::new("too_long", json!({"seconds": seconds}), message)
    }

    pub(super) fn not_looked_up() -> Self {
        Self::new("not_looked_up", json!({}), "its orders could not be looked up".to_owned())
    }

    /// The result is not known, for the reasons that the report gives.
    pub(super) fn unclear(reasons: String) -> Self {
        Self::new("unclear", json!({"reasons": reasons}), reasons)
    }

    pub(super) fn broke_down() -> Self {
        Self::new("broke_down", json!({}), "the load generator broke down; see the log".to_owned())
    }

    /// The target cannot be reached, or does not take the load.
    pub(super) fn refused(reason: String) -> Self {
        Self::new("refused", json!({"reason": reason}), reason)
    }
}
