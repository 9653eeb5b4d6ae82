//! The arguments of the commands about single orders and their refunds. The doc comments are the help.

use clap::{Args, Subcommand, ValueEnum};
use seckill_core::{OrderId, money::SagaState};

use super::{AdminArgs, ReadArgs};
use crate::options::ServerOptions;
use crate::words;

#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    #[command(subcommand)]
    pub(crate) command: OrderCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrderCommand {
    /// Shows when an order was accepted, committed, paid, cancelled or refunded
    Show(OrderShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OrderShowArgs {
    /// The order's id, as its buyer was answered with
    #[arg(value_parser = words::order_id)]
    pub(crate) id: OrderId,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RefundArgs {
    #[command(subcommand)]
    pub(crate) command: RefundCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RefundCommand {
    /// Lists refunds, by order id, 1,000 at the most
    List(RefundListArgs),
    /// Lets the refund of an order go on that waits for a human
    Approve(RefundDecisionArgs),
    /// Refuses the refund of an order that waits for a human; the order stays paid
    Deny(RefundDecisionArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RefundListArgs {
    /// Which refunds
    #[arg(long, value_enum, default_value = "held")]
    pub(crate) state: RefundState,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RefundState {
    /// Waits for a human
    Held,
    /// Is under way
    Running,
    /// All of the money is back
    Succeeded,
    /// Was refused
    Failed,
}

impl RefundState {
    pub(crate) fn wire(self) -> SagaState {
        match self {
            Self::Held => SagaState::Held,
            Self::Running => SagaState::Running,
            Self::Succeeded => SagaState::Succeeded,
            Self::Failed => SagaState::Failed,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RefundDecisionArgs {
    /// The order's id, as `seckill refund list` prints it
    #[arg(value_parser = words::order_id)]
    pub(crate) order: OrderId,
    /// Why, 200 characters at the most; kept with the refund
    #[arg(long)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}
