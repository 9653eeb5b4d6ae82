//! What an answer means, by the words of the HTTP interface.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::send::client::Answer;

/// How many different names of problems one [`Reader`] keeps. All further ones get the name [`OTHER`].
const MAX_PROBLEMS: usize = 32;
/// The name for an error whose body names no problem.
const UNNAMED: &str = "unnamed";
/// The name for problems beyond [`MAX_PROBLEMS`].
const OTHER: &str = "other";

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 202: the server has promised the order.
    Accepted { order_id: Uuid },
    /// 200: the server had promised this buyer the order before.
    Replayed { order_id: Uuid },
    /// 409 `sold-out`.
    SoldOut,
    /// 429.
    RateLimited,
    /// Any other refusal.
    Refused {
        status: u16,
        /// The last segment of the problem's `type`, such as `not-open`; `unnamed` when the body names none.
        problem: Arc<str>,
    },
    /// 503 `outcome-unknown`: the order may get a row later.
    Unknown { order_id: Uuid },
    /// A success without what the interface promises: without an order id, or a 200 without `Idempotent-Replayed`.
    Malformed { status: u16 },
    /// No whole answer within the time-out. There may be an order, but its id is not known.
    TimedOut,
    /// The connection could not be made, or it broke before the whole answer had arrived. There may be an order.
    ConnectionError,
}

/// The variants of [`Outcome`], for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Accepted,
    Replayed,
    SoldOut,
    RateLimited,
    Refused,
    Unknown,
    Malformed,
    TimedOut,
    ConnectionError,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = Self::ConnectionError as usize + 1;
}

impl Outcome {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Accepted { .. } => Kind::Accepted,
            Self::Replayed { .. } => Kind::Replayed,
            Self::SoldOut => Kind::SoldOut,
            Self::RateLimited => Kind::RateLimited,
            Self::Refused { .. } => Kind::Refused,
            Self::Unknown { .. } => Kind::Unknown,
            Self::Malformed { .. } => Kind::Malformed,
            Self::TimedOut => Kind::TimedOut,
            Self::ConnectionError => Kind::ConnectionError,
        }
    }

    /// The order that the answer names.
    pub fn order_id(&self) -> Option<Uuid> {
        match self {
            Self::Accepted { order_id } | Self::Replayed { order_id } | Self::Unknown { order_id } => {
                Some(*order_id)
            }
            _ => None,
        }
    }

    /// Whether the server has promised the order, so that it must get a final row: a 202, or a 200 that repeats one.
    pub fn is_promise(&self) -> bool {
        matches!(self, Self::Accepted { .. } | Self::Replayed { .. })
    }
}

/// Reads answers. It keeps the names of problems, so that a million refusals share a few strings.
#[derive(Debug, Default)]
pub struct Reader {
    problems: Vec<Arc<str>>,
}

#[derive(Deserialize)]
struct OrderBody {
    order_id: Uuid,
}

#[derive(Deserialize)]
struct ProblemBody<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    order_id: Option<Uuid>,
}

impl Reader {
    /// What the answer to an order request means.
    pub fn read(&mut self, answer: &Answer) -> Outcome {
        let status = answer.status;
        match status {
            202 | 200 => match serde_json::from_slice(&answer.body) {
                Ok(OrderBody { order_id }) if status == 202 => Outcome::Accepted { order_id },
                Ok(OrderBody { order_id }) if answer.replayed => Outcome::Replayed { order_id },
                _ => Outcome::Malformed { status },
            },
            0..=299 => Outcome::Malformed { status },
            429 => Outcome::RateLimited,
            _ => self.refusal(status, &answer.body),
        }
    }

    fn refusal(&mut self, status: u16, body: &[u8]) -> Outcome {
        let Ok(body) = serde_json::from_slice::<ProblemBody<'_>>(body) else {
            return Outcome::Refused { status, problem: self.name(UNNAMED) };
        };
        let problem = last_segment(&body.kind);
        match (status, problem, body.order_id) {
            (409, "sold-out", _) => Outcome::SoldOut,
            (503, "outcome-unknown", Some(order_id)) => Outcome::Unknown { order_id },
            // A proxy whose gateway went away, or was too slow: for the buyer it is as if there had been no proxy.
            (502, "outcome-unknown", None) => Outcome::ConnectionError,
            (504, "outcome-unknown", None) => Outcome::TimedOut,
            _ => Outcome::Refused { status, problem: self.name(problem) },
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.problems.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        let new: Arc<str> = if self.problems.len() < MAX_PROBLEMS { name.into() } else { OTHER.into() };
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(new.clone());
        }
        new
    }
}

fn last_segment(kind: &str) -> &str {
    kind.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(UNNAMED)
}

/// The name of the problem in the body of a refusal, such as `order-state`; `unnamed` where it names none.
pub(crate) fn problem(body: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<ProblemBody<'_>>(body).map(|body| body.kind) {
        Ok(Cow::Borrowed(kind)) => last_segment(kind).into(),
        Ok(Cow::Owned(kind)) => last_segment(&kind).to_owned().into(),
        Err(_) => UNNAMED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn read(status: u16, replayed: bool, body: &str) -> Outcome {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        Reader::default().read(&Answer { status, replayed, retry_after: None, body })
    }

    fn problem(name: &str) -> String {
        format!(r#"{{"type":"https://x/problems/{name}","title":"t","order_id":"{ID}"}}"#)
    }

    #[test]
    fn each_answer_of_the_interface_has_its_outcome() {
        let order_id = ID.parse().unwrap();
        let order = format!(r#"{{"order_id":"{ID}","sale_id":1,"quantity":1,"status":"queued"}}"#);
        let refused = |status, problem: &str| Outcome::Refused { status, problem: problem.into() };
        assert_eq!(read(202, false, &order), Outcome::Accepted { order_id });
        assert_eq!(read(200, true, &order), Outcome::Replayed { order_id });
        assert_eq!(read(409, false, &problem("sold-out")), Outcome::SoldOut);
        assert_eq!(read(409, false, &problem("order-differs")), refused(409, "order-differs"));
        assert_eq!(read(403, false, &problem("not-open")), refused(403, "not-open"));
        assert_eq!(read(429, false, ""), Outcome::RateLimited);
        assert_eq!(read(503, false, &problem("outcome-unknown")), Outcome::Unknown { order_id });
        assert_eq!(read(503, false, &problem("overloaded")), refused(503, "overloaded"));
        assert_eq!(read(502, false, "<html>"), refused(502, "unnamed"));
        let of_a_proxy = r#"{"type":"/problems/outcome-unknown","status":502}"#;
        assert_eq!(read(502, false, of_a_proxy), Outcome::ConnectionError);
        assert_eq!(read(504, false, of_a_proxy), Outcome::TimedOut);
    }

    #[test]
    fn a_success_that_breaks_the_interface_is_not_counted_as_one() {
        let order = format!(r#"{{"order_id":"{ID}"}}"#);
        assert_eq!(read(200, false, &order), Outcome::Malformed { status: 200 });
        assert_eq!(read(202, false, "{}"), Outcome::Malformed { status: 202 });
        assert_eq!(read(204, false, ""), Outcome::Malformed { status: 204 });
    }

    #[test]
    fn a_server_that_makes_up_problems_does_not_fill_the_memory() {
        let mut reader = Reader::default();
        for at in 0..1_000 {
            let body = problem(&format!("p{at}")).into();
            reader.read(&Answer { status: 500, replayed: false, retry_after: None, body });
        }
        assert_eq!(reader.problems.len(), MAX_PROBLEMS);
    }
}
