//! The log, the metrics, and the signals that end a process.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::FalseyValueParser;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The RabbitMQ client calls it an error when a queue that was asked for is not there, which is an answer. What really failed on
/// a channel is logged by whoever used it.
const QUIET: &str = "lapin::channel";

/// How a process logs, and where its spans go.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log and traces")]
pub(crate) struct LogOptions {
    /// Write the log as JSON, a line an event
    #[arg(id = "log_json", long = "log-json", env = "SECKILL_LOG_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    #[command(flatten)]
    traces: TraceOptions,
}

/// Where spans are sent.
#[cfg(feature = "otlp")]
#[derive(Debug, clap::Args)]
pub(crate) struct TraceOptions {
    /// Sends traces to this OpenTelemetry collector, by OTLP over HTTP, such as http://127.0.0.1:4318
    #[arg(long, env = "SECKILL_OTLP_ENDPOINT", value_name = "URL", value_parser = crate::words::server)]
    otlp_endpoint: Option<url::Url>,
    /// Share of the requests that are traced, 0 to 1. A request that came with a `traceparent` is traced if that says so
    #[arg(long, env = "SECKILL_OTLP_SAMPLE", value_name = "SHARE", default_value = "0.01", value_parser = share)]
    otlp_sample: f64,
}

/// Without the feature `otlp` spans are sent nowhere.
#[cfg(not(feature = "otlp"))]
#[derive(Debug, clap::Args)]
pub(crate) struct TraceOptions {}

#[cfg(feature = "otlp")]
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "allowed are 0 to 1".to_owned())
}

/// Sends the last spans when it is dropped.
#[cfg(feature = "otlp")]
pub(crate) type Tracing = Option<seckill_trace::Collector>;
#[cfg(not(feature = "otlp"))]
pub(crate) type Tracing = ();

/// Logs to stderr, and sends spans where the options say, as those of `service`. SECKILL_LOG sets the filter of the log; without it
/// `default` holds. Without options SECKILL_LOG_JSON says how the log looks, and spans go nowhere.
///
/// # Errors
/// The collector's address cannot be used.
#[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "spans are sent nowhere"))]
pub(crate) fn start(default: &str, options: Option<&LogOptions>, service: &'static str) -> Result<Tracing> {
    let json = options.map_or_else(json_by_environment, |options| options.json);
    let wanted = std::env::var("SECKILL_LOG").unwrap_or_else(|_| default.to_owned());
    let filter: Targets = wanted.parse().unwrap_or_else(|error| {
        eprintln!("seckill: SECKILL_LOG={wanted:?} is no filter ({error}); using {default:?}");
        default.parse().expect("the default is a level")
    });
    // Unless the filter has a word about it.
    let filter = if wanted.contains(QUIET) { filter } else { filter.with_target(QUIET, LevelFilter::OFF) };
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let log = if json {
        log.json().flatten_event(true).map_event_format(WithRequest::json).boxed()
    } else {
        log.map_event_format(|format| WithRequest::text(format.with_ansi(colours))).boxed()
    };
    // Spans go to a collector. A log of them would cost each request more than anything else that it meets.
    let events = filter_fn(|metadata: &Metadata<'_>| metadata.is_event());
    let registry = tracing_subscriber::registry().with(log.with_filter(filter.and(events)));
    #[cfg(feature = "otlp")]
    {
        let connect = |traces: &TraceOptions| {
            let endpoint = traces.otlp_endpoint.as_ref()?;
            Some(seckill_trace::Collector::connect(endpoint, service, traces.otlp_sample))
        };
        let collector = options.and_then(|options| connect(&options.traces)).transpose()?;
        // What other libraries do is not part of an order's path.
        let ours = Targets::new().with_target("seckill", tracing::Level::INFO);
        match &collector {
            Some(to) => registry.with(to.layer().with_filter(ours)).init(),
            // A layer that is not there would have every span made.
            None => registry.init(),
        }
        Ok(collector)
    }
    #[cfg(not(feature = "otlp"))]
    {
        registry.init();
        Ok(())
    }
}

fn json_by_environment() -> bool {
    let value = std::env::var("SECKILL_LOG_JSON").unwrap_or_default();
    !matches!(value.to_lowercase().as_str(), "" | "0" | "f" | "false" | "n" | "no" | "off")
}

/// Adds to each line the id of the request that it was written for.
struct WithRequest<F> {
    format: F,
    json: bool,
}

impl<F> WithRequest<F> {
    fn json(format: F) -> Self {
        Self { format, json: true }
    }

    fn text(format: F) -> Self {
        Self { format, json: false }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithRequest<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(id) = seckill_core::current_request() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        // An id is letters, digits and the marks that no format gives a meaning.
        match line.strip_suffix('}') {
            Some(open) if self.json => writeln!(writer, r#"{open},"request_id":"{id}"}}"#),
            _ => writeln!(writer, "{line} request_id={id}"),
        }
    }
}

/// Bounds of histograms in seconds, from a tenth of a millisecond to ten seconds. A percentile that is computed from them is
/// wrong by half of itself at the most.
const SECONDS: [f64; 26] = [
    1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07,
    0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// Bounds of histograms in orders.
const ORDERS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

/// The commit that this program was built from, where whoever built it said so.
const COMMIT: &str = match option_env!("SECKILL_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// Starts to collect the metrics of this process, for Prometheus. Must be called once only.
pub(crate) fn metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_orders".to_owned()), &ORDERS))
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot collect metrics")?;
    describe();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT)];
    metrics::gauge!("seckill_build_info", &build).set(1.0);
    let process = ProcessMetrics::new();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            process.collect();
            // Without upkeep a histogram keeps every value until the next scrape, which may never come.
            upkeep.run_upkeep();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    Ok(handle)
}

/// What this process takes of the machine, as `process_*`. Only Linux tells.
#[cfg(target_os = "linux")]
struct ProcessMetrics(metrics_process::Collector);

#[cfg(target_os = "linux")]
impl ProcessMetrics {
    fn new() -> Self {
        let collector = metrics_process::Collector::default();
        collector.describe();
        Self(collector)
    }

    fn collect(&self) {
        self.0.collect();
    }
}

#[cfg(not(target_os = "linux"))]
struct ProcessMetrics;

#[cfg(not(target_os = "linux"))]
impl ProcessMetrics {
    fn new() -> Self {
        Self
    }

    fn collect(&self) {}
}

/// The HELP lines of `/metrics`.
fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    gauge!("seckill_build_info", "Always 1; its labels say which program this is");
    counter!("seckill_order_requests_total", "Order requests that have arrived");
    counter!("seckill_claims_total", "Order requests answered, by outcome");
    counter!("seckill_sold_out_from_memory_total", "Of these, answered sold-out without asking the gate");
    counter!("seckill_direct_claims_total", "Order requests answered in direct mode, by outcome");
    counter!("seckill_orders_committed_total", "Orders that became rows of the ledger");
    counter!("seckill_orders_rejected_total", "Orders that the ledger rejected, by reason");
    counter!("seckill_orders_redelivered_total", "Orders delivered again that had reached their end before");
    counter!("seckill_orders_recovered_total", "Stranded orders that the recoverer published");
    counter!("seckill_parked_messages_total", "Messages that were parked for a human");
    counter!("seckill_worker_faults_total", "Faults of the queue or the ledger that a worker lane met");
    counter!("seckill_jwks_fetches_total", "Attempts to fetch the keys of buyers' tokens, by outcome");
    gauge!("seckill_held_orders", "Orders that this worker has taken off the queue and not yet committed");
    counter!("seckill_orders_resent_total", "Lost orders that were sent again from the gate");
    counter!("seckill_lane_panics_total", "Lanes that panicked and were started again");
    counter!("seckill_rebuilds_total", "Gates that were rebuilt");
    counter!("seckill_rebuild_faults_total", "Rebuilds that had to begin again");
    counter!("seckill_queue_refusals_total", "Messages that the queue refused or did not confirm");
    counter!(
        "seckill_newer_messages_total",
        "Messages that were set aside because they are newer than the worker"
    );
    gauge!(
        "seckill_lost_orders",
        "Orders at the gate that the ledger lacks and nothing can bring; they are sent again"
    );
    gauge!("seckill_parked_messages", "Messages that are parked for a human");
    gauge!("seckill_unrouted_messages", "Messages that no queue was bound for");
    gauge!("seckill_newer_messages", "Messages that are set aside and wait for a newer worker");
    gauge!("seckill_rebuilding_sales", "Sales whose gate is being rebuilt");
    gauge!("seckill_backlog_age_seconds", "Time since the backlog could be read of every sale");
    counter!("seckill_orders_cancelled_total", "Orders that were cancelled before they were paid, by reason");
    counter!("seckill_payments_total", "Payments that have ended, by outcome");
    counter!("seckill_refunds_total", "Refunds whose money is all given back");
    counter!("seckill_refunds_denied_total", "Held refunds that a human has denied");
    gauge!("seckill_refunds_running", "Refunds with steps left");
    gauge!("seckill_refunds_held", "Refunds that wait for a human");
    gauge!(
        "seckill_refunds_held_age_seconds",
        "Time that the longest held refund has waited for a human; 0 without one"
    );
    counter!("seckill_events_sent_total", "Events that the bus has taken from the outbox");
    counter!("seckill_events_refused_total", "Attempts to send an event that the bus did not take");
    counter!(
        "seckill_events_taken_total",
        "Events that came to a built-in subscriber, by subscriber and outcome"
    );
    counter!("seckill_parked_events_total", "Events that were parked for a human at a subscriber");
    gauge!("seckill_outbox_pending_events", "Events that wait in the outbox for the bus");
    gauge!("seckill_outbox_parked_events", "Events of the outbox that are parked for a human");
    gauge!(
        "seckill_outbox_age_seconds",
        "Time that the oldest event in the outbox has waited; 0 without one"
    );
    gauge!(
        "seckill_subscriber_waiting_events",
        "Events that a built-in subscriber has yet to take in, by subscriber"
    );
    gauge!(
        "seckill_subscriber_parked_events",
        "Events that are parked for a human at a built-in subscriber, by subscriber"
    );
    gauge!("seckill_queue_orders", "Orders between the queue's confirm and the ledger's commit");
    gauge!("seckill_pending_orders", "Orders that the gate has set aside and the queue has yet to confirm");
    gauge!(
        "seckill_drain_rate",
        "Orders a second that this worker may write, its share of the drain rate; 0 paused, +Inf unlimited"
    );
    gauge!(
        "seckill_invariant_violations",
        "What the last audit of a sale found, by kind; 0 when all is well"
    );
    counter!("seckill_tickets_total", "Purchase tickets that were handed out");
    counter!("seckill_tickets_refused_total", "Purchase tickets that were not handed out, by reason");
    counter!("seckill_order_reads_total", "What answering polls has cost, by source");
    counter!("seckill_fates_heard_total", "Orders of which the gateway heard what became of them");
    counter!("seckill_fates_dropped_total", "Announcements of what became of orders that were dropped");
    counter!("seckill_events_sent_again_total", "Events that the bus had lost, sent again");
    gauge!("seckill_limited_senders", "Users or addresses that a limit remembers, by limit");
    counter!("seckill_connections_refused_total", "Connections above the limit of their address");
    histogram!("seckill_intake_batch_orders", "Claims in one group commit");
    histogram!("seckill_commit_batch_orders", "Orders in one ledger transaction");
    histogram!("seckill_rebuild_seconds", "Time that a rebuild took, from its beginning to open sales");
    histogram!("seckill_commit_seconds", "Time that one ledger transaction took");
    histogram!("seckill_direct_commit_seconds", "Time that one transaction of one order took in direct mode");
    histogram!("http_server_request_duration_seconds", "Time from a request's head to its answer");
}

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once.
pub(crate) fn shutdown_on_signal() -> Result<CancellationToken> {
    let hurry = CancellationToken::new();
    hurry.cancel();
    shutdown_on_signals(hurry)
}

/// The same for what does not end at once: while `hurry` is not cancelled, a signal after the first one cancels that.
pub(crate) fn shutdown_on_signals(hurry: CancellationToken) -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() && !hurry.is_cancelled() {
                hurry.cancel();
            } else if cancel.is_cancelled() {
                // 128 + SIGINT, as a shell would report it.
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
