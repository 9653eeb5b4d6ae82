//! A Redis server as the system wants it: append-only file, nothing evicted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deadpool_redis::redis;
use url::Url;

use super::process::{DATA, Plan};
use super::{Kind, PrivateRedis, program};

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
        let data = folder.join(DATA);
        std::fs::create_dir_all(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
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
        command.extend(["--dir".into(), data.into()]);
        Ok((Self { port }, Plan { command, ..Plan::default() }))
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    async fn answers(&self) -> Result<(), String> {
        self.run(&["PING"]).await.map(drop)
    }
}

impl Redis {
    async fn run(&self, words: &[&str]) -> Result<redis::Value, String> {
        let url = self.url().parse().map_err(|error: url::ParseError| error.to_string())?;
        run(&url, words).await
    }
}

/// What makes a server of one's own refuse or forget.
impl PrivateRedis {
    /// Changes the configuration of the running server; a restart undoes it.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn config_set(&self, name: &str, value: &str) {
        self.run(&["CONFIG", "SET", name, value]).await;
    }

    /// Limits the memory to so many bytes; 0 is no limit. A server above its limit refuses writes with `OOM` and goes on
    /// to answer reads: 1 byte makes it full at once.
    ///
    /// # Panics
    /// As [`config_set`](Self::config_set).
    pub async fn set_max_memory(&self, bytes: u64) {
        self.config_set("maxmemory", &bytes.to_string()).await;
    }

    /// Makes the server a read-only replica of a primary that does not answer, or a primary again. It keeps its data,
    /// answers reads, and refuses writes with `READONLY`.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn set_read_only(&self, read_only: bool) {
        // Port 1 is one that nobody listens on.
        let primary = if read_only { ["127.0.0.1", "1"] } else { ["NO", "ONE"] };
        self.run(&["REPLICAOF", primary[0], primary[1]]).await;
    }

    /// Bytes in the append-only file. Once a write is answered it is in there, but up to a second of it may be lost with
    /// the machine (`everysec`).
    ///
    /// # Panics
    /// When there is no such file.
    pub fn append_only_bytes(&self) -> u64 {
        let file = self.append_only_file();
        file.metadata().unwrap_or_else(|error| panic!("{}: {error}", file.display())).len()
    }

    /// Cuts the end off the append-only file, so many bytes, as the loss of a machine does with `everysec`: a kill alone
    /// loses nothing, because the kernel has the file. For a server that was killed; [`start_again`](Self::start_again)
    /// then finds the older data. A command that is cut in the middle is lost whole.
    ///
    /// # Panics
    /// When the file is shorter.
    pub fn cut_append_only_file(&self, bytes: u64) {
        let path = self.append_only_file();
        let left = self.append_only_bytes().checked_sub(bytes).expect("the append-only file is that long");
        let file = File::options().write(true).open(&path);
        let cut = file.and_then(|file| file.set_len(left));
        cut.unwrap_or_else(|error| panic!("cannot cut {}: {error}", path.display()));
    }

    /// The part that is appended to. Before Redis 7 there was no other.
    fn append_only_file(&self) -> PathBuf {
        let data = self.folder().join(DATA);
        let Ok(parts) = data.join("appendonlydir").read_dir() else { return data.join("appendonly.aof") };
        let parts = parts.filter_map(|part| Some(part.ok()?.path()));
        let newest = parts.filter(|part| part.to_string_lossy().ends_with(".incr.aof")).max();
        newest.unwrap_or_else(|| panic!("{} has no append-only file", data.display()))
    }

    async fn run(&self, words: &[&str]) {
        let answer = self.kind().run(words).await;
        answer.unwrap_or_else(|reason| panic!("Redis refuses {}: {reason}", words.join(" ")));
    }
}

/// The client's own limits, half a second for an answer, are short for a busy machine; only a failing test waits for so long.
const ANSWERS: Duration = Duration::from_secs(10);

/// Runs one command on a connection of its own.
pub(crate) async fn run(url: &Url, words: &[&str]) -> Result<redis::Value, String> {
    let run = async {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWERS))
            .set_response_timeout(Some(ANSWERS));
        let client = redis::Client::open(url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
    };
    run.await.map_err(|error: redis::RedisError| error.to_string())
}
