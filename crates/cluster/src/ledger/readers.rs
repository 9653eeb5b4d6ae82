//! The pool of connections for questions, and for writes of one statement. Batches are committed elsewhere, by writers
//! that have a connection of their own.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use futures_util::future::BoxFuture;
use seckill_core::{Dependency, Fault};
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;

use super::server::{CONNECT, Server, within};

/// Connections, at the most.
const SIZE: usize = 8;
/// The longest wait for a free connection.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that a pooled connection may take to prove that it is alive.
const RECYCLE: Duration = Duration::from_secs(1);

/// What a question may change, and so what a failure may leave behind.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Nothing.
    Nothing,
    /// What one statement changes.
    OneStatement,
}

/// A pool of connections. Not sqlx's: that one goes on trying to connect until its time-out and then cannot say why.
pub(super) struct Readers {
    server: Server,
    pool: Pool<Server>,
}

impl Readers {
    pub(super) fn new(server: Server) -> Self {
        let pool = Pool::builder(server.clone())
            .max_size(SIZE)
            .timeouts(Timeouts { wait: Some(WAIT), create: Some(CONNECT), recycle: Some(RECYCLE) })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the pool has a runtime for its time-outs");
        Self { server, pool }
    }

    /// Runs `work` on a connection of the pool. After anything but an answer the connection is dropped: the rest of an
    /// answer may still be under way on it.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where nothing was sent, was refused, or changes nothing anyway; [`Fault::Unknown`] where no
    /// answer came to a statement that changes something; [`Fault::Corrupt`] where a row holds what seckill never writes.
    pub(super) async fn run<T>(
        &self,
        effect: Effect,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
    ) -> Result<T, Fault> {
        let mut connection = self.pool.get().await.map_err(|error| self.no_connection(error))?;
        let failure = match within(deadline, work(&mut connection)).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        if !failure.is_refusal() {
            drop(Object::take(connection));
        }
        Err(match effect {
            _ if failure.is_unreadable() => {
                Fault::corrupt(Dependency::Ledger, self.server.sentence(&failure))
            }
            Effect::OneStatement if !failure.is_refusal() => self.server.unknown(&failure),
            _ => self.server.unavailable(&failure),
        })
    }

    fn no_connection(&self, error: PoolError<Fault>) -> Fault {
        match error {
            PoolError::Backend(fault) => fault,
            PoolError::Timeout(TimeoutType::Wait) => Fault::unavailable(
                Dependency::Ledger,
                format!("all {SIZE} connections to {} were busy for {WAIT:?}", self.server.place()),
            ),
            _ => Fault::unavailable(
                Dependency::Ledger,
                format!("{} did not answer within {CONNECT:?}", self.server.place()),
            ),
        }
    }
}

impl Manager for Server {
    type Type = MySqlConnection;
    type Error = Fault;

    async fn create(&self) -> Result<MySqlConnection, Fault> {
        self.connect().await
    }

    async fn recycle(&self, connection: &mut MySqlConnection, _: &Metrics) -> RecycleResult<Fault> {
        connection.ping().await.map_err(|error| RecycleError::message(error.to_string()))
    }
}
