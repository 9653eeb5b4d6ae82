//! Messages that wait for a human or for a newer program: how they are listed, moved back and removed. Each move is one step of
//! Redis, so there are never two copies.

use std::time::{Duration, Instant};

use deadpool_redis::redis::{Pipeline, cmd};
use seckill_core::{Fault, Message, ParkedDepth, ParkedMessage, Timestamp, Unread};

use super::StreamQueue;
use super::entry::{self, BODY, Entry, PARKED_AT, REASON, entries};
use super::keys::Keys;
use crate::queue::aside::cut;
use crate::redis::{Effect, Request};

/// A longer body is cut off where messages are listed.
const LONGEST_BODY: usize = 64 * 1_024;
/// Messages that are read at once.
const PAGE: usize = 256;
/// Messages that are listed, or looked through for those to be moved back, at the most.
const LONGEST_LIST: usize = 10_000;
/// The pause after a look that has left messages which are newer than this program.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

impl StreamQueue {
    pub(super) async fn list_parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        let keys = self.shared.keys().await?;
        let found = self.range(&keys.parked, "-", limit.min(LONGEST_LIST)).await?;
        Ok(found.iter().map(parked_message).collect())
    }

    pub(super) async fn redrive_parked(&self, id: &str) -> Result<bool, Fault> {
        if !is_id(id) {
            return Ok(false);
        }
        let keys = self.shared.keys().await?;
        let mut range = cmd("XRANGE");
        range.arg(&keys.parked).arg(id).arg(id);
        let found = entries(self.shared.redis.send(Request::Command(&range), Effect::Read).await?)?;
        match found.first() {
            Some(entry) => self.return_to_orders(&keys, &keys.parked, entry).await,
            None => Ok(false),
        }
    }

    pub(super) async fn discard_parked(&self, id: &str) -> Result<bool, Fault> {
        if !is_id(id) {
            return Ok(false);
        }
        let mut delete = cmd("XDEL");
        delete.arg(self.shared.keys().await?.parked).arg(id);
        entry::read(self.shared.redis.send(Request::Command(&delete), Effect::Write).await?)
    }

    pub(super) async fn count_parked(&self) -> Result<ParkedDepth, Fault> {
        let keys = self.shared.keys().await?;
        let mut lengths = Pipeline::with_capacity(2);
        lengths.cmd("XLEN").arg(&keys.parked).cmd("XLEN").arg(&keys.newer);
        let reply = self.shared.redis.send(Request::Pipeline(&lengths), Effect::Read).await?;
        let (parked, newer) = entry::read(reply)?;
        Ok(ParkedDepth { parked, unrouted: 0, newer })
    }

    /// Moves back what this program can read, and returns how many messages are left.
    pub(super) async fn move_newer_back(&self) -> Result<u64, Fault> {
        let mut look_at = self.shared.newer_look_at.lock().await;
        let left = self.count_parked().await?.newer;
        if left == 0 || look_at.is_some_and(|at| Instant::now() < at) {
            return Ok(left);
        }
        let keys = self.shared.keys().await?;
        let (mut from, mut seen) = ("-".to_owned(), 0);
        while seen < LONGEST_LIST {
            let page = self.range(&keys.newer, &from, PAGE).await?;
            for entry in &page {
                if !matches!(Message::read(entry.body()), Err(Unread::Newer(_))) {
                    self.return_to_orders(&keys, &keys.newer, entry).await?;
                }
            }
            seen += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE => from = format!("({}", last.id),
                _ => break,
            }
        }
        let left = self.count_parked().await?.newer;
        // Reading all of it again each second would keep a large pile, and Redis, busy.
        *look_at = (left > 0).then(|| Instant::now() + LOOK_AGAIN);
        Ok(left)
    }

    async fn range(&self, stream: &str, from: &str, limit: usize) -> Result<Vec<Entry>, Fault> {
        let mut range = cmd("XRANGE");
        range.arg(stream).arg(from).arg("+").arg("COUNT").arg(limit);
        entries(self.shared.redis.send(Request::Command(&range), Effect::Read).await?)
    }

    async fn return_to_orders(&self, keys: &Keys, from: &str, entry: &Entry) -> Result<bool, Fault> {
        let fields = [(BODY, entry.body())];
        self.shared.shift(&self.shared.redis, (from, &entry.id), &keys.orders, &fields).await
    }
}

/// Whether it may be the id of an entry; Redis takes other texts too, such as `-`.
fn is_id(text: &str) -> bool {
    let number = |part: &str| part.parse::<u64>().is_ok();
    text.split_once('-').is_some_and(|(millis, counter)| number(millis) && number(counter))
}

fn parked_message(entry: &Entry) -> ParkedMessage {
    let text = |name| entry.field(name).map(String::from_utf8_lossy);
    let millis = text(PARKED_AT).and_then(|millis| millis.parse().ok());
    ParkedMessage {
        id: entry.id.clone(),
        reason: text(REASON).unwrap_or_default().into_owned(),
        parked_at: millis.and_then(Timestamp::from_timestamp_millis),
        unrouted: false,
        batch: serde_json::from_slice(entry.body()).ok(),
        body: cut(&String::from_utf8_lossy(entry.body()), LONGEST_BODY).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn only_a_whole_id_names_a_message() {
        assert!(is_id("1764230000000-0"));
        for other in ["none", "-", "+", "1764230000000", "1-2-3", "(1-2", ""] {
            assert!(!is_id(other), "{other}");
        }
    }
}
