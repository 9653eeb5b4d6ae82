//! The fault proxy in front of an echo server, where every byte is known, and in front of a real Redis.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis;
use deadpool_redis::redis::aio::MultiplexedConnection;
use seckill_testkit::proxy::{Direction, Flow, Scope};
use seckill_testkit::{FaultProxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// How long to look out for something that must not happen.
const NEVER: Duration = Duration::from_millis(200);

/// Sends back what it gets, and counts it.
struct Echo {
    address: String,
    received: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                        counter.fetch_add(read as u64, Ordering::SeqCst);
                        if stream.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, received, _task: task }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    async fn has_received(&self, bytes: u64) {
        eventually(DEADLINE, async || if self.received() == bytes { Ok(()) } else { Err(self.received()) })
            .await;
    }
}

async fn start() -> (Echo, FaultProxy, TcpStream) {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(&echo.address).await;
    let mut client = connect(&proxy).await;
    assert_eq!(ask(&mut client, "hello").await, "hello");
    (echo, proxy, client)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    read(stream, text.len()).await
}

async fn read(stream: &mut TcpStream, bytes: usize) -> String {
    let mut answer = vec![0; bytes];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn nothing_comes(stream: &mut TcpStream) {
    let read = timeout(NEVER, stream.read(&mut [0; 16])).await;
    assert!(read.is_err(), "{read:?}");
}

/// Also before anything is read: a reset is an error, the orderly end of a stream is not.
async fn is_reset(stream: &mut TcpStream) {
    let read = timeout(DEADLINE, stream.read(&mut [0; 16])).await.unwrap();
    assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn what_passes_is_counted() {
    let (_echo, proxy, mut client) = start().await;
    assert_eq!(ask(&mut client, "again").await, "again");
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.open), (1, 1));
    for bytes in [counts.to_server, counts.to_client] {
        assert_eq!((bytes.read, bytes.forwarded, bytes.swallowed), (10, 10, 0));
    }
    // The orderly end of one direction reaches the other side, and what is under way still arrives.
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "last");
    eventually(DEADLINE, async || match proxy.counts().open {
        0 => Ok(()),
        open => Err(open),
    })
    .await;
}

#[tokio::test]
async fn the_reply_to_one_request_is_cut() {
    let (echo, proxy, mut client) = start().await;
    let mut other = connect(&proxy).await;
    proxy.set(Direction::ToServer, Flow::CutReplyTo("COMMIT"));
    assert_eq!(ask(&mut client, "BEGIN").await, "BEGIN");
    let before = echo.received();
    client.write_all(b"and COMMIT").await.unwrap();
    echo.has_received(before + 10).await;
    assert_eq!(timeout(DEADLINE, client.read(&mut [0; 16])).await.unwrap().unwrap(), 0);
    // Other connections go on.
    assert_eq!(ask(&mut other, "SELECT").await, "SELECT");
}

#[tokio::test]
async fn more_than_the_buffers_hold_comes_through_whole() {
    let (_echo, _proxy, client) = start().await;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = client.into_split();
    let mut received = vec![0; sent.len()];
    let write = async { writer.write_all(&sent).await.unwrap() };
    let read = async { reader.read_exact(&mut received).await.unwrap() };
    timeout(DEADLINE, async { tokio::join!(write, read) }).await.unwrap();
    assert!(sent == received, "the bytes differ");
}

#[tokio::test]
async fn a_delay_holds_up_each_direction() {
    let (_echo, proxy, mut client) = start().await;
    let delay = Duration::from_millis(150);
    proxy.set(Direction::ToServer, Flow::Delay(delay));
    let started = Instant::now();
    assert_eq!(ask(&mut client, "one").await, "one");
    assert!(started.elapsed() >= delay);
    proxy.set(Direction::ToClient, Flow::Delay(delay));
    let started = Instant::now();
    assert_eq!(ask(&mut client, "both").await, "both");
    assert!(started.elapsed() >= 2 * delay);
    // Shorter now, also for what is kept already.
    proxy.set_both(Flow::Delay(Duration::from_secs(3600)));
    client.write_all(b"late").await.unwrap();
    nothing_comes(&mut client).await;
    proxy.set_both(Flow::Pass);
    assert_eq!(read(&mut client, 4).await, "late");
}

#[tokio::test]
async fn what_is_held_arrives_later_and_is_bounded() {
    let (echo, proxy, mut client) = start().await;
    proxy.set(Direction::ToServer, Flow::Hold);
    client.write_all(b"held").await.unwrap();
    nothing_comes(&mut client).await;
    assert_eq!(echo.received(), 5);
    // New connections are accepted, and held too.
    let mut other = connect(&proxy).await;
    other.write_all(b"other").await.unwrap();
    nothing_comes(&mut other).await;
    assert_eq!(proxy.counts().connections, 2);
    proxy.set(Direction::ToServer, Flow::Pass);
    assert_eq!(read(&mut client, 4).await, "held");
    assert_eq!(read(&mut other, 5).await, "other");

    proxy.set_both(Flow::Hold);
    let before = proxy.counts().to_server.read;
    let flood = timeout(NEVER * 5, client.write_all(&vec![0; 64 * 1024 * 1024])).await;
    assert!(flood.is_err(), "64 MiB were taken");
    assert!(proxy.counts().to_server.read - before <= 256 * 1024);
}

#[tokio::test]
async fn swallowed_replies_never_come() {
    let (echo, proxy, mut client) = start().await;
    proxy.set(Direction::ToClient, Flow::Swallow);
    client.write_all(b"command").await.unwrap();
    echo.has_received(12).await;
    nothing_comes(&mut client).await;
    assert_eq!(proxy.counts().to_client.swallowed, 7);
    // There is no limit to what is swallowed.
    timeout(DEADLINE, client.write_all(&vec![0; 4 * 1024 * 1024])).await.unwrap().unwrap();
    // A connection with a gap is of no use any more; one without goes on.
    let mut other = connect(&proxy).await;
    eventually(DEADLINE, async || if proxy.counts().open == 2 { Ok(()) } else { Err(proxy.counts()) }).await;
    proxy.set(Direction::ToClient, Flow::Pass);
    is_reset(&mut client).await;
    assert_eq!(ask(&mut other, "whole").await, "whole");
}

#[tokio::test]
async fn connections_are_cut_old_ones_or_new_ones_or_all() {
    let (_echo, proxy, mut old) = start().await;
    proxy.set_for(Scope::New, Direction::ToServer, Flow::Cut);
    let mut new = connect(&proxy).await;
    is_reset(&mut new).await;
    assert_eq!(ask(&mut old, "on").await, "on");

    proxy.set_both(Flow::Pass);
    proxy.cut_open();
    is_reset(&mut old).await;
    let mut new = connect(&proxy).await;
    assert_eq!(ask(&mut new, "new").await, "new");

    proxy.set(Direction::ToClient, Flow::Cut);
    is_reset(&mut new).await;
    is_reset(&mut connect(&proxy).await).await;
}

#[tokio::test]
async fn an_open_connection_may_be_held_while_new_ones_pass() {
    let (_echo, proxy, mut old) = start().await;
    proxy.set_for(Scope::Open, Direction::ToServer, Flow::Hold);
    old.write_all(b"held").await.unwrap();
    let mut new = connect(&proxy).await;
    assert_eq!(ask(&mut new, "new").await, "new");
    nothing_comes(&mut old).await;
    proxy.set_for(Scope::Open, Direction::ToServer, Flow::Pass);
    assert_eq!(read(&mut old, 4).await, "held");
}

#[tokio::test]
async fn a_connection_is_cut_at_a_byte() {
    let (echo, proxy, mut client) = start().await;
    proxy.set(Direction::ToServer, Flow::CutAfter(3));
    client.write_all(b"command").await.unwrap();
    echo.has_received(8).await;
    is_reset(&mut client).await;
    assert_eq!(echo.received(), 8);
    proxy.set(Direction::ToServer, Flow::Pass);

    let mut client = connect(&proxy).await;
    proxy.set(Direction::ToClient, Flow::CutAfter(5));
    client.write_all(b"a reply").await.unwrap();
    let mut reply = String::new();
    timeout(DEADLINE, client.read_to_string(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, "a rep");

    // Not before there is a reply to lose.
    let mut client = connect(&proxy).await;
    proxy.set(Direction::ToClient, Flow::CutAfter(0));
    nothing_comes(&mut client).await;
    client.write_all(b"gone").await.unwrap();
    let mut reply = String::new();
    timeout(DEADLINE, client.read_to_string(&mut reply)).await.unwrap().unwrap();
    assert_eq!(reply, "");
    echo.has_received(8 + 7 + 4).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_a_reset() {
    let (echo, proxy, mut client) = start().await;
    drop(echo);
    let mut rest = Vec::new();
    // How the server's end closed is its own affair.
    let _ = timeout(DEADLINE, client.read_to_end(&mut rest)).await.unwrap();
    is_reset(&mut connect(&proxy).await).await;
}

#[tokio::test]
async fn a_dropped_proxy_closes_everything() {
    let (_echo, proxy, mut client) = start().await;
    let address = proxy.address();
    drop(proxy);
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, client.read_to_end(&mut rest)).await.unwrap();
    eventually(DEADLINE, async || match TcpStream::connect(address).await {
        Ok(_) => Err("it still listens"),
        Err(_) => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn addresses_of_every_server_go_through_the_proxy() {
    let proxy = FaultProxy::start("mysql://seckill:pw@localhost/shop").await;
    let port = proxy.address().port();
    for (url, expected) in [
        (
            "mysql://seckill:p%40@localhost/shop?x=1",
            format!("mysql://seckill:p%40@127.0.0.1:{port}/shop?x=1"),
        ),
        ("amqp://guest:guest@127.0.0.1:5673/%2f", format!("amqp://guest:guest@127.0.0.1:{port}/%2f")),
        ("redis://10.0.0.1:6380/7", format!("redis://127.0.0.1:{port}/7")),
    ] {
        assert_eq!(proxy.url(url), expected);
    }
}

async fn redis(proxy: &FaultProxy, url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(proxy.url(url)).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn increment(connection: &mut MultiplexedConnection) -> redis::RedisResult<i64> {
    redis::cmd("INCR").arg("counter").query_async(connection).await
}

#[tokio::test]
async fn redis_behind_the_proxy() {
    let server = seckill_testkit::redis().await;
    let proxy = FaultProxy::start(&server.url).await;
    let direct = FaultProxy::start(&server.url).await;
    let mut through = redis(&proxy, &server.url).await;
    let mut direct = redis(&direct, &server.url).await;
    assert_eq!(increment(&mut through).await.unwrap(), 1);

    // Held: no answer and no effect, until it passes.
    proxy.set(Direction::ToServer, Flow::Hold);
    let mut held = through.clone();
    let mut held = tokio::spawn(async move { increment(&mut held).await });
    assert!(timeout(NEVER, &mut held).await.is_err());
    assert_eq!(increment(&mut direct).await.unwrap(), 2);
    proxy.set(Direction::ToServer, Flow::Pass);
    assert_eq!(timeout(DEADLINE, held).await.unwrap().unwrap().unwrap(), 3);

    // The reply is lost: an effect without an answer.
    proxy.set(Direction::ToClient, Flow::CutAfter(0));
    increment(&mut through).await.unwrap_err();
    assert_eq!(increment(&mut direct).await.unwrap(), 5);

    // Swallowed: the same, and the connection stays open.
    proxy.set(Direction::ToClient, Flow::Pass);
    let mut through = redis(&proxy, &server.url).await;
    proxy.set(Direction::ToClient, Flow::Swallow);
    assert!(timeout(NEVER, increment(&mut through)).await.is_err());
    eventually(DEADLINE, async || match increment(&mut direct).await {
        Ok(7..) => Ok(()),
        other => Err(other),
    })
    .await;
    assert!(proxy.counts().to_client.swallowed > 0);
}
