//! A gateway in direct mode as a child process, so that its orders, threads and metrics are its own.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::options::{BackendKind, BackendOptions};
use crate::secrets::Secrets;

/// How long the child may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(10);
/// How long the child may take to answer what it has taken in, once it is to end.
const GRACE: &str = "2s";
/// After this long it is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A running child.
pub(super) struct DirectGateway {
    address: SocketAddr,
    child: Child,
    /// The child ends when this pipe is closed. The system closes it, too, when this process is killed.
    stdin: ChildStdin,
}

impl DirectGateway {
    /// Starts a child on the same kind of back end, with the same secrets, on a free port of this machine. On the embedded
    /// back end it gets a data folder inside that of the gateway, because only one process can use a folder.
    pub(super) async fn start(options: &BackendOptions, secrets: &Secrets, log_json: bool) -> Result<Self> {
        let mut child = command(options, secrets, log_json)?.spawn().context("cannot start a process")?;
        let stdin = child.stdin.take().context("the child has no stdin")?;
        let stdout = child.stdout.take().context("the child has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_WITHIN, lines.next_line()).await.context("it did not start in time")??;
        let line = line.context("it ended at its start; its log says why")?;
        let address = line.parse().with_context(|| format!("{line:?} is no address"))?;
        Ok(Self { address, child, stdin })
    }

    /// Where it serves.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, and waits for its end.
    pub(super) async fn close(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        if timeout(END_WITHIN, child.wait()).await.is_err() {
            tracing::warn!("the direct gateway does not end, and is killed");
            let _ = child.kill().await;
        }
    }
}

/// The command of the child. Secrets and URLs, which may have passwords, are in its environment and not in its arguments.
fn command(options: &BackendOptions, secrets: &Secrets, log_json: bool) -> Result<Command> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let mut command = Command::new(program);
    command.args([
        "gateway",
        "--mode",
        "direct",
        "--with-parent",
        "--listen",
        "127.0.0.1:0",
        "--grace",
        GRACE,
        "--drain-delay",
        "0s",
    ]);
    if log_json {
        command.arg("--log-json");
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SECKILL_"))
    {
        command.env_remove(name);
    }
    // Its log goes to the log of this process, which should not report every start twice.
    let log = std::env::var_os("SECKILL_LOG").unwrap_or_else(|| "warn".into());
    command
        .env("SECKILL_LOG", log)
        .env("SECKILL_JWT_SECRET", secrets.jwt_secret.expose_secret())
        .env("SECKILL_ADMIN_TOKEN", secrets.admin_token.expose_secret());
    match options.backend {
        BackendKind::Embedded => {
            command.args(["--backend", "embedded", "--data-dir"]).arg(options.data_dir.join("direct"));
        }
        BackendKind::Cluster => {
            let cluster = &options.cluster;
            command
                .args(["--backend", "cluster"])
                .env("SECKILL_REDIS_URL", cluster.redis_url()?)
                .env("SECKILL_AMQP_URL", cluster.amqp_url()?)
                .env("SECKILL_MYSQL_URL", cluster.mysql_url()?)
                .env("SECKILL_REDIS_POOL_SIZE", cluster.redis_pool_size.to_string())
                .env("SECKILL_QUEUE", cluster.queue.name())
                .env("SECKILL_QUEUE_REDIS_URL", cluster.queue_redis_url()?.unwrap_or_default());
        }
    }
    // A process group of its own: Ctrl-C in a terminal reaches this process only, which then ends the child.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}
