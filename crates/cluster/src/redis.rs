//! How a request reaches Redis: the pool, its time-outs, and what a failure leaves behind. Knows nothing of sales.

mod connection;

use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind, Value, cmd,
};
use deadpool_redis::{PoolError, Runtime, TimeoutType, Timeouts};
use seckill_core::{Dependency, Fault};

use self::connection::{Connected, Connecting, Pool};

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

/// Whether requests name the run of the server in which they may have an effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// They name the run in which their connection was made, and need the right to use INFO.
    Named,
    /// They name none.
    Any,
}

pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    /// A call of a script by its hash; the script is loaded where Redis does not know it.
    Script(&'a Script, &'a Cmd),
    /// The same, with one argument more: the run id of the server, or nothing where any run will do.
    ScriptInRun(&'a Script, &'a mut Cmd),
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
    pub(crate) fn new(server: ConnectionInfo, size: usize, dependency: Dependency, run: Run) -> Self {
        let address = server.addr().to_string();
        let pool = Pool::builder(Connecting::new(server, run, CREATE, ANSWER))
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
    /// where no answer came to a write; [`Fault::Lost`] where the sale's data is gone or cannot be trusted;
    /// [`Fault::Corrupt`] where the keys hold something else than seckill writes.
    pub(crate) async fn send(&self, request: Request<'_>, effect: Effect) -> Result<Value, Fault> {
        let mut connected = self.connection().await?;
        let Connected { connection, run } = &mut *connected;
        let answer = match request {
            Request::Command(call) => call.query_async(connection).await,
            Request::Script(script, call) => run_script(script, call, connection).await,
            Request::ScriptInRun(script, call) => run_script(script, call.arg(&*run), connection).await,
            Request::Pipeline(calls) => calls.query_async(connection).await,
        };
        answer.map_err(|error| {
            if is_server_error(&error) {
                return self.refused(&error);
            }
            // An answer may still be under way; no one else may get this connection.
            drop(connection::Object::take(connected));
            let reason = format!("no answer from Redis at {}: {error}", self.address);
            match effect {
                Effect::Read => Fault::unavailable(self.dependency, reason),
                Effect::Write => Fault::unknown(self.dependency, reason),
            }
        })
    }

    async fn connection(&self) -> Result<connection::Object, Fault> {
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
            "Redis at {} refuses us: {}; check user, password, rights and database number in the redis url",
            self.address,
            without_script(error)
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
            Some("GATEMISSING") => Fault::lost(
                self.dependency,
                "Redis has no data for this sale, or lacks a part of it: it was never opened, or Redis has lost it",
            ),
            Some("GATEEPOCH") => Fault::lost(
                self.dependency,
                format!(
                    "Redis has this sale on another epoch, {detail}: it was filled anew, or an older copy came back"
                ),
            ),
            Some("GATERUN") => Fault::lost(
                self.dependency,
                "Redis was started again or replaced since this sale was filled: it may have lost the last orders",
            ),
            Some("GATESTAGED") => Fault::lost(
                self.dependency,
                format!("Redis has {detail} staged holders, not as many as were written"),
            ),
            Some("GATECORRUPT") => Fault::corrupt(self.dependency, detail),
            Some("WRONGTYPE") => {
                Fault::corrupt(self.dependency, "a key of the sale has another type than seckill gives it")
            }
            _ if is_of_the_setup(error) => self.misconfigured(error),
            _ => Fault::unavailable(
                self.dependency,
                format!("Redis at {} refused: {}", self.address, without_script(error)),
            ),
        }
    }
}

/// The beginning of a call of a script by its hash; its arguments follow.
pub(crate) fn call(script: &Script, keys: &[String]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

async fn run_script(
    script: &Script,
    call: &Cmd,
    connection: &mut MultiplexedConnection,
) -> Result<Value, RedisError> {
    match call.query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            script.load_async(connection).await?;
            call.query_async(connection).await
        }
        answer => answer,
    }
}

/// How Redis 8 begins the refusal of a command within a script.
const ACL_FAILURE: &str = "ACL failure in script: ";

/// What Redis says, without the hash of the script and the line in it.
fn without_script(error: &RedisError) -> String {
    let text = error.to_string().replace(ACL_FAILURE, "");
    match text.split_once(" script: ") {
        Some((said, _)) => said.to_owned(),
        None => text,
    }
}

/// Whether only somebody who changes the user, their rights or the URL can mend it.
fn is_of_the_setup(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        // A command within a script is refused without a code of its own: the words of Redis 7, and those of Redis 8.
        || error.detail().is_some_and(|detail| {
            detail.starts_with("The user executing the script can't") || detail.starts_with(ACL_FAILURE)
        })
}

pub(crate) fn is_server_error(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}
