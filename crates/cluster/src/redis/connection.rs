//! How a connection to Redis is made, kept and looked at: with the run of the server beside it.

use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use deadpool_redis::Manager;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{
    AsyncConnectionConfig, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind, cmd,
};

use super::Run;

pub(super) type Pool = managed::Pool<Connecting>;
pub(super) type Object = managed::Object<Connecting>;

/// A connection, and the server that it goes to.
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    /// The run id of the server. A connection does not outlive its server, so this holds as long as the connection does.
    /// Empty where it was not asked for.
    pub(super) run: String,
}

/// Makes connections.
pub(super) struct Connecting {
    inner: Manager,
    run: Run,
}

impl Connecting {
    pub(super) fn new(server: ConnectionInfo, run: Run, connect: Duration, answer: Duration) -> Self {
        // A batch of claims is several segments long; the last one must not wait for an acknowledgement of the others.
        let server = server.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect))
            .set_response_timeout(Some(answer));
        let inner = Manager::new_with_config(server, config).expect("the connection info is parsed already");
        Self { inner, run }
    }
}

impl managed::Manager for Connecting {
    type Type = Connected;
    type Error = RedisError;

    async fn create(&self) -> Result<Connected, RedisError> {
        let mut connection = self.inner.create().await?;
        let run = match self.run {
            Run::Any => String::new(),
            Run::Named => run_id(&mut connection).await?,
        };
        Ok(Connected { connection, run })
    }

    async fn recycle(&self, connected: &mut Connected, metrics: &Metrics) -> RecycleResult<RedisError> {
        self.inner.recycle(&mut connected.connection, metrics).await
    }
}

async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let info: String = cmd("INFO").arg("server").query_async(connection).await?;
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    id.map(|id| id.trim().to_owned()).ok_or_else(|| {
        RedisError::from((ErrorKind::Server(ServerErrorKind::ResponseError), "INFO names no run_id"))
    })
}
