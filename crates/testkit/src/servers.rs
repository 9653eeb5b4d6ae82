//! Private servers for tests: real ones, each on a free port of 127.0.0.1 with a data folder of its own, gone with the
//! test process. Which program a server is, and how it is configured, is in the modules below; who shares one is not
//! decided here.

mod management;
mod mysql;
mod process;
mod program;
mod rabbitmq;
mod redis;

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use management::Vhost;
pub(crate) use mysql::MySql;
pub use rabbitmq::Alarm;
pub(crate) use rabbitmq::Rabbit;
pub(crate) use redis::{Redis, run as run_redis};

use process::{Plan, Process};

/// How long a server may take to come up, its preparation included; long, because a whole suite may be compiling or
/// running beside it.
const START_DEADLINE: Duration = Duration::from_secs(180);

/// What one kind of server is. Implemented by [`Redis`], [`Rabbit`] and [`MySql`] only.
#[expect(async_fn_in_trait, reason = "all implementations are here, and their futures are Send")]
pub trait Kind: Sized + Send + Sync {
    /// As its makers write it.
    const NAME: &'static str;

    /// Picks the ports, writes the configuration into `folder`, and says how to run it.
    #[doc(hidden)]
    fn plan(folder: &Path) -> Result<(Self, Plan), String>;

    /// Its address as the system's configuration takes it.
    fn url(&self) -> String;

    /// Whether it does its work by now; otherwise why not.
    async fn answers(&self) -> Result<(), String>;
}

/// A server that belongs to one test. Gone, with its data, when dropped.
pub struct PrivateServer<K> {
    kind: K,
    process: Process,
}

/// A Redis server of a test's own; the address names its database 0.
pub type PrivateRedis = PrivateServer<Redis>;
/// A RabbitMQ node of a test's own; the address names its vhost `/`.
pub type PrivateRabbit = PrivateServer<Rabbit>;
/// A MySQL or MariaDB server of a test's own; the address names the empty database `seckill`.
pub type PrivateMySql = PrivateServer<MySql>;

impl<K: Kind> PrivateServer<K> {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When the program is not installed or does not come up.
    pub async fn start() -> Self {
        Self::try_start(None).await.unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The same with the data on a disk of its own, a file system in memory of so many bytes. Such a server cannot be wiped or
    /// restored.
    ///
    /// # Panics
    /// As [`start`](Self::start), and when this process may not mount: it has to run as root.
    pub async fn start_on_small_disk(bytes: u64) -> Self {
        let server = Self::try_start(Some(bytes)).await.unwrap_or_else(|reason| panic!("{reason}"));
        let is_used = server.process.uses_disk().await;
        assert!(done::<K, _>(is_used), "{} does not see the small disk: it runs in another root", K::NAME);
        server
    }

    pub(crate) async fn try_start(disk: Option<u64>) -> Result<Self, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            let folder = process::make_folder()?;
            let mounted = disk.map_or(Ok(()), |bytes| process::mount_small_disk(&folder, bytes));
            let planned = mounted
                .and_then(|()| K::plan(&folder))
                .and_then(|(kind, plan)| Ok(Self { kind, process: Process::new(folder.clone(), plan)? }));
            let server = match planned {
                Ok(server) => server,
                Err(reason) => {
                    // Nothing runs yet that would remove it.
                    process::remove_folder(&folder);
                    return Err(reason);
                }
            };
            match server.bring_up().await {
                Ok(()) => return Ok(server),
                // Most likely somebody else took a port between our look and its start.
                Err(Failure::Ended(_)) if tries < 3 => {}
                Err(Failure::Ended(reason) | Failure::Late(reason)) => return Err(reason),
            }
        }
    }

    /// Its address as the system's configuration takes it.
    pub fn url(&self) -> String {
        self.kind.url()
    }

    /// Shuts the server down in good order (SIGTERM) and waits until it is gone. The data stays.
    pub async fn stop(&self) {
        self.command("stop").await;
    }

    /// Kills the server (SIGKILL) and waits until it is gone. The data stays as the kill left it.
    pub async fn kill(&self) {
        self.command("kill").await;
    }

    /// Freezes the server (SIGSTOP): connections stay open, and nothing answers. [`Self::thaw`] ends that.
    pub async fn freeze(&self) {
        self.command("freeze").await;
    }

    /// Lets a frozen server go on (SIGCONT).
    pub async fn thaw(&self) {
        self.command("thaw").await;
    }

    /// Starts a stopped or killed server again, on the same ports and data, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&self) {
        if let Err(Failure::Ended(reason) | Failure::Late(reason)) = self.bring_up().await {
            panic!("{reason}");
        }
    }

    /// Kills the server and starts it again on the data that the kill left.
    ///
    /// # Panics
    /// As [`start_again`](Self::start_again).
    pub async fn restart(&self) {
        self.kill().await;
        self.start_again().await;
    }

    /// Kills the server and starts it again, on the same ports, with nothing in it.
    ///
    /// # Panics
    /// As [`start_again`](Self::start_again).
    pub async fn restart_empty(&self) {
        self.kill().await;
        done::<K, _>(self.process.wipe().await);
        self.start_again().await;
    }

    /// Copies the server's data as a kill at this moment would leave it. A running server is frozen meanwhile; one that
    /// was frozen before goes on afterwards.
    pub async fn copy_data(&self) -> DataCopy<K> {
        self.freeze().await;
        let copy = self.process.copy().await;
        self.thaw().await;
        DataCopy { folder: done::<K, _>(copy), kind: PhantomData }
    }

    /// Kills the server and starts it again, on the same ports, with the data that it had when the copy was taken: what
    /// a restored backup or a fail-over to a late replica leaves. The copy must be one of this server.
    ///
    /// # Panics
    /// As [`start_again`](Self::start_again).
    pub async fn restart_from(&self, copy: &DataCopy<K>) {
        self.kill().await;
        done::<K, _>(self.process.restore(copy.folder.clone()).await);
        self.start_again().await;
    }

    /// Fills the small disk, except for `left` bytes.
    ///
    /// # Panics
    /// When the file that takes the place cannot be written.
    pub async fn fill_disk(&self, left: u64) {
        done::<K, _>(self.process.fill_disk(left).await);
    }

    /// Gives the place back that [`fill_disk`](Self::fill_disk) has taken.
    ///
    /// # Panics
    /// When there is no such file.
    pub async fn free_disk(&self) {
        done::<K, _>(self.process.free_disk().await);
    }

    /// Where its data and its log are.
    pub fn folder(&self) -> &Path {
        self.process.folder()
    }

    pub(crate) fn kind(&self) -> &K {
        &self.kind
    }

    async fn command(&self, command: &'static str) {
        done::<K, _>(self.process.command(command).await);
    }

    async fn bring_up(&self) -> Result<(), Failure> {
        self.process.command("start").await.map_err(Failure::Late)?;
        let started = Instant::now();
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(5), self.kind.answers()).await;
            let reason = match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reason,
                Err(_) => "no answer within 5 seconds".to_owned(),
            };
            if let Some(end) = self.process.ended().await.map_err(Failure::Late)? {
                let log = self.process.log_tail();
                return Err(Failure::Ended(format!("{} {end}:\n{log}", K::NAME)));
            }
            if started.elapsed() > START_DEADLINE {
                let log = self.process.log_tail();
                return Err(Failure::Late(format!(
                    "{} did not come up within {} seconds ({reason}):\n{log}",
                    K::NAME,
                    START_DEADLINE.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The data of a server as it was at one moment. Gone with the server.
pub struct DataCopy<K> {
    folder: PathBuf,
    kind: PhantomData<K>,
}

fn done<K: Kind, T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|reason| panic!("{}: {reason}", K::NAME))
}

enum Failure {
    /// The process ended by itself; another try, on other ports, may go better.
    Ended(String),
    /// It runs or not, but does not answer.
    Late(String),
}
