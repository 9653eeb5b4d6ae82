//! What the present work is done for: the request, by its id, and the trace, from a buyer's request through the queue's message to
//! the events that tell of the commit. Nothing depends on either; a program that does not trace passes on what it was given.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A position in a trace, as the header `traceparent` has it (W3C Trace Context, level 1): the trace, the span that is the parent
/// of what comes next, and whether the trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

/// A text that is no `traceparent`. What came with it is not part of any trace, and that is all that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a traceparent of W3C Trace Context")]
pub struct NoTraceParent;

impl TraceParent {
    /// `None` for the ids of zero, which name nothing.
    pub fn new(trace_id: u128, span_id: u64, sampled: bool) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }

    /// The trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The span that is the parent of what comes next.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.split('-');
        let mut hex = |digits: usize| {
            // `from_str_radix` takes a sign and capital letters, too; the header has neither.
            let part = parts.next().filter(|part| {
                part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            });
            part.and_then(|part| u128::from_str_radix(part, 16).ok()).ok_or(NoTraceParent)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // A later version may have more parts, of which this program need not know anything.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(NoTraceParent);
        }
        let span_id = u64::try_from(span_id).map_err(|_| NoTraceParent)?;
        Self::new(trace_id, span_id, flags & 1 == 1).ok_or(NoTraceParent)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NoTraceParent;

    fn try_from(text: String) -> Result<Self, NoTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

/// What a task works for.
#[derive(Clone, Default)]
struct Cause {
    request_id: Option<Arc<str>>,
    trace: Option<TraceParent>,
}

tokio::task_local! {
    static CURRENT: Cause;
}

/// Does `work` for the request of this id, as a part of a trace.
pub fn in_request<T>(
    request_id: Arc<str>,
    trace: Option<TraceParent>,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // No `async fn`: it would be twice as large as the work.
    CURRENT.scope(Cause { request_id: Some(request_id), trace }, work)
}

/// Does `work` as a part of a trace: what it writes, such as events, names `parent`.
pub fn in_trace<T>(parent: Option<TraceParent>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    CURRENT.scope(Cause { request_id: None, trace: parent }, work)
}

/// The trace that the calling task works for.
pub fn current_trace() -> Option<TraceParent> {
    CURRENT.try_with(|cause| cause.trace).ok().flatten()
}

/// The id of the request that the calling task works for.
pub fn current_request() -> Option<Arc<str>> {
    CURRENT.try_with(|cause| cause.request_id.clone()).ok().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!((parent.to_string().as_str(), parent.is_sampled()), (EXAMPLE, true));
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more".parse::<TraceParent>();
        assert!(!later.unwrap().is_sampled());
    }

    #[test]
    fn anything_else_is_no_traceparent() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NoTraceParent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_parent_survives_its_text(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, sampled: bool) {
            let parent = TraceParent::new(trace_id, span_id, sampled).unwrap();
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}
