//! The arguments of the commands about events.

use std::ffi::OsString;

use anyhow::Result;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueEnum};
use seckill_core::{EventPattern, OutboxState, SubscriberName};
use url::Url;
use uuid::Uuid;

use super::{AdminArgs, ReadArgs};
use crate::given::Given;
use crate::options::EventsOptions;
use crate::telemetry::LogOptions;
use crate::words;

#[derive(Args)]
pub(crate) struct SubscribeArgs {
    /// Name of the subscriber, 1 to 40 of the characters a-z, 0-9 and -. Events are kept under it while it is away; several
    /// processes of one name share its events
    #[arg(long, env = "SECKILL_SUBSCRIBER_NAME", value_parser = words::foreign_subscriber)]
    pub(crate) name: SubscriberName,
    /// Types of event, separated by commas: order.paid, refund.*, *.paid, or * for all. Takes the place of what the name was
    /// subscribed to before
    #[arg(
        long,
        env = "SECKILL_SUBSCRIBE_ON",
        value_name = "PATTERNS",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) on: Vec<EventPattern>,
    /// Post each event to this address, signed, until it is answered with 2xx [default: lines of JSON on stdout]
    #[arg(long, env = "SECKILL_WEBHOOK_URL", hide_env_values = true, value_name = "URL", value_parser = words::webhook)]
    pub(crate) webhook: Option<Url>,
    /// Secret that signs webhooks (HMAC-SHA256), 16 characters or more
    #[arg(long, env = "SECKILL_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// File that holds the secret that signs webhooks, in place of the secret
    #[arg(long, env = "SECKILL_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    webhook_secret_file: Option<OsString>,
    /// Let webhooks go to loopback and private addresses, too. Not where somebody else chooses the URL
    #[arg(long, env = "SECKILL_ALLOW_PRIVATE_ADDRESSES", value_parser = FalseyValueParser::new())]
    pub(crate) allow_private_addresses: bool,
    /// End after so many events
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) events: EventsOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

impl SubscribeArgs {
    pub(crate) fn webhook_secret(&self) -> Result<Option<String>> {
        Given::new("--webhook-secret", &self.webhook_secret, &self.webhook_secret_file).read()
    }
}

/// Prints no secret, and no URL, which may have one.
impl std::fmt::Debug for SubscribeArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscribeArgs").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub(crate) command: EventsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Prints events from now on as lines of JSON, and keeps nothing
    ///
    /// Subscribes under a name of its own, which is removed at the end. After a `kill -9` the name stays and gathers events:
    /// remove it with `seckill subscriber remove`.
    Tail(TailArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Types of event, separated by commas: order.paid, refund.*, *.paid, or * for all
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', default_value = "*")]
    pub(crate) on: Vec<EventPattern>,
    /// End after so many events
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) events: EventsOptions,
}

#[derive(Debug, Args)]
pub(crate) struct OutboxArgs {
    #[command(subcommand)]
    pub(crate) command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Lists events, oldest first, 1,000 at the most
    List(OutboxListArgs),
    /// Shows one event whole
    Show(OutboxEventArgs),
    /// Publishes an event now; also one that was sent before, which its readers take once
    Redrive(OutboxEventArgs),
    /// Removes a parked event for good; no subscriber gets it
    Discard(OutboxEventArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OutboxListArgs {
    /// Which events
    #[arg(long, value_enum, default_value = "parked")]
    pub(crate) state: OutboxStateArg,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutboxStateArg {
    /// Refused too often: waits for a human
    Parked,
    /// Not published yet
    Pending,
    /// Published; kept for a day
    Sent,
}

impl OutboxStateArg {
    pub(crate) fn wire(self) -> OutboxState {
        match self {
            Self::Parked => OutboxState::Parked,
            Self::Pending => OutboxState::Pending,
            Self::Sent => OutboxState::Sent,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct OutboxEventArgs {
    /// The event's id, as `seckill outbox list` prints it
    #[arg(value_parser = words::event_id)]
    pub(crate) id: Uuid,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubscriberArgs {
    #[command(subcommand)]
    pub(crate) command: SubscriberCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SubscriberCommand {
    /// Shows how many events wait for a subscriber, and how many it has parked
    Show(SubscriberReadArgs),
    /// Gives a subscriber all events again that it had parked
    Redrive(SubscriberReadArgs),
    /// Ends a subscription, and throws away what waits for it. Stop `seckill subscribe` of that name first
    Remove(SubscriberRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SubscriberReadArgs {
    /// The subscriber's name, as it was given to `seckill subscribe`
    pub(crate) name: SubscriberName,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubscriberRemoveArgs {
    /// The subscriber's name, as it was given to `seckill subscribe`
    #[arg(value_parser = words::foreign_subscriber)]
    pub(crate) name: SubscriberName,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
