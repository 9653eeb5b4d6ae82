//! The load generator's command: parse, run, verify, print. Everything else is in the library and in `cli`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let cli::Cli { command: cli::Command::Run(options) } = cli::Cli::parse();
    let report = match cli::run(&options).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let violations = report.violations();
    violations.iter().for_each(|violation| eprintln!("VIOLATED: {violation}"));
    if !violations.is_empty() {
        return ExitCode::from(3);
    }
    if report.orders.is_some_and(|orders| orders.cancelled) {
        eprintln!("error: the check was cancelled, so nobody knows whether every promise was kept");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
