//! The arguments of `seckill bank`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use clap::builder::FalseyValueParser;
use seckill_bank::server::Faults;
use url::Url;

use crate::given::Given;
use crate::telemetry::LogOptions;
use crate::words;

#[derive(Args)]
pub(crate) struct BankArgs {
    /// Address to serve HTTP on, as HOST:PORT; a port alone is one of this machine only
    #[arg(long, env = "SECKILL_BANK_LISTEN", default_value = "127.0.0.1:8090", value_parser = words::listen)]
    pub(crate) listen: String,
    /// Folder that keeps every charge and refund, through a `kill -9`, too [default: they are forgotten at the end]
    #[arg(long, env = "SECKILL_BANK_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where each outcome is reported by a signed POST, such as http://127.0.0.1:8080/bank; needs a secret
    #[arg(long, env = "SECKILL_BANK_WEBHOOK", value_name = "URL", value_parser = webhook)]
    pub(crate) webhook: Option<Url>,
    /// Secret that signs webhooks (HMAC-SHA256), 16 characters or more
    #[arg(long, env = "SECKILL_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// File that holds the secret that signs webhooks, in place of the secret
    #[arg(long, env = "SECKILL_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    webhook_secret_file: Option<OsString>,
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// What goes wrong from the start on. `PUT /v1/faults` changes it while the bank runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults on purpose")]
struct FaultArgs {
    /// Share of charges and refunds, 0 to 1, that are never answered and have no effect
    #[arg(long, env = "SECKILL_BANK_TIMEOUT_BEFORE", default_value = "0", value_name = "SHARE", value_parser = share)]
    timeout_before: f64,
    /// Share of charges and refunds that are never answered after their effect
    #[arg(long, env = "SECKILL_BANK_TIMEOUT_AFTER", default_value = "0", value_name = "SHARE", value_parser = share)]
    timeout_after: f64,
    /// Share of charges and refunds that are answered with 500 and have no effect
    #[arg(long, env = "SECKILL_BANK_ERRORS", default_value = "0", value_name = "SHARE", value_parser = share)]
    errors: f64,
    /// How late every answer is, such as 200ms, 1m at the most
    #[arg(long, env = "SECKILL_BANK_SLOW", default_value = "0s", value_name = "TIME", value_parser = words::duration)]
    slow: Duration,
    /// Send each webhook twice
    #[arg(long, env = "SECKILL_BANK_WEBHOOKS_DOUBLED", value_parser = FalseyValueParser::new())]
    webhooks_doubled: bool,
    /// Let each webhook be passed by the next one
    #[arg(long, env = "SECKILL_BANK_WEBHOOKS_REORDERED", value_parser = FalseyValueParser::new())]
    webhooks_reordered: bool,
    /// The same seed meets the same faults
    #[arg(long, env = "SECKILL_BANK_SEED", default_value_t = 0)]
    seed: u64,
}

impl BankArgs {
    pub(crate) fn webhook_secret(&self) -> Result<Option<String>> {
        Given::new("--webhook-secret", &self.webhook_secret, &self.webhook_secret_file).read()
    }

    /// # Errors
    /// What is wrong with the flags, for a message about usage.
    pub(crate) fn faults(&self) -> Result<Faults, String> {
        let FaultArgs {
            timeout_before,
            timeout_after,
            errors,
            slow,
            webhooks_doubled,
            webhooks_reordered,
            seed,
        } = self.faults;
        let slow_ms = u64::try_from(slow.as_millis()).unwrap_or(u64::MAX);
        let faults = Faults {
            timeout_before,
            timeout_after,
            errors,
            slow_ms,
            webhooks_doubled,
            webhooks_reordered,
            seed,
        };
        // The only value that its own flag does not check beside the sum of the shares.
        if slow > Duration::from_secs(60) {
            return Err("--slow is longer than 1m; give a shorter time, such as 200ms".to_owned());
        }
        faults.check().map(|()| faults).map_err(|_| {
            "--timeout-before, --timeout-after and --errors are more than 1 together; a request meets one fault".to_owned()
        })
    }
}

/// Prints no secret.
impl std::fmt::Debug for BankArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BankArgs").field("listen", &self.listen).finish_non_exhaustive()
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a share from 0 to 1, such as 0.1 for one in ten".to_owned())
}

fn webhook(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
    url.ok_or_else(|| "give an address such as http://127.0.0.1:8080/bank; https is not spoken".to_owned())
}
