//! Spans of `tracing` as parts of distributed traces: which trace a span goes on with, which other spans it is linked to, and
//! where spans are sent. Without the feature `otlp`, and without a collector, a span is part of no trace, and the trace that
//! a request came with is passed on as it is.

#[cfg(feature = "otlp")]
mod otlp;

use seckill_core::TraceParent;
use tracing::Span;

#[cfg(feature = "otlp")]
pub use otlp::{Collector, NoCollector};

/// Makes `span` a part of the trace that `parent` names.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "there is nowhere to send spans to"))]
pub fn continue_trace(span: &Span, parent: TraceParent) {
    #[cfg(feature = "otlp")]
    otlp::set_parent(span, parent);
}

/// Links `span` to another cause than its parent: a batch has many, and a span has one parent.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "there is nowhere to send spans to"))]
pub fn link(span: &Span, cause: TraceParent) {
    #[cfg(feature = "otlp")]
    otlp::link(span, cause);
}

/// Gives `span` another name, which was not known when it began.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "there is nowhere to send spans to"))]
pub fn rename(span: &Span, name: impl FnOnce() -> String) {
    #[cfg(feature = "otlp")]
    otlp::rename(span, name);
}

/// Where the trace goes on from `span`. `None`: the span is not sent anywhere.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "there is nowhere to send spans to"))]
pub fn trace_of(span: &Span) -> Option<TraceParent> {
    #[cfg(feature = "otlp")]
    return otlp::trace_of(span);
    #[cfg(not(feature = "otlp"))]
    None
}

/// Makes `span` a part of the trace of the first of `causes`, links it to the others, and says where the trace goes on: from the
/// span, or, where that is not sent anywhere, from the first cause. So whether a batch is recorded was decided where its first
/// request began.
pub fn of_causes(span: &Span, causes: impl IntoIterator<Item = TraceParent>) -> Option<TraceParent> {
    let mut causes = causes.into_iter();
    let first = causes.next()?;
    continue_trace(span, first);
    for other in causes {
        link(span, other);
    }
    Some(trace_of(span).unwrap_or(first))
}
