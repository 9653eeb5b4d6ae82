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
mod greeting;
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
mod shell;
mod telemetry;
mod terminal;
mod token;
mod words;
mod worker_parts;
mod worker_task;

use std::process::ExitCode;

use cli::Command;

/// Requests allocate and free small pieces on many threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    spare_memory();
    let command = cli::groups::parse().command;
    let started = telemetry::start(command.default_log_level(), command.log(), command.service());
    // Sends the last spans when it is dropped; without the feature there is nothing to drop.
    #[cfg_attr(not(feature = "otlp"), expect(clippy::let_unit_value, reason = "it is one with the feature"))]
    let _tracing = match started {
        Ok(tracing) => tracing,
        Err(error) => return cli::usage_error(&format!("{error:#}")),
    };
    if let Err(error) = abort::arm() {
        return cli::usage_error(&error);
    }
    let ended = match command {
        #[cfg(feature = "lab")]
        Command::Demo(args) => demo::run(args).await,
        #[cfg(not(feature = "lab"))]
        Command::Demo(_) | Command::Lab(_) => Ok(cli::usage_error(options::WITHOUT_LAB)),
        #[cfg(feature = "lab")]
        Command::Lab(args) => Box::pin(experiments::lab(args)).await,
        Command::Gateway(args) => Box::pin(roles::gateway(*args)).await,
        Command::Worker(args) => roles::worker(*args).await,
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
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Token(args) => token::token(&args),
        Command::Healthcheck(args) => client::healthcheck(args).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("seckill: {}", client::told(&error));
        ExitCode::from(exit::FAULT)
    })
}

/// Most bytes of the buffers of thousands of connections are never written to. With huge pages, which the allocator asks for, they
/// would take memory all the same.
fn spare_memory() {
    // Where that is not allowed, the process takes more memory, and nothing else changes.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
