//! A walk through a queue that has no random access: its messages are taken one after another, and those that are not
//! acknowledged go back when the walk's channel is closed.

use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::BasicGetOptions;
use seckill_core::Fault;

use super::connection::{Lane, Link};
use super::step::step;

/// Messages of one walk, at the most: so many are out of everybody else's sight until it ends.
pub(super) const LONGEST_WALK: usize = 10_000;

/// Dropping it gives back what was not acknowledged.
pub(super) struct Walk {
    lane: Lane,
    queue: &'static str,
    seen: usize,
}

impl Walk {
    pub(super) async fn begin(link: &Link, queue: &'static str) -> Result<Self, Fault> {
        // A channel of its own: closing it must not give back what others hold.
        Ok(Self { lane: link.open().await?, queue, seen: 0 })
    }

    /// The next message; `None` after the last one, or after [`LONGEST_WALK`].
    pub(super) async fn next(&mut self) -> Result<Option<BasicGetMessage>, Fault> {
        if self.seen == LONGEST_WALK {
            return Ok(None);
        }
        let get = self.lane.channel.basic_get(self.queue.into(), BasicGetOptions { no_ack: false });
        let message = step("show a parked message", get).await?;
        self.seen += usize::from(message.is_some());
        Ok(message)
    }

    /// How many messages it has come by.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.lane.channel
    }

    /// Gives back what was not acknowledged. When it returns, every acknowledgement has reached the broker.
    pub(super) async fn end(self) -> Result<(), Fault> {
        step("close a channel", self.lane.channel.close(200, "done".into())).await
    }
}
