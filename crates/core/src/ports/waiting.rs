//! Waiting rooms: who waits for a sale, and who has been let in.

use std::time::Duration;

use async_trait::async_trait;

use crate::waiting::{Demand, RoomSpec, RoomState};
use crate::{Fault, SaleId, UserId};

/// How many numbers a room gives out, at the most.
pub const MAX_ARRIVALS: u64 = 10_000_000;

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The user has this number, now or since an earlier call.
    Number(u64),
    /// All [`MAX_ARRIVALS`] numbers are given out.
    Full,
    /// The sale has no room, or its store has lost it: open one.
    NoRoom,
}

/// Where the waiting rooms of sales are. No order depends on it: a room decides who may fetch a ticket, and nothing else. Every
/// method decides by the store's clock, so several gateways together keep one rate. A store that has lost a room gives out new
/// numbers.
#[async_trait]
pub trait WaitingRooms: Send + Sync {
    /// Opens the room of a sale; a room that is there already is left as it is. Gives the room as it is then.
    async fn open_room(&self, sale: SaleId, spec: &RoomSpec) -> Result<RoomState, Fault>;

    /// The room of a sale; `None`: it has none. Changes nothing.
    async fn room(&self, sale: SaleId) -> Result<Option<RoomState>, Fault>;

    /// Gives `user` a number; a user who has one keeps it, unless it is `instead_of`, a number whose admission is over. Who comes at
    /// or after the start finds the draw done: it takes place here, too, where nobody has drawn yet. May be called again.
    async fn arrive(&self, sale: SaleId, user: UserId, instead_of: Option<u64>) -> Result<Arrival, Fault>;

    /// The number of `user`; `None`: they have not arrived. Changes nothing.
    async fn number(&self, sale: SaleId, user: UserId) -> Result<Option<u64>, Fault>;

    /// Draws where the start has come, and lets in whoever may come in now, by the rule of [`RoomState::advance`]. Calling it more
    /// often, or from several gateways, lets nobody in earlier. `None`: there is no room.
    async fn advance(&self, sale: SaleId, demand: Demand) -> Result<Option<RoomState>, Fault>;

    /// Uses up a word of 100 characters at the most for `ttl`: true for the first who does so, false for everyone after them.
    async fn spend(&self, sale: SaleId, word: &str, ttl: Duration) -> Result<bool, Fault>;
}
