//! Why there is no answer to a request, and whether it may have been carried out all the same.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use seckill_api::ProblemKind;
use seckill_core::{OrderId, Timestamp};
use serde::Deserialize;
use thiserror::Error;

use crate::calls::Call;

/// There is no answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The gateway refuses the request. What to do depends on the kind of the problem: [`ProblemKind::what_to_do`].
    #[error("{problem}")]
    Refused {
        /// What was asked.
        call: Call,
        /// What the gateway says.
        problem: Box<Problem>,
    },
    /// No connection could be made, so nothing has happened. Check the address, and that a gateway runs there; then send the request
    /// again.
    #[error("no connection to {server}, so nothing has happened: {reason}")]
    NoConnection {
        /// The address.
        server: String,
        /// What the operating system says.
        reason: String,
    },
    /// The request was sent, and no whole answer came: it may have been carried out. Look whether it was, or send the same request
    /// again: an order, a payment under the same key and every change of an operator have no second effect.
    #[error("no whole answer from {server} to {call}, which may have been carried out: {reason}")]
    AnswerLost {
        /// What was asked.
        call: Call,
        /// The address.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not one of a gateway: something else answers there, or a version that this client cannot read. The request may
    /// have been carried out. Check the address.
    #[error("{server} answered {call} with {status}, which is not what a gateway answers: {reason}")]
    Unreadable {
        /// What was asked.
        call: Call,
        /// The address.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The request cannot be sent, so nothing has happened. Correct what the reason names.
    #[error("{call} cannot be sent: {reason}")]
    Unsendable {
        /// What was asked.
        call: Call,
        /// Why not.
        reason: String,
    },
    /// The address cannot be one of a gateway.
    #[error("{server:?} cannot be a gateway: {reason}; give something like http://127.0.0.1:8080")]
    Server {
        /// The address, without a password.
        server: String,
        /// Why not.
        reason: String,
    },
    /// Nobody knows whether a sale was created, after several tries. The same request under the same key opens no second one.
    #[error("nobody knows whether the sale was created, after {tries} tries: {last}")]
    Unsettled {
        /// How often the request was sent.
        tries: u32,
        /// Why the last try gave no answer.
        last: Box<Error>,
    },
}

impl Error {
    /// What kind of problem a refusal is.
    pub fn kind(&self) -> Option<&ProblemKind> {
        self.problem().map(|problem| &problem.kind)
    }

    /// What the gateway says, where it has refused the request.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            Self::Unsettled { last, .. } => last.problem(),
            _ => None,
        }
    }

    /// The HTTP status of an answer that was a refusal or could not be read.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            Self::Unreadable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the request may have been carried out all the same.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => problem.leaves_open(),
            Self::AnswerLost { .. } | Self::Unreadable { .. } | Self::Unsettled { .. } => true,
            Self::NoConnection { .. } | Self::Unsendable { .. } | Self::Server { .. } => false,
        }
    }
}

/// Tells what is not there from what could not be found out: `None` where the gateway has answered that there is no such thing.
///
/// # Errors
/// Every other one.
pub fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Some(&ProblemKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A refusal of a gateway (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What it is about.
    pub kind: ProblemKind,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What has happened this time.
    pub detail: String,
    /// Names the request in the gateway's log.
    pub request_id: Option<String>,
    /// When to come back at the earliest.
    pub retry_after: Option<Duration>,
    /// The order that it is about.
    pub order_id: Option<OrderId>,
    /// Units that are left, of a sale that has too few.
    pub remaining: Option<u32>,
    /// When it will not be refused any more.
    pub starts_at: Option<Timestamp>,
    /// What is wrong with the fields of the request.
    pub errors: Vec<WrongField>,
}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WrongField {
    /// The field's name in the request.
    pub field: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl Problem {
    /// Reads the body of a refusal; `None`: it is no problem.
    pub(crate) fn read(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            r#type: String,
            title: String,
            #[serde(default)]
            detail: String,
            request_id: Option<String>,
            order_id: Option<OrderId>,
            remaining: Option<u32>,
            starts_at: Option<Timestamp>,
            #[serde(default)]
            errors: Vec<WrongField>,
        }
        let body: Body = serde_json::from_slice(body).ok()?;
        let slug = body.r#type.rsplit('/').next().unwrap_or_default();
        Some(Self {
            kind: slug.into(),
            title: body.title,
            status: status.as_u16(),
            detail: body.detail,
            request_id: body.request_id,
            retry_after,
            order_id: body.order_id,
            remaining: body.remaining,
            starts_at: body.starts_at,
            errors: body.errors,
        })
    }

    /// Whether the gateway itself does not know what has happened.
    fn leaves_open(&self) -> bool {
        matches!(
            self.kind,
            ProblemKind::OutcomeUnknown | ProblemKind::ChangeUnknown | ProblemKind::SaleUnknown
        )
    }
}
