//! How a request reaches Redis: the pool, its time-outs, and what a failure leaves behind. Knows nothing of sales.

use std::time::Duration;

use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind,
    Value,
};
use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, TimeoutType, Timeouts};
use seckill_core::{Dependency, Fault};

/// The longest wait for a free connection of the pool.
const WAIT: Duration = Duration::from_secs(1);
/// The longest that connecting may take.
const CREATE: Duration = Duration::from_secs(2);
/// The longest that a pooled connection may take to prove that it is alive. What replaces a connection whose other end
/// has vanished without a word.
const RECYCLE: Duration = Duration::from_millis(500);
/// The longest for all three together; several dead connections in the pool are found out one after the other.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// One request.
pub(crate) enum Request<'a> {
    /// A command by itself.
    Command(&'a Cmd),
    /// A call of a script by its hash; the script is loaded where Redis does not know it.
    Script(&'a Script, &'a Cmd),
    /// Several commands in one go; the answer is a list.
    Pipeline(&'a Pipeline),
}

/// What a request may change, and so what a failure may leave behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Read,
    /// Something, all of it or none.
    Write,
}

/// A pool of connections to one Redis server.
pub(crate) struct Redis {
    pool: Pool,
    address: String,
    /// What it stands for, in faults.
    dependency: Dependency,
}

impl Redis {
    pub(crate) fn new(server: ConnectionInfo, size: usize, dependency: Dependency) -> Self {
        let address = server.addr().to_string();
        // A batch of claims is several segments long; the last one must not wait for an acknowledgement of the others.
        let server = server.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CREATE))
            .set_response_timeout(Some(ANSWER));
        let manager =
            Manager::new_with_config(server, config).expect("the connection info is parsed already");
        let pool = Pool::builder(manager)
            .max_size(size.max(1))
            .timeouts(Timeouts { wait: Some(WAIT), create: Some(CREATE), recycle: Some(RECYCLE) })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the pool has a runtime for its time-outs");
        Self { pool, address, dependency }
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where the request was not sent, was refused, or changes nothing anyway; [`Fault::Unknown`]
    /// where no answer came to a write; [`Fault::Corrupt`] where the keys hold something else than seckill writes.
    pub(crate) async fn send(&self, request: Request<'_>, effect: Effect) -> Result<Value, Fault> {
        let mut connection = self.connection().await?;
        let answer = match request {
            Request::Command(call) => call.query_async(&mut connection).await,
            Request::Script(script, call) => run_script(script, call, &mut connection).await,
            Request::Pipeline(calls) => calls.query_async(&mut connection).await,
        };
        answer.map_err(|error| {
            if is_server_error(&error) {
                return self.refused(&error);
            }
            // An answer may still be under way; no one else may get this connection.
            drop(Connection::take(connection));
            let reason = format!("no answer from Redis at {}: {error}", self.address);
            match effect {
                Effect::Read => Fault::unavailable(self.dependency, reason),
                Effect::Write => Fault::unknown(self.dependency, reason),
            }
        })
    }

    async fn connection(&self) -> Result<Connection, Fault> {
        let Ok(connected) = tokio::time::timeout(CONNECT, self.pool.get()).await else {
            // Connections do not all hang at once unless the server or the way to it is gone; begin anew.
            self.pool.retain(|_, _| false);
            return Err(self.unreachable(format!("no working connection within {CONNECT:?}")));
        };
        connected.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => self.unreachable(format!(
                "all {} connections were busy for {WAIT:?}",
                self.pool.status().max_size
            )),
            PoolError::Timeout(_) => self.unreachable(format!("no connection within {CREATE:?}")),
            PoolError::Backend(error) if is_of_the_setup(&error) => self.misconfigured(&error),
            PoolError::Backend(error) => self.unreachable(error),
            error => self.unreachable(error),
        })
    }

    fn misconfigured(&self, error: &RedisError) -> Fault {
        let reason = format!(
            "Redis at {} refuses us: {error}; check user, password, rights and database number in the redis url",
            self.address
        );
        Fault::misconfigured(self.dependency, reason)
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> Fault {
        Fault::unavailable(self.dependency, format!("cannot use Redis at {}: {reason}", self.address))
    }

    /// Redis answered with an error: it refused before the first write, since our scripts check before they write.
    fn refused(&self, error: &RedisError) -> Fault {
        let detail = error.detail().unwrap_or_default();
        match error.code() {
            Some("GATEMISSING") => Fault::unavailable(
                self.dependency,
                "Redis has no data for this sale: it was never opened, or Redis has lost it",
            ),
            Some("GATEEPOCH") => Fault::unavailable(
                self.dependency,
                format!(
                    "Redis has this sale on another epoch, {detail}: it was filled anew, or an older copy came back"
                ),
            ),
            Some("GATECORRUPT") => Fault::corrupt(self.dependency, detail),
            Some("WRONGTYPE") => {
                Fault::corrupt(self.dependency, "a key of the sale has another type than seckill gives it")
            }
            _ if is_of_the_setup(error) => self.misconfigured(error),
            _ => Fault::unavailable(self.dependency, format!("Redis at {} refused: {error}", self.address)),
        }
    }
}

async fn run_script(script: &Script, call: &Cmd, connection: &mut Connection) -> Result<Value, RedisError> {
    match call.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            script.load_async(connection).await?;
            call.query_async(connection).await
        }
        answer => answer,
    }
}

/// Whether only somebody who changes the user, their rights or the URL can mend it.
fn is_of_the_setup(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

fn is_server_error(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}
