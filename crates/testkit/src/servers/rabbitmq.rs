//! A RabbitMQ node with the management plugin, so that vhosts are made over HTTP and no second Erlang VM has to start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::process::{DATA, Plan};
use super::{Kind, PrivateRabbit, Vhost, program};
use crate::eventually::eventually;

/// Where the distributions keep the script that runs as any user. Theirs on the `PATH` insists on its own user.
const PACKAGED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The part of the machine's memory at which a node raises its alarm.
const MEMORY_WATERMARK: &str = "0.8";

/// The free disk space below which a node raises its alarm.
const DISK_LIMIT: &str = "1MB";

/// For how long the tool that controls a node may run.
const CONTROL_DEADLINE: Duration = Duration::from_secs(120);

/// A running RabbitMQ node.
pub struct Rabbit {
    amqp_port: u16,
    management_port: u16,
    /// The program `rabbitmqctl`, and the environment in which it finds the node and its Erlang cookie.
    control: PathBuf,
    env: Vec<(&'static str, OsString)>,
}

/// What blocks every connection that publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The node has no memory left.
    Memory,
    /// The node has no disk space left.
    Disk,
}

/// What an operator does to a node of one's own.
impl PrivateRabbit {
    /// Its vhost `/`.
    pub fn vhost(&self) -> Vhost {
        let api = self.kind().management_url();
        Vhost::new(api.parse().expect("the address of the HTTP API is a URL"), "/")
    }

    /// Its HTTP API, with credentials.
    pub fn management_url(&self) -> String {
        self.kind().management_url()
    }

    /// Raises an alarm, or clears it. Raised, the node blocks every connection that publishes from its next message on;
    /// in force when this returns. A restart clears it.
    ///
    /// # Panics
    /// When `rabbitmqctl` fails.
    pub async fn set_alarm(&self, alarm: Alarm, raised: bool) {
        let words = match (alarm, raised) {
            // 0 would mean the same, but says "no publishing at all" in later versions.
            (Alarm::Memory, true) => ["set_vm_memory_high_watermark", "0.0000001"],
            (Alarm::Memory, false) => ["set_vm_memory_high_watermark", MEMORY_WATERMARK],
            (Alarm::Disk, true) => ["set_disk_free_limit", "1000000GB"],
            (Alarm::Disk, false) => ["set_disk_free_limit", DISK_LIMIT],
        };
        let run = self.kind().control(&words).await;
        run.unwrap_or_else(|reason| panic!("rabbitmqctl {}: {reason}", words.join(" ")));
        eventually(CONTROL_DEADLINE, async || match self.has_alarm().await {
            Ok(seen) if seen == raised => Ok(()),
            other => Err(other),
        })
        .await;
    }

    async fn has_alarm(&self) -> Result<bool, String> {
        let url = format!("{}/api/health/checks/local-alarms", self.kind().management_url());
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(false),
            503 => Ok(true),
            other => Err(format!("status {other}")),
        }
    }
}

impl Rabbit {
    /// The HTTP API, with its credentials.
    pub(crate) fn management_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.management_port)
    }
}

impl Kind for Rabbit {
    const NAME: &'static str = "RabbitMQ";

    fn plan(folder: &Path) -> Result<(Self, Plan), String> {
        let server = find()?;
        let mut node = Self {
            amqp_port: program::free_port()?,
            management_port: program::free_port()?,
            control: server.with_file_name("rabbitmqctl"),
            env: Vec::new(),
        };
        let epmd_port = program::free_port()?;
        let config = folder.join("rabbitmq.conf");
        let plugins = folder.join("enabled_plugins");
        write(&config, &node.config())?;
        write(&plugins, "[rabbitmq_management].\n")?;
        let absent = folder.join("absent");
        let dist_port = program::free_port()?.to_string();
        let env: Vec<(&'static str, OsString)> = vec![
            // Makes the script replace itself by the Erlang VM, so that signals and the end of it need no go-between.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
            // A name of its own: the machine may run another node called rabbit.
            ("RABBITMQ_NODENAME", format!("seckill{dist_port}@localhost").into()),
            ("RABBITMQ_DIST_PORT", dist_port.into()),
            ("ERL_EPMD_PORT", epmd_port.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("HOME", folder.into()),
            ("RABBITMQ_MNESIA_BASE", folder.join(DATA).into()),
            ("RABBITMQ_LOG_BASE", folder.into()),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_CONFIG_FILE", config.into()),
            ("RABBITMQ_CONFIG_FILES", absent.clone().into()),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", absent.clone().into()),
            ("RABBITMQ_CONF_ENV_FILE", absent.into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.into()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none".into()),
        ];
        node.env.clone_from(&env);
        let plan = Plan { command: vec![server.into()], env, epmd_port: Some(epmd_port), ..Plan::default() };
        Ok((node, plan))
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.amqp_port)
    }

    async fn answers(&self) -> Result<(), String> {
        // The AMQP port is opened last, and the HTTP API a little before or after it.
        tokio::net::TcpStream::connect(("127.0.0.1", self.amqp_port))
            .await
            .map_err(|error| format!("port {}: {error}", self.amqp_port))?;
        let answer = reqwest::get(format!("{}/api/overview", self.management_url())).await;
        answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl Rabbit {
    async fn control(&self, words: &[&str]) -> Result<(), String> {
        let mut command = tokio::process::Command::new(&self.control);
        command.args(words).envs(self.env.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(CONTROL_DEADLINE, command.output()).await;
        let output = output.map_err(|_| format!("not done within {CONTROL_DEADLINE:?}"))?;
        let output = output.map_err(|error| format!("cannot run {}: {error}", self.control.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&text)))
    }

    fn config(&self) -> String {
        format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {}\n\
             disk_free_limit.absolute = {DISK_LIMIT}\n\
             vm_memory_high_watermark.relative = {MEMORY_WATERMARK}\n\
             raft.wal_max_size_bytes = 33554432\n\
             log.console = true\n\
             log.console.level = warning\n",
            self.amqp_port, self.management_port
        )
    }
}

fn find() -> Result<PathBuf, String> {
    let found = program::find(&["rabbitmq-server"])
        .ok_or_else(|| program::missing("rabbitmq-server", "rabbitmq-server"))?;
    let wrapper = found.starts_with("/usr/sbin") || found.starts_with("/sbin");
    let packaged = Path::new(PACKAGED);
    Ok(if wrapper && program::is_program(packaged) { packaged.to_owned() } else { found })
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
