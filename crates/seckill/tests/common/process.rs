//! Running the program: short commands, and roles that go on until a test ends them.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seckill_client::{Admin, Buyer, Client, Error, Made, OrderRequest, Placed, ProblemKind, SaleView};
use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{AuditReport, Backend, OrderId, SaleId, Verdict};
use seckill_testkit::{TestCluster, eventually};
use seckill_token::Signer;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) const JWT_SECRET: &str = "a secret of the tests, 32 characters or more";
pub(crate) const ADMIN_TOKEN: &str = "an admin token of the tests";
/// Long enough for a busy machine; only a failing test waits for so long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The program, without the variables of the caller's environment that it reads.
pub(crate) fn seckill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seckill"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SECKILL_")) {
        command.env_remove(name);
    }
    command
        .env("SECKILL_JWT_SECRET", JWT_SECRET)
        .env("SECKILL_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("NO_COLOR", "1")
        // No balancer sends orders here.
        .env("SECKILL_DRAIN_DELAY", "0s");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn run(args: &[&str]) -> Output {
    end(seckill().args(args)).await
}

/// Runs this command to its end.
pub(crate) async fn end(command: &mut Command) -> Output {
    let ended = tokio::time::timeout(2 * SOON, command.output()).await;
    ended.expect("the command ends").expect("the program can be run")
}

/// What a command printed, for messages.
pub(crate) fn text(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}\n{out}\n{err}", output.status)
}

/// The URLs of the servers, as the program gets them.
#[derive(Clone)]
pub(crate) struct Urls {
    pub(crate) redis: String,
    pub(crate) amqp: String,
    pub(crate) mysql: String,
    /// The Redis in whose streams orders wait; `None`: they wait on RabbitMQ.
    pub(crate) queue_redis: Option<String>,
}

impl From<&TestCluster> for Urls {
    fn from(cluster: &TestCluster) -> Self {
        Self {
            redis: cluster.redis_url.clone(),
            amqp: cluster.amqp_url.clone(),
            mysql: cluster.mysql_url.clone(),
            queue_redis: None,
        }
    }
}

impl Urls {
    pub(crate) fn environment(&self) -> Vec<(&'static str, &str)> {
        let mut environment = vec![
            ("SECKILL_BACKEND", "cluster"),
            ("SECKILL_REDIS_URL", self.redis.as_str()),
            ("SECKILL_AMQP_URL", &self.amqp),
            ("SECKILL_MYSQL_URL", &self.mysql),
        ];
        if let Some(redis) = &self.queue_redis {
            environment.extend([("SECKILL_QUEUE", "redis-streams"), ("SECKILL_QUEUE_REDIS_URL", redis)]);
        }
        environment
    }

    /// The back end itself, to check it without the program.
    pub(crate) fn backend(&self) -> Backend {
        let on_streams = self.queue_redis.is_some();
        seckill_cluster::connect(&ClusterConfig {
            redis_url: self.redis.clone(),
            amqp_url: self.amqp.clone(),
            mysql_url: self.mysql.clone(),
            redis_pool_size: 2,
            gate_durable: false,
            queue: if on_streams { QueueKind::RedisStreams } else { QueueKind::RabbitMq },
            queue_redis_url: self.queue_redis.clone(),
        })
        .unwrap()
    }

    pub(crate) async fn migrate(&self) {
        let output = end(seckill().arg("migrate").envs(self.environment())).await;
        assert!(output.status.success(), "{}", text(&output));
    }

    pub(crate) async fn gateway(&self, args: &[&str]) -> Role {
        Role::start("gateway", args, &self.environment()).await
    }

    pub(crate) async fn worker(&self, args: &[&str]) -> Role {
        Role::start("worker", args, &self.environment()).await
    }
}

/// A gateway or a worker.
pub(crate) struct Role {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Role {
    /// Starts a role on a free port, on the loopback address unless `args` name another, and waits until it logs its address.
    pub(crate) async fn start(role: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = seckill();
        command.args([role, "--log-json"]).args(args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(keep(lines, log.clone()));
        let listening = eventually(SOON, async || {
            let log = log.lock().unwrap().clone();
            log.lines().find_map(address).ok_or(log)
        });
        let address = tokio::select! {
            address = listening => address,
            status = child.wait() => panic!("the {role} ended at once, {status:?}: {}", log.lock().unwrap()),
        };
        Self { address, child, log }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends SIGTERM.
    pub(crate) async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    /// Sends the signal that `kill` calls so.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("the process runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// How the process ended.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        tokio::time::timeout(within, self.child.wait())
            .await
            .expect("the process ends within its grace time")
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("{}{path}", self.url())).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// The typed client of this gateway, and of the probes of a worker.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.url().parse().unwrap()).unwrap()
    }

    pub(crate) fn admin(&self) -> Admin {
        self.client().admin(ADMIN_TOKEN.into())
    }

    pub(crate) fn buyer(&self, user: u64) -> Buyer {
        self.client().buyer(token(user).into())
    }

    /// The sale as everybody sees it.
    pub(crate) async fn sale(&self, sale: u64) -> SaleView {
        self.client().sale(SaleId(sale)).await.unwrap()
    }

    /// Opens a sale through the command line; returns its id once it takes orders.
    pub(crate) async fn open_sale(&self, stock: u32) -> u64 {
        let (server, stock) = (self.url(), stock.to_string());
        let output =
            run(&["sale", "create", "--name", "test", "--stock", &stock, "--server", &server, "--json"])
                .await;
        assert!(output.status.success(), "{}", text(&output));
        let view: SaleView = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(view.sale.epoch, 1, "{view:?}");
        view.sale.id.0
    }

    /// Places one order as `user`.
    pub(crate) async fn order(&self, sale: u64, user: u64) -> Result<Made<Placed>, Error> {
        self.buyer(user).order(SaleId(sale), &OrderRequest::default(), None).await
    }

    /// The audit once nothing moves any more.
    pub(crate) async fn audit_at_rest(&self, sale: u64) -> AuditReport {
        let client = self.client();
        eventually(2 * SOON, async || match client.audit(SaleId(sale)).await {
            Ok(audit) if at_rest(&audit.report) => Ok(audit.report),
            other => Err(other),
        })
        .await
    }
}

/// The order, which is a new one.
#[track_caller]
pub(crate) fn accepted(answer: Result<Made<Placed>, Error>) -> OrderId {
    let made = answer.unwrap();
    assert!(!made.replayed, "{made:?}");
    made.value.order_id
}

/// With what a request was refused.
#[track_caller]
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> ProblemKind {
    answer.unwrap_err().kind().expect("a gateway has answered").clone()
}

/// Nothing moves any more: a broken promise, or every order recorded and settled. A row may be there before its reservation is
/// settled: what a killed gateway left pending is published again only once it counts as stranded.
fn at_rest(report: &AuditReport) -> bool {
    match report.verdict {
        Verdict::InFlight | Verdict::Rebuilding => false,
        Verdict::Clean => report.pending_orders.unwrap_or(0) == 0,
        _ => true,
    }
}

pub(crate) fn token(user: u64) -> String {
    Signer::hs256(JWT_SECRET).sign(user, 4_102_444_800)
}

async fn keep(mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>, log: Arc<Mutex<String>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    serde_json::from_str::<Value>(line).ok()?.get("address")?.as_str()?.parse().ok()
}
