//! `seckill bank`: the bank that stands for a real one.

use std::process::ExitCode;

use anyhow::{Context, Result};
use seckill_bank::server::{self, Config, WebhookTarget};

use crate::cli::{self, bank::BankArgs};
use crate::{roles, telemetry};

/// Characters of the secret that signs webhooks, at the least.
const MIN_SECRET: usize = 16;

/// `seckill bank`
pub(crate) async fn run(args: BankArgs) -> Result<ExitCode> {
    let faults = match args.faults() {
        Ok(faults) => faults,
        Err(wrong) => return Ok(cli::usage_error(&wrong)),
    };
    let secret = args.webhook_secret()?.filter(|secret| secret.len() >= MIN_SECRET);
    let webhook = match (args.webhook, secret) {
        (None, _) => None,
        (Some(url), Some(secret)) => Some(WebhookTarget { url, secret: secret.into() }),
        (Some(_), None) => {
            let hint = "--webhook needs a secret that signs, 16 characters or more: give --webhook-secret or \
                        --webhook-secret-file, for example the output of `openssl rand -hex 32`";
            return Ok(cli::usage_error(hint));
        }
    };
    let shutdown = telemetry::shutdown_on_signal()?;
    let listener = roles::listen(&args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let kept =
        args.data_dir.as_ref().map_or_else(|| "in memory".into(), |folder| folder.display().to_string());
    tracing::info!(%address, kept, ?faults, "the bank is open");
    let config = Config { data_dir: args.data_dir, webhook, faults, ..Config::default() };
    server::run(listener, config, shutdown).await.context("the bank cannot keep what it does")?;
    tracing::info!("the bank has answered everyone and ends");
    Ok(ExitCode::SUCCESS)
}
