//! A RabbitMQ node with the management plugin, so that vhosts are made over HTTP and no second Erlang VM has to start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::process::Plan;
use super::{Kind, program};

/// Where the distributions keep the script that runs as any user. Theirs on the `PATH` insists on its own user.
const PACKAGED: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A running RabbitMQ node.
pub struct Rabbit {
    amqp_port: u16,
    management_port: u16,
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
        let node = Self { amqp_port: program::free_port()?, management_port: program::free_port()? };
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
            ("RABBITMQ_MNESIA_BASE", folder.join("data").into()),
            ("RABBITMQ_LOG_BASE", folder.into()),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_CONFIG_FILE", config.into()),
            ("RABBITMQ_CONFIG_FILES", absent.clone().into()),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", absent.clone().into()),
            ("RABBITMQ_CONF_ENV_FILE", absent.into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.into()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none".into()),
        ];
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
    fn config(&self) -> String {
        format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {}\n\
             disk_free_limit.absolute = 1MB\n\
             vm_memory_high_watermark.relative = 0.8\n\
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
