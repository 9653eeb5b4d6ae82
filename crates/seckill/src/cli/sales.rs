//! The arguments of the commands that change sales, and of those that set the drain rate of the workers.

use clap::{Args, Subcommand};
use seckill_core::Timestamp;

use super::{AdminArgs, ReadArgs, SaleReadArgs};
use crate::words;

#[derive(Debug, Args)]
pub(crate) struct SaleSetArgs {
    #[command(flatten)]
    pub(crate) sale: SaleReadArgs,
    #[command(flatten)]
    pub(crate) fields: SaleFields,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// What can be set; what is left out stays as it is.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct SaleFields {
    /// Its name for people, 1 to 200 characters
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What is sold, 1 to 200 characters
    #[arg(long)]
    pub(crate) product: Option<String>,
    /// When it ends, such as 2030-11-11T01:00:00Z: later than its start, and not in the past. A sale that has ended and is not
    /// closed out opens again
    #[arg(long)]
    pub(crate) ends_at: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct SaleRaiseArgs {
    #[command(flatten)]
    pub(crate) sale: SaleReadArgs,
    /// All units on sale since the beginning, the sold ones included. Not the number of new units, so that the same command may be
    /// run again
    #[arg(long, value_name = "STOCK")]
    pub(crate) to: u32,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(subcommand)]
    pub(crate) command: DrainCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DrainCommand {
    /// Shows the settings, and what each worker does
    Show(DrainAdminArgs),
    /// Sets the drain rate of all workers together
    Set(DrainSetArgs),
    /// Tells every worker to write nothing. Orders are still taken, and wait in the queue
    Pause(DrainAdminArgs),
    /// Tells every worker to go on
    Resume(DrainAdminArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DrainAdminArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainSetArgs {
    /// Orders a second that all workers together may write, 1 to 1,000,000; or `auto`, what they find the database to be safe with; or
    /// `unlimited`; or `default`, the rate that each was started with
    #[arg(long, value_parser = words::drain_rate)]
    pub(crate) rate: words::WantedRate,
    #[command(flatten)]
    pub(crate) all: DrainAdminArgs,
}
