//! The arguments of `seckill lab`. The doc comments are the help.

use clap::{Args, Subcommand};

use super::demo::DemoBackend;

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    pub(crate) command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Lists the experiments, with the question of each
    List(ListArgs),
    /// Runs one experiment, or `all`: first without the safeguard, then with it
    ///
    /// It has tables, queues and keys of its own, which it removes at the end; at most one runs at a time on a database. Exit code 0:
    /// every verdict is as predicted, or the faults of this seed did no harm; 3: a number is off although the safeguard is on.
    Run(Box<RunArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Its name in `seckill lab list`, or `all`
    pub(crate) name: String,
    /// Decides which messages are doubled, which steps crash, and so on. The same seed has the same faults
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON: an array with a report for each experiment
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) backend: DemoBackend,
}
