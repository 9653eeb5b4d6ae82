//! The sending half: a connection of its own, because WAITAOF waits for what its own connection has written, and whatever else is
//! sent on that connection waits behind it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisResult, cmd,
};
use seckill_core::{Dependency, Fault, Message, OrderBatch, Publisher};

use super::entry::BODY;
use super::shared::{SharedQueue, unavailable};
use crate::redis::is_server_error;

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest wait for a confirm; then the message's fate is unknown.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long Redis waits for its own disk before it says that a message is not on it yet.
const DISK: Duration = Duration::from_millis(4_500);

pub(super) struct StreamPublisher {
    shared: SharedQueue,
    connection: MultiplexedConnection,
    /// False once the other end has hung up.
    connected: Arc<AtomicBool>,
    /// Whether Redis can say that a message is on its disk.
    on_disk: bool,
    /// Names this publisher to the intake.
    number: u64,
    /// After a fault an answer may still be under way on this connection; nothing more is sent on it.
    spent: bool,
}

impl StreamPublisher {
    pub(super) async fn open(shared: SharedQueue) -> Result<Self, Fault> {
        shared.note_ledger().await;
        // While Redis is full nobody can make the group any more, and without it nothing can be drained.
        if let Ok(keys) = shared.keys().await
            && let Err(fault) = shared.open(&keys, None).await
        {
            tracing::debug!(%fault, "the group of the queue's consumers could not be made");
        }
        let connected = Arc::new(AtomicBool::new(true));
        let opening = async {
            let mut connection = connect(&shared, Arc::clone(&connected)).await?;
            let on_disk = has_waitaof(&mut connection, &shared).await?;
            Ok((connection, on_disk))
        };
        let address = shared.server.addr();
        let (connection, on_disk) = match tokio::time::timeout(CONNECT, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                let error: deadpool_redis::redis::RedisError = error;
                return Err(unavailable(format!("cannot use Redis at {address}: {error}")));
            }
            Err(_) => {
                return Err(unavailable(format!(
                    "cannot use Redis at {address}: no connection within {CONNECT:?}"
                )));
            }
        };
        let number = shared.intake.number();
        Ok(Self { shared, connection, connected, on_disk, number, spent: false })
    }

    fn is_connected(&self) -> bool {
        !self.spent && self.connected.load(Ordering::Relaxed)
    }

    fn why_not(&self) -> String {
        if !self.is_connected() {
            return "the connection to the queue's Redis is lost".to_owned();
        }
        let refused = self.shared.intake.reason();
        refused.unwrap_or_else(|| "another batch tries whether Redis takes it".to_owned())
    }

    /// Sends one message, and waits until Redis has it: on disk, where Redis can say that.
    async fn send(&mut self, stream: &str, message: &str) -> Result<(), NotSent> {
        let mut sending = Pipeline::with_capacity(2);
        sending.cmd("XADD").arg(stream).arg("*").arg(BODY).arg(message).ignore();
        if self.on_disk {
            sending.cmd("WAITAOF").arg(1).arg(0).arg(DISK.as_millis().to_string());
        }
        let sent: RedisResult<Vec<(u64, u64)>> =
            match tokio::time::timeout(CONFIRM, sending.query_async(&mut self.connection)).await {
                Ok(answer) => answer,
                Err(_) => return Err(NotSent::Refused(format!("Redis did not answer within {CONFIRM:?}"))),
            };
        match sent {
            Ok(synced) if synced.iter().all(|(disks, _)| *disks > 0) => Ok(()),
            Ok(_) => {
                Err(NotSent::Refused(format!("Redis did not write a message to its disk within {DISK:?}")))
            }
            Err(error) if is_server_error(&error) => {
                Err(NotSent::Refused(format!("Redis refused a message: {error}")))
            }
            Err(error) => Err(NotSent::Lost(format!("Redis was lost before it confirmed: {error}"))),
        }
    }
}

#[async_trait]
impl Publisher for StreamPublisher {
    fn accepting(&self) -> bool {
        self.is_connected() && self.shared.intake.admits(self.number)
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        if !self.accepting() {
            return Err(unavailable(self.why_not()));
        }
        let keys = self.shared.keys().await?;
        let message = Message::write(batch, Some(keys.ledger));
        // Whatever happens from here on, cancellation included, the message may be on its way. Only the one good end takes this back.
        self.spent = true;
        match self.send(&keys.orders, &message).await {
            Ok(()) => {
                self.spent = false;
                self.shared.intake.took(self.number);
                Ok(())
            }
            // A Redis that refuses a message does not have it. All the same this is an unknown end: the orders stay reserved and
            // pending, and are sent again later, so that a refused batch is a delayed one.
            Err(NotSent::Refused(reason)) => {
                self.shared.intake.refused(self.number, &reason);
                Err(Fault::unknown(Dependency::Queue, reason))
            }
            Err(NotSent::Lost(reason)) => Err(Fault::unknown(Dependency::Queue, reason)),
        }
    }
}

impl Drop for StreamPublisher {
    fn drop(&mut self) {
        self.shared.intake.left(self.number);
    }
}

/// Why a message has no confirm.
enum NotSent {
    /// Redis is there, and refused the message or did not confirm it in time.
    Refused(String),
    Lost(String),
}

/// Connects by the newer protocol: only with it the client says at once that the other end has hung up.
async fn connect(shared: &SharedQueue, connected: Arc<AtomicBool>) -> RedisResult<MultiplexedConnection> {
    let settings = shared.server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let watch = move |news: PushInfo| {
        if news.kind == PushKind::Disconnection {
            connected.store(false, Ordering::Relaxed);
        }
        Ok::<_, Infallible>(())
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONFIRM))
        .set_push_sender(watch);
    // A batch is several segments long; the last one must not wait for an acknowledgement of the others.
    let tcp = TcpSettings::default().set_nodelay(true);
    let client = Client::open(shared.server.clone().set_redis_settings(settings).set_tcp_settings(tcp))?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Whether Redis has an append-only file and can say what is in it; logs once where it cannot.
async fn has_waitaof(connection: &mut MultiplexedConnection, shared: &SharedQueue) -> RedisResult<bool> {
    let server: String = cmd("INFO").arg("server").query_async(connection).await?;
    let persistence: String = cmd("INFO").arg("persistence").query_async(connection).await?;
    let (version, aof) = (field(&server, "redis_version"), field(&persistence, "aof_enabled"));
    let has_file = aof == Some("1");
    let can_say = has_file && version.is_some_and(knows_waitaof);
    if !can_say && !shared.confirm_logged.swap(true, Ordering::Relaxed) {
        if has_file {
            tracing::warn!(
                version,
                "the queue's Redis cannot say what is on its disk (that needs 7.2 or later): what it confirms is on disk only \
                 with `appendfsync always`"
            );
        } else {
            tracing::warn!(
                "the queue's Redis has no append-only file: what it confirms is in its memory, and lost when it is restarted"
            );
        }
    }
    Ok(can_say)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// WAITAOF came with Redis 7.2.
fn knows_waitaof(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (7, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_whether_the_disk_can_be_asked() {
        for (version, knows) in
            [("7.0.15", false), ("7.2.0", true), ("8.0.6", true), ("6.2", false), ("", false)]
        {
            assert_eq!(knows_waitaof(version), knows, "{version}");
        }
        assert_eq!(field("# Server\r\nredis_version:8.0.6\r\n", "redis_version"), Some("8.0.6"));
    }
}
