//! The bytes of one connection: read, kept in a bounded buffer for as long as the flow wants, and written.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Change, Counter, Direction, Flow, Flows, Shared};

/// The most that is kept of one direction of a connection.
const MAX_KEPT: usize = 256 * 1024;

/// The most that is read at a time.
const CHUNK: usize = 16 * 1024;

/// A longer delay is as good as none that ends.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

enum End {
    /// Its sender has closed it, and the receiver knows.
    Closed,
    /// The connection is to be reset.
    Cut,
    /// The connection is to be reset, but the receiver is to read first what was forwarded.
    CutAtSender,
}

/// Moves bytes both ways until both directions are closed or one of them is cut.
pub(super) async fn run(
    mut client: TcpStream,
    mut server: TcpStream,
    shared: &Shared,
    flows: &watch::Receiver<Flows>,
) {
    // Small packets as they come, as on a direct connection; a socket that is gone is noticed at its first use.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (direction, end) = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let cut_reply = AtomicBool::new(false);
        let pump = |direction, reader, writer, counter| {
            Pump::new(direction, reader, writer, counter, flows.clone(), &cut_reply).run()
        };
        let requests = pump(Direction::ToServer, from_client, to_server, &shared.to_server);
        let replies = pump(Direction::ToClient, from_server, to_client, &shared.to_client);
        tokio::pin!(requests, replies);
        tokio::select! {
            end = &mut requests => match end {
                End::Closed => (Direction::ToClient, replies.await),
                cut => (Direction::ToServer, cut),
            },
            end = &mut replies => match end {
                End::Closed => (Direction::ToServer, requests.await),
                cut => (Direction::ToClient, cut),
            },
        }
    };
    match (end, direction) {
        (End::Closed, _) => {}
        (End::Cut, _) => {
            reset(client);
            reset(server);
        }
        (End::CutAtSender, Direction::ToServer) => reset(client),
        (End::CutAtSender, Direction::ToClient) => reset(server),
    }
}

/// Closes a connection so that its other end sees a reset.
pub(super) fn reset(stream: TcpStream) {
    // One that is closed already needs no reset.
    let _ = stream.set_zero_linger();
    drop(stream);
}

struct Pump<'a> {
    direction: Direction,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    counter: &'a Counter,
    flows: watch::Receiver<Flows>,
    /// Each piece with the time at which it came.
    kept: VecDeque<(Instant, Vec<u8>)>,
    kept_bytes: usize,
    /// What its sender has done with the direction.
    source: Source,
    /// Whether bytes, or the end of the stream, have been dropped.
    has_gap: bool,
    /// Shared by both directions: a request has come whose reply is to be cut.
    cut_reply: &'a AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Open,
    Closed,
    Broken,
}

enum Step {
    Changed,
    Read(io::Result<usize>),
    Written(io::Result<usize>),
}

impl<'a> Pump<'a> {
    fn new(
        direction: Direction,
        reader: ReadHalf<'a>,
        writer: WriteHalf<'a>,
        counter: &'a Counter,
        flows: watch::Receiver<Flows>,
        cut_reply: &'a AtomicBool,
    ) -> Self {
        Self {
            direction,
            reader,
            writer,
            counter,
            flows,
            kept: VecDeque::new(),
            kept_bytes: 0,
            source: Source::Open,
            has_gap: false,
            cut_reply,
        }
    }

    async fn run(mut self) -> End {
        let mut chunk = vec![0; CHUNK];
        let mut change = self.change();
        let mut left = bytes_left(change.flow);
        loop {
            let now = self.change();
            if now != change {
                change = now;
                left = bytes_left(change.flow);
            }
            if let Some(end) = self.end(change.flow, left).await {
                return end;
            }
            match self.step(change.flow, left, &mut chunk).await {
                Step::Changed => {}
                Step::Read(read) => self.keep(change.flow, &read, &chunk),
                // The receiver is gone, so the sender has to learn of it.
                Step::Written(Err(_)) => return End::Cut,
                Step::Written(Ok(written)) => {
                    self.forget(written);
                    left = left.map(|left| left.saturating_sub(written as u64));
                }
            }
        }
    }

    /// What applies to this direction now. Either direction cuts the whole connection, also after its own end.
    fn change(&mut self) -> Change {
        let flows = *self.flows.borrow_and_update();
        let own = flows.of(self.direction);
        if flows.cut() { Change { flow: Flow::Cut, ..own } } else { own }
    }

    /// Whether there is nothing more to do in this flow, and how it ends.
    async fn end(&mut self, flow: Flow, left: Option<u64>) -> Option<End> {
        let is_reply = self.direction == Direction::ToClient && !self.kept.is_empty();
        if is_reply && self.cut_reply.load(Ordering::SeqCst) {
            return Some(End::CutAtSender);
        }
        match flow {
            Flow::Cut => return Some(End::Cut),
            Flow::Swallow => {
                self.drop_kept();
                return None;
            }
            _ if self.has_gap => return Some(End::Cut),
            Flow::Hold => return None,
            Flow::Pass | Flow::Delay(_) | Flow::CutAfter(_) | Flow::CutReplyTo(_) => {}
        }
        if !self.kept.is_empty() {
            return (left == Some(0)).then_some(End::CutAtSender);
        }
        match self.source {
            Source::Open => None,
            Source::Broken => Some(End::Cut),
            Source::Closed => match self.writer.shutdown().await {
                Ok(()) => Some(End::Closed),
                Err(_) => Some(End::Cut),
            },
        }
    }

    /// Waits for whatever comes first: a change of the flow, bytes to keep, or bytes that could be written.
    async fn step(&mut self, flow: Flow, left: Option<u64>, chunk: &mut [u8]) -> Step {
        let may_read = self.source == Source::Open && self.kept_bytes < MAX_KEPT;
        let room = chunk.len().min(MAX_KEPT - self.kept_bytes.min(MAX_KEPT));
        let next = self.kept.front().filter(|_| flow != Flow::Hold);
        let due = match (flow, next) {
            (Flow::Delay(delay), Some((came, _))) => *came + delay.min(MAX_DELAY),
            _ => Instant::now(),
        };
        let bytes = next.map_or(&[][..], |(_, bytes)| bytes);
        let bytes = &bytes[..left.map_or(bytes.len(), |left| bytes.len().min(usize_of(left)))];
        let writer = &mut self.writer;
        let write = async {
            tokio::time::sleep_until(due).await;
            writer.write(bytes).await
        };
        tokio::select! {
            changed = self.flows.changed() => match changed {
                Ok(()) => Step::Changed,
                // The proxy is gone, and this task with it; a moment may pass until then.
                Err(_) => {
                    tokio::time::sleep(Duration::MAX).await;
                    Step::Changed
                }
            },
            read = self.reader.read(&mut chunk[..room]), if may_read => Step::Read(read),
            written = write, if !bytes.is_empty() => Step::Written(written),
        }
    }

    fn keep(&mut self, flow: Flow, read: &io::Result<usize>, chunk: &[u8]) {
        match read {
            Ok(0) => self.source = Source::Closed,
            Err(_) => self.source = Source::Broken,
            Ok(read) => {
                self.counter.read.fetch_add(*read as u64, Ordering::SeqCst);
                if let Flow::CutReplyTo(text) = flow
                    && chunk[..*read].windows(text.len()).any(|part| part == text.as_bytes())
                {
                    self.cut_reply.store(true, Ordering::SeqCst);
                }
                self.kept.push_back((Instant::now(), chunk[..*read].to_vec()));
                self.kept_bytes += read;
            }
        }
        if flow == Flow::Swallow && self.source != Source::Open {
            self.has_gap = true;
        }
    }

    fn forget(&mut self, written: usize) {
        self.counter.forwarded.fetch_add(written as u64, Ordering::SeqCst);
        self.kept_bytes -= written;
        let (_, bytes) = self.kept.front_mut().expect("what was written is the front");
        bytes.drain(..written);
        if bytes.is_empty() {
            self.kept.pop_front();
        }
    }

    fn drop_kept(&mut self) {
        if self.kept_bytes > 0 {
            self.has_gap = true;
            self.counter.swallowed.fetch_add(self.kept_bytes as u64, Ordering::SeqCst);
            self.kept.clear();
            self.kept_bytes = 0;
        }
    }
}

fn bytes_left(flow: Flow) -> Option<u64> {
    match flow {
        Flow::CutAfter(bytes) => Some(bytes),
        _ => None,
    }
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
