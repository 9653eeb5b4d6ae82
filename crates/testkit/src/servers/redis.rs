//! A Redis server as the system wants it: append-only file, nothing evicted.

use std::path::Path;

use deadpool_redis::redis;

use super::process::Plan;
use super::{Kind, program};

/// Databases of a server: so many tests may use one at the same time.
const DATABASES: u16 = 1024;

/// A running Redis server.
pub struct Redis {
    port: u16,
}

impl Kind for Redis {
    const NAME: &'static str = "Redis";

    fn plan(folder: &Path) -> Result<(Self, Plan), String> {
        let server = program::find(&["redis-server"])
            .ok_or_else(|| program::missing("redis-server", "redis-server"))?;
        let port = program::free_port()?;
        let mut command = vec![server.into()];
        for (option, value) in [
            ("--port", port.to_string().as_str()),
            ("--bind", "127.0.0.1"),
            ("--databases", DATABASES.to_string().as_str()),
            ("--save", ""),
            ("--appendonly", "yes"),
            ("--appendfsync", "everysec"),
            ("--maxmemory-policy", "noeviction"),
        ] {
            command.extend([option.into(), value.into()]);
        }
        command.extend(["--dir".into(), folder.into()]);
        Ok((Self { port }, Plan { command, ..Plan::default() }))
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    async fn answers(&self) -> Result<(), String> {
        let ping = async {
            let mut connection = redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await
        };
        ping.await.map_err(|error: redis::RedisError| error.to_string())
    }
}
