//! Sends spans to a collector by OTLP over HTTP.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use seckill_core::TraceParent;
use thiserror::Error;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// Sends spans until it is dropped, which sends those that are left.
pub struct Collector(SdkTracerProvider);

/// Spans cannot be sent to the collector.
#[derive(Debug, Error)]
#[error("spans cannot be sent: {0}")]
pub struct NoCollector(String);

impl Collector {
    /// Sends the spans of `service` to the collector at `endpoint`, such as `http://127.0.0.1:4318`. Of the traces that begin
    /// here the share `sampled` is recorded, 0.0 to 1.0; whether the others are was decided where they began. While the
    /// collector is away spans are dropped, after the buffer of 2,048 is full.
    ///
    /// # Errors
    /// The endpoint is no address that can be used.
    pub fn connect(endpoint: &Url, service: &'static str, sampled: f64) -> Result<Self, NoCollector> {
        let traces = endpoint.join("v1/traces").map_err(|error| NoCollector(error.to_string()))?;
        let exporter = SpanExporter::builder().with_http().with_endpoint(traces.as_str()).build();
        let exporter = exporter.map_err(|error| NoCollector(error.to_string()))?;
        let about = [
            KeyValue::new("service.namespace", "seckill"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ];
        let resource = Resource::builder().with_service_name(service).with_attributes(about).build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sampled)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// The layer that takes the spans of `tracing`.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("seckill"))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            eprintln!("seckill: the last spans were not sent: {error}");
        }
    }
}

fn context(parent: TraceParent) -> SpanContext {
    let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (parent.trace_id().to_be_bytes(), parent.span_id().to_be_bytes());
    SpanContext::new(TraceId::from_bytes(trace), SpanId::from_bytes(span), flags, true, TraceState::default())
}

pub(super) fn set_parent(span: &Span, parent: TraceParent) {
    // Fails where no collector is connected, or the span has begun its own trace: then it stays as it is.
    let _ = span.set_parent(Context::new().with_remote_span_context(context(parent)));
}

pub(super) fn link(span: &Span, cause: TraceParent) {
    span.add_link(context(cause));
}

pub(super) fn rename(span: &Span, name: impl FnOnce() -> String) {
    if !span.is_disabled() {
        span.context().span().update_name(name());
    }
}

pub(super) fn trace_of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let at = span.span_context();
    let ids = (u128::from_be_bytes(at.trace_id().to_bytes()), u64::from_be_bytes(at.span_id().to_bytes()));
    TraceParent::new(ids.0, ids.1, at.is_sampled())
}
