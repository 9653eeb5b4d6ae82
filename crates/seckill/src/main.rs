//! The `seckill` program: reads the command line and plays the role that it names.

mod cli;
mod client;
mod dashboard;
mod demo;
mod house;
mod options;
mod roles;
mod secrets;
mod telemetry;
mod wiring;
mod worker_task;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// What the program ends with. 2, wrong usage, is clap's own.
mod exit {
    pub(crate) const FAULT: u8 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const INVARIANT_VIOLATED: u8 = 3;
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::log(cli.command.default_log_level(), cli.log_json);
    let ended = match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Gateway(args) => roles::gateway(args).await,
        Command::Worker(args) => roles::worker(args).await,
        Command::Migrate(args) => roles::migrate(&args).await,
        Command::Sale(args) => client::sale(args).await,
        Command::Audit(args) => client::audit(args).await,
        Command::Token(args) => secrets::print_tokens(&args),
        Command::Healthcheck(args) => client::healthcheck(&args).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("seckill: {error:#}");
        ExitCode::from(exit::FAULT)
    })
}
