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

use super::server::{CONNECT, Failure, Purpose, Server, code, within};

/// The longest wait for a free connection.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that a pooled connection may take to prove that it is alive.
const RECYCLE: Duration = Duration::from_secs(1);

/// What a question may change, and so what a failure may leave behind.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Nothing.
    Nothing,
    OneStatement,
    /// What a transaction of several statements changes, COMMIT included.
    Transaction,
}

impl Effect {
    /// Whether what failed in this way may have changed something all the same.
    fn may_have_happened(self, failure: &Failure) -> bool {
        match self {
            Self::Nothing => false,
            // A server that stops a statement says so even when it stops it too late.
            Self::OneStatement => !failure.is_refusal() || failure.number() == Some(code::STATEMENT_TIMEOUT),
            // The refusal may be that of COMMIT, which says little about what was done.
            Self::Transaction => !failure.is_before_commit(),
        }
    }
}

/// Makes the connections of a pool.
struct Maker {
    server: Server,
    purpose: Purpose,
}

/// A pool of connections whose questions have one deadline, here and on the server. Not sqlx's: that one goes on trying to connect until its time-out and then cannot say why.
pub(super) struct Readers {
    server: Server,
    pool: Pool<Maker>,
    size: usize,
    deadline: Duration,
}

impl Readers {
    /// At most `size` connections, at most `deadline` for each answer.
    pub(super) fn new(server: Server, size: usize, deadline: Duration) -> Self {
        let purpose = Purpose::Questions(deadline);
        let pool = Pool::builder(Maker { server: server.clone(), purpose })
            .max_size(size)
            .timeouts(Timeouts { wait: Some(WAIT), create: Some(CONNECT), recycle: Some(RECYCLE) })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("the pool has a runtime for its time-outs");
        Self { server, pool, size, deadline }
    }

    /// Runs `work` on a connection of the pool. After anything but an answer the connection is dropped: the rest of an
    /// answer may still be under way on it, or a transaction be open.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where nothing was sent, was refused, or changes nothing anyway; [`Fault::Unknown`] where no
    /// answer came to a statement that changes something; [`Fault::Corrupt`] where a row holds what seckill never writes.
    pub(super) async fn run<T>(
        &self,
        effect: Effect,
        work: impl for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
    ) -> Result<T, Fault> {
        let connection = self.pool.get().await.map_err(|error| self.no_connection(error))?;
        let mut asked = Asked { connection: Some(connection), deadline: self.deadline };
        let outcome = within(self.deadline, work(asked.connection())).await;
        let connection = asked.answered();
        let failure = match outcome {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        if !failure.is_refusal() || matches!(effect, Effect::Transaction) {
            drop(Object::take(connection));
        }
        Err(match effect {
            _ if failure.is_unreadable() => {
                Fault::corrupt(Dependency::Ledger, self.server.sentence(&failure))
            }
            effect if effect.may_have_happened(&failure) => self.server.unknown(&failure),
            _ => self.server.unavailable(&failure),
        })
    }

    fn no_connection(&self, error: PoolError<Fault>) -> Fault {
        match error {
            PoolError::Backend(fault) => fault,
            PoolError::Timeout(TimeoutType::Wait) => Fault::unavailable(
                Dependency::Ledger,
                format!("all {} connections to {} were busy for {WAIT:?}", self.size, self.server.place()),
            ),
            _ => Fault::unavailable(
                Dependency::Ledger,
                format!("{} did not answer within {CONNECT:?}", self.server.place()),
            ),
        }
    }
}

/// A connection on which a question is under way. The server goes on with a statement whose asker has gone, so such a connection
/// keeps its place in the pool until the server is done: there are never more statements at work than the pool has places, however
/// many askers come and hang up.
struct Asked {
    /// `None` once the answer is there.
    connection: Option<Object<Maker>>,
    deadline: Duration,
}

impl Asked {
    fn connection(&mut self) -> &mut MySqlConnection {
        self.connection.as_mut().expect("the connection is here until the answer is")
    }

    /// Takes the connection out, to be used again.
    fn answered(mut self) -> Object<Maker> {
        self.connection.take().expect("the connection is here until the answer is")
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let deadline = self.deadline;
        // Outside of a runtime nothing can be waited for, and the process is about to end.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // A ping is answered after the statement. The server ends that one within the deadline.
            let _ = within(deadline, connection.ping()).await;
            // Dropped rather than used again: the answer may have been cut off in the middle of a packet.
            drop(Object::take(connection));
        });
    }
}

impl Manager for Maker {
    type Type = MySqlConnection;
    type Error = Fault;

    async fn create(&self) -> Result<MySqlConnection, Fault> {
        self.server.connect(self.purpose).await
    }

    async fn recycle(&self, connection: &mut MySqlConnection, _: &Metrics) -> RecycleResult<Fault> {
        connection.ping().await.map_err(|error| RecycleError::message(error.to_string()))
    }
}
