//! A place of its own for every test on servers that all tests of the process share: a MySQL database, a RabbitMQ
//! vhost, a Redis database.

use std::future::Future;
use std::time::{Duration, Instant};

use deadpool_redis::redis;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::sync::OnceCell;
use url::Url;

use crate::servers::{Kind, MySql, PrivateServer, Rabbit, Redis, Vhost, run_redis};

/// The shared servers. A failure to start is kept, so that the other tests fail at once and with the same reason.
static REDIS: OnceCell<Result<PrivateServer<Redis>, String>> = OnceCell::const_new();
static RABBIT: OnceCell<Result<PrivateServer<Rabbit>, String>> = OnceCell::const_new();
static MYSQL: OnceCell<Result<PrivateServer<MySql>, String>> = OnceCell::const_new();

/// The longest that giving a place back may hold up the end of a test.
const CLEAN_UP_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for one of the databases of a Redis server that has few.
const DATABASE_DEADLINE: Duration = Duration::from_secs(120);

/// A place of its own on all three servers; given back when dropped.
pub struct TestCluster {
    /// `redis://…`, with the number of the test's own database.
    pub redis_url: String,
    /// `amqp://…`, with the test's own vhost.
    pub amqp_url: String,
    /// `mysql://…`, with the test's own, empty database.
    pub mysql_url: String,
    redis: TestRedis,
    rabbit: TestRabbit,
    mysql: TestMySql,
}

/// Starts the shared servers where that has not been done, and makes a place on each.
///
/// The servers at `SECKILL_TEST_REDIS_URL`, `SECKILL_TEST_AMQP_URL` and `SECKILL_TEST_MYSQL_URL` are used instead where
/// these are set. They must be there for tests only: databases of that Redis server are emptied.
///
/// # Panics
/// When a server is not installed, does not come up or does not answer.
pub async fn cluster() -> TestCluster {
    let (redis, rabbit, mysql) = tokio::join!(redis(), rabbit(), mysql());
    TestCluster {
        redis_url: redis.url.clone(),
        amqp_url: rabbit.url.clone(),
        mysql_url: mysql.url.clone(),
        redis,
        rabbit,
        mysql,
    }
}

impl TestCluster {
    /// Empties the test's Redis database: what is left of a gate whose server has lost its data.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn flush_redis(&self) {
        self.redis.flush().await;
    }

    /// The URL of the test's Redis database for a user with these rights, the words that `ACL SETUSER` takes. A right to a
    /// command that this server does not have is left out.
    ///
    /// # Panics
    /// When the server does not take them.
    pub async fn redis_url_with(&self, rights: &str) -> String {
        let user = "seckill_test_rights";
        let words = ["ACL", "SETUSER", user, "reset", "on", ">secret"];
        let mut words: Vec<&str> = words.into_iter().chain(rights.split_whitespace()).collect();
        while let Err(reason) = run_redis(&self.redis.base, &words).await {
            let before = words.len();
            words.retain(|word| !reason.contains(&format!("'{word}': Unknown command")));
            assert!(words.len() < before, "cannot make a Redis user with the rights {rights}: {reason}");
        }
        let mut url = parse(&self.redis.url);
        url.set_username(user).and(url.set_password(Some("secret"))).expect("a redis url may have a user");
        url.to_string()
    }

    /// What an operator may do to the queues of the test's vhost.
    pub fn vhost(&self) -> &Vhost {
        self.rabbit.vhost()
    }

    /// Removes the test's vhost now: connections to it are closed, and its queues are gone.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn delete_vhost(&self) {
        self.rabbit.delete().await.unwrap_or_else(|reason| panic!("cannot delete the vhost: {reason}"));
    }

    /// Removes the test's MySQL database now.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn drop_database(&self) {
        self.mysql.delete().await.unwrap_or_else(|reason| panic!("cannot drop the database: {reason}"));
    }
}

/// Nothing to do, but with a destructor it stays in one piece: a closure that uses an address would otherwise take just
/// that, and leave the place behind it to be given back.
impl Drop for TestCluster {
    fn drop(&mut self) {}
}

/// A Redis database of a test's own; given back when dropped.
pub struct TestRedis {
    /// `redis://…`, with the number of the database.
    pub url: String,
    base: Url,
    number: u32,
}

/// A database of its own on the shared Redis server.
///
/// # Panics
/// As [`cluster`].
pub async fn redis() -> TestRedis {
    let base = match external("SECKILL_TEST_REDIS_URL") {
        Some(url) => url,
        None => parse(&shared(&REDIS).await.url()),
    };
    TestRedis::take(base).await.unwrap_or_else(|reason| panic!("Redis: {reason}"))
}

impl TestRedis {
    /// Empties the database.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn flush(&self) {
        let flushed = run_redis(&with_path(&self.base, &self.number.to_string()), &["FLUSHDB"]).await;
        flushed.unwrap_or_else(|reason| panic!("cannot empty the Redis database: {reason}"));
    }

    /// Takes the first database that no other test has. Who has one is noted in database 0, which no test gets.
    async fn take(base: Url) -> Result<Self, String> {
        let home = with_path(&base, "0");
        let databases = run_redis(&home, &["CONFIG", "GET", "databases"]).await?;
        let databases: Vec<String> = redis::from_redis_value(databases).map_err(|e| e.to_string())?;
        let databases: u32 = databases
            .get(1)
            .and_then(|number| number.parse().ok())
            .ok_or("it reports no number of databases")?;
        let started = Instant::now();
        while started.elapsed() < DATABASE_DEADLINE {
            for number in 1..databases {
                // The note ends by itself, for the sake of a test process that was killed.
                let note = ["SET", &note(number), "taken", "NX", "EX", "600"];
                if run_redis(&home, &note).await? == redis::Value::Okay {
                    let url = with_path(&base, &number.to_string());
                    let taken = Self { url: url.to_string(), base, number };
                    taken.flush().await;
                    return Ok(taken);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!(
            "all {databases} databases are in use by other tests; give the server more (--databases 1024)"
        ))
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let own = with_path(&self.base, &self.number.to_string());
        let home = with_path(&self.base, "0");
        let note = note(self.number);
        clean_up(async move {
            run_redis(&own, &["FLUSHDB"]).await?;
            run_redis(&home, &["DEL", &note]).await.map(drop)
        });
    }
}

fn note(number: u32) -> String {
    format!("seckill-testkit:database:{number}")
}

/// A vhost of a test's own; removed when dropped.
pub struct TestRabbit {
    /// `amqp://…`, with the vhost.
    pub url: String,
    vhost: Vhost,
}

/// A vhost of its own on the shared RabbitMQ node.
///
/// # Panics
/// As [`cluster`]; and when the HTTP API of a node of `SECKILL_TEST_AMQP_URL` does not answer at
/// `SECKILL_TEST_AMQP_MANAGEMENT_URL`, by default port 15672 of the same host with the same credentials.
pub async fn rabbit() -> TestRabbit {
    let (base, management) = match external("SECKILL_TEST_AMQP_URL") {
        Some(url) => {
            let management =
                external("SECKILL_TEST_AMQP_MANAGEMENT_URL").unwrap_or_else(|| default_management(&url));
            (url, management)
        }
        None => {
            let shared = shared(&RABBIT).await;
            (parse(&shared.url()), parse(&shared.kind().management_url()))
        }
    };
    TestRabbit::make(&base, management).await.unwrap_or_else(|reason| panic!("RabbitMQ's HTTP API: {reason}"))
}

impl TestRabbit {
    async fn make(base: &Url, management: Url) -> Result<Self, String> {
        let name = random_name();
        let user = if base.username().is_empty() { "guest" } else { base.username() };
        let vhost = Vhost::new(management, &name);
        vhost.create(user).await?;
        Ok(Self { url: with_path(base, &name).to_string(), vhost })
    }

    /// What an operator may do to its queues.
    pub fn vhost(&self) -> &Vhost {
        &self.vhost
    }

    async fn delete(&self) -> Result<(), String> {
        self.vhost.delete().await
    }
}

impl Drop for TestRabbit {
    fn drop(&mut self) {
        let vhost = self.vhost.clone();
        clean_up(async move { vhost.delete().await });
    }
}

fn default_management(amqp: &Url) -> Url {
    let mut url = parse("http://guest:guest@127.0.0.1:15672");
    let user = if amqp.username().is_empty() { "guest" } else { amqp.username() };
    url.set_host(amqp.host_str())
        .and_then(|()| {
            let named =
                url.set_username(user).and_then(|()| url.set_password(amqp.password().or(Some("guest"))));
            named.map_err(|()| url::ParseError::EmptyHost)
        })
        .unwrap_or_else(|error| panic!("SECKILL_TEST_AMQP_URL is no address of a RabbitMQ node: {error}"));
    url
}

/// A MySQL database of a test's own; removed when dropped.
pub struct TestMySql {
    /// `mysql://…`, with the database.
    pub url: String,
    base: Url,
    name: String,
}

/// A database of its own on the shared MySQL or MariaDB server.
///
/// # Panics
/// As [`cluster`].
pub async fn mysql() -> TestMySql {
    let base = match external("SECKILL_TEST_MYSQL_URL") {
        Some(url) => url,
        None => parse(&shared(&MYSQL).await.kind().admin_url()),
    };
    let name = random_name();
    // With the server's default character set, as on the servers of users.
    run_mysql(&base, format!("CREATE DATABASE {name}"))
        .await
        .unwrap_or_else(|reason| panic!("cannot make a MySQL database: {reason}"));
    TestMySql { url: with_path(&base, &name).to_string(), base, name }
}

impl TestMySql {
    async fn delete(&self) -> Result<(), String> {
        drop_database(self.base.clone(), self.name.clone()).await
    }
}

impl Drop for TestMySql {
    fn drop(&mut self) {
        clean_up(drop_database(self.base.clone(), self.name.clone()));
    }
}

/// Gives up where a connection of the test still holds a table.
async fn drop_database(base: Url, name: String) -> Result<(), String> {
    run_mysql(&base, format!("SET SESSION lock_wait_timeout = 2; DROP DATABASE IF EXISTS {name}")).await
}

async fn run_mysql(url: &Url, sql: String) -> Result<(), String> {
    let run = async {
        let mut connection = MySqlConnection::connect(url.as_str()).await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await
    };
    run.await.map_err(|error: sqlx::Error| error.to_string())
}

async fn shared<K: Kind>(
    server: &'static OnceCell<Result<PrivateServer<K>, String>>,
) -> &'static PrivateServer<K> {
    server
        .get_or_init(|| PrivateServer::try_start(None))
        .await
        .as_ref()
        .unwrap_or_else(|reason| panic!("{reason}"))
}

fn external(variable: &str) -> Option<Url> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable} is not a URL: {error}")))
}

fn parse(url: &str) -> Url {
    url.parse().unwrap_or_else(|error| panic!("{url} is not a URL: {error}"))
}

fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

fn random_name() -> String {
    format!("seckill_test_{}", uuid::Uuid::now_v7().simple())
}

/// Runs the end of something from a destructor, in which nothing can be awaited, and waits for it: the process may be
/// about to end. A failure is not worth a word: our own servers vanish anyway, and the test has said what it had to say.
fn clean_up(work: impl Future<Output = Result<(), String>> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let bounded = async { tokio::time::timeout(CLEAN_UP_DEADLINE, work).await };
        let _ = runtime.map(|runtime| runtime.block_on(bounded));
    });
    let _ = thread.join();
}
