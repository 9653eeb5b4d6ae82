//! The `seckill` program: reads the command line and runs the command.

mod abort;
mod access;
mod after;
mod backend;
mod bank;
mod bank_news;
mod cli;
mod client;
#[cfg(feature = "lab")]
mod demo;
mod drain;
mod events;
mod exit;
#[cfg(feature = "lab")]
mod experiments;
mod gateway_process;
mod given;
#[cfg_attr(not(feature = "lab"), path = "without_lab.rs")]
mod lab;
mod limits;
mod options;
mod outbox;
mod parent;
mod refund_steps;
mod refunds;
mod repair;
mod reporting;
mod roles;
mod sales;
mod secrets;
mod telemetry;
mod token;
mod words;
mod worker_parts;
mod worker_task;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// Requests allocate and free small pieces on many threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let started =
        telemetry::start(cli.command.default_log_level(), cli.log_json, &cli.traces, cli.command.service());
    // Sends the last spans when it is dropped; without the feature there is nothing to drop.
    #[cfg_attr(not(feature = "otlp"), expect(clippy::let_unit_value, reason = "it is one with the feature"))]
    let _tracing = match started {
        Ok(tracing) => tracing,
        Err(error) => return cli::usage_error(&format!("{error:#}")),
    };
    if let Err(error) = abort::arm() {
        return cli::usage_error(&error);
    }
    let ended = match cli.command {
        #[cfg(feature = "lab")]
        Command::Demo(args) => demo::run(args, cli.log_json).await,
        #[cfg(not(feature = "lab"))]
        Command::Demo(_) | Command::Lab(_) => Ok(cli::usage_error(options::WITHOUT_LAB)),
        #[cfg(feature = "lab")]
        Command::Lab(args) => Box::pin(experiments::lab(args)).await,
        Command::Gateway(args) => Box::pin(roles::gateway(*args, cli.log_json)).await,
        Command::Worker(args) => roles::worker(args).await,
        Command::Bank(args) => bank::run(args).await,
        Command::Migrate(args) => roles::migrate(&args).await,
        Command::Sale(args) => sales::sale(args).await,
        Command::Audit(args) => client::audit(args).await,
        Command::Rebuild(args) => repair::rebuild(args).await,
        Command::Reconcile(args) => repair::reconcile(args).await,
        Command::Parked(args) => repair::parked(args).await,
        Command::Drain(args) => drain::drain(args).await,
        Command::Order(args) => refunds::order(args).await,
        Command::Refund(args) => refunds::refund(args).await,
        Command::Subscribe(args) => Box::pin(events::subscribe(*args)).await,
        Command::Events(args) => Box::pin(events::events(args)).await,
        Command::Outbox(args) => outbox::outbox(args).await,
        Command::Subscriber(args) => outbox::subscriber(args).await,
        Command::AbortPoints => Ok(repair::abort_points()),
        Command::Openapi => {
            println!("{}", seckill_gateway::http::openapi());
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(args) => token::token(&args),
        Command::Healthcheck(args) => client::healthcheck(args).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("seckill: {}", client::told(&error));
        ExitCode::from(exit::FAULT)
    })
}
