//! The load generator's command: parses the command line, runs the command, and returns the exit code.

mod cli;
mod command;
mod inputs;
mod kept;
mod live;
mod played;
mod shell;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Failure};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => command::run(*options).await,
        Command::Compare { a, b } => command::compare(&a, &b),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { out } => shell::man(&out),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::from(match failure {
            Failure::Fault(_) => 1,
            Failure::Usage(_) => 2,
        })
    })
}
