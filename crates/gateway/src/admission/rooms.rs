//! The waiting rooms of this gateway's sales: opens them, moves their inlets, and has what everybody asks for at hand. Each room is
//! read from its store four times a second, however many wait in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use seckill_core::waiting::{Demand, RoomSpec, RoomState, Seed, Standing};
use seckill_core::{Arrival, Backend, Fault, Mode, Phase, Sale, SaleId, SaleState, Timestamp, UserId, now};
use tokio::sync::watch;
use tokio::time::Instant;

use super::status::{self, Inlet};
use crate::directory::{Desk, Directory};

/// How often an inlet is moved.
const TICK: Duration = Duration::from_millis(250);
/// How often the document that everybody reads is made anew, while the state of the room stays the same.
const PUBLISH: Duration = Duration::from_secs(1);
/// What is older than this is not shown any more.
const STALE: Duration = Duration::from_secs(5);
/// How long after an order that could not be taken an inlet stays shut.
const TROUBLE_MS: u64 = 1_000;
/// Numbers of users that are kept at hand, and for how long.
const NUMBERS: u64 = 100_000;
const NUMBER_AGE: Duration = Duration::from_secs(60);
/// How long after the end of its sale a room is kept, so that the draw can be checked.
const KEEP_AFTER_END_MS: i64 = 24 * 3_600_000;

/// A room as it was read last.
#[derive(Clone)]
pub(crate) struct Latest {
    pub(crate) state: Arc<RoomState>,
    pub(crate) inlet: Inlet,
    read: Instant,
}

impl Latest {
    /// The store's clock now, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = u64::try_from(self.read.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.now_ms.saturating_add(since)
    }

    /// Where the holder of a number stands now.
    pub(crate) fn standing(&self, number: u64) -> Standing {
        self.state.standing(number, self.now_ms())
    }
}

/// What is made once and sent to everybody.
pub(crate) struct Published {
    pub(crate) latest: Latest,
    /// JSON.
    pub(crate) document: axum::body::Bytes,
    at: Instant,
}

struct Room {
    latest: RwLock<Latest>,
    published: watch::Sender<Arc<Published>>,
}

/// The rooms of this gateway.
pub(crate) struct Rooms {
    backend: Backend,
    directory: Arc<Directory>,
    rooms: RwLock<HashMap<SaleId, Arc<Room>>>,
    /// Which number a user has, in the room of that seed.
    numbers: Cache<(SaleId, UserId), (Seed, u64)>,
    /// When an order could not be taken last, in milliseconds since `began`.
    trouble: AtomicU64,
    began: Instant,
}

impl Rooms {
    pub(crate) fn new(backend: Backend, directory: Arc<Directory>) -> Self {
        Self {
            backend,
            directory,
            rooms: RwLock::default(),
            numbers: Cache::builder().max_capacity(NUMBERS).time_to_live(NUMBER_AGE).build(),
            trouble: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// Keeps the rooms of all known sales current; never returns. May be dropped at any point: other gateways move the inlets
    /// then.
    pub(crate) async fn keep_current(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let desks = self.directory.desks();
            let open: Vec<_> = desks.iter().filter(|desk| is_open(&desk.sale, now())).collect();
            self.write(|rooms| rooms.retain(|id, _| open.iter().any(|desk| desk.sale.id == *id)));
            // At the same time, so that a room whose store is slow holds up no other room.
            let each = open.iter().map(|desk| async {
                if let Err(fault) = self.tick(desk).await {
                    tracing::warn!(sale_id = %desk.sale.id, error = %fault, "a waiting room cannot be kept current");
                }
            });
            futures_util::future::join_all(each).await;
        }
    }

    /// Records that an order could not be taken.
    pub(crate) fn note_trouble(&self) {
        self.trouble.store(self.elapsed_ms().max(1), Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A room as it was read last, or as it is now where it has not been read yet; `None`: too long ago.
    pub(crate) async fn latest(&self, desk: &Desk) -> Result<Option<Latest>, Fault> {
        let room = self.room(desk).await?;
        let latest = room.latest.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((latest.read.elapsed() < STALE).then_some(latest))
    }

    /// Everything that is published of a room from now on, and what was published last.
    pub(crate) async fn published(&self, desk: &Desk) -> Result<watch::Receiver<Arc<Published>>, Fault> {
        Ok(self.room(desk).await?.published.subscribe())
    }

    async fn room(&self, desk: &Desk) -> Result<Arc<Room>, Fault> {
        if let Some(room) = self.read(|rooms| rooms.get(&desk.sale.id).cloned()) {
            return Ok(room);
        }
        self.tick(desk).await
    }

    /// Gives the user a number, or finds the one that they have.
    pub(crate) async fn arrive(
        &self,
        desk: &Desk,
        user: UserId,
        instead_of: Option<u64>,
    ) -> Result<Option<u64>, Fault> {
        let (waiting, sale) = (&self.backend.waiting, desk.sale.id);
        let arrival = match waiting.arrive(sale, user, instead_of).await? {
            Arrival::NoRoom => {
                waiting.open_room(sale, &spec_of(&desk.sale)).await?;
                waiting.arrive(sale, user, instead_of).await?
            }
            arrival => arrival,
        };
        self.numbers.invalidate(&(sale, user)).await;
        Ok(match arrival {
            Arrival::Number(number) => Some(number),
            Arrival::Full | Arrival::NoRoom => None,
        })
    }

    /// The number of a user in the room that `latest` is of; asks the store once a minute at the most, and again whenever that
    /// number's time is over, since the user may have come again through another gateway.
    pub(crate) async fn number(
        &self,
        sale: SaleId,
        user: UserId,
        latest: &Latest,
    ) -> Result<Option<u64>, Fault> {
        let seed = latest.state.spec.seed;
        let known = self.numbers.get(&(sale, user)).await;
        let stands = |number| !matches!(latest.standing(number), Standing::Expired { .. });
        if let Some((_, number)) = known.filter(|(of, number)| *of == seed && stands(*number)) {
            return Ok(Some(number));
        }
        let number = self.backend.waiting.number(sale, user).await?;
        if let Some(number) = number {
            self.numbers.insert((sale, user), (seed, number)).await;
        }
        Ok(number)
    }

    /// Moves the inlet of one room, opening it where it is not there, and publishes what is new.
    async fn tick(&self, desk: &Desk) -> Result<Arc<Room>, Fault> {
        let sale = &desk.sale;
        let (demand, inlet) = self.demand(desk).await;
        let waiting = &self.backend.waiting;
        let state = match waiting.advance(sale.id, demand).await? {
            Some(state) => state,
            None => waiting.open_room(sale.id, &spec_of(sale)).await?,
        };
        let latest = Latest { state: Arc::new(state), inlet, read: Instant::now() };
        metrics::gauge!("seckill_waiting_room_waiting", "sale_id" => sale.id.to_string())
            .set(latest.state.waiting() as f64);
        metrics::gauge!("seckill_waiting_room_admitted", "sale_id" => sale.id.to_string())
            .set(latest.state.admitted() as f64);
        let publish = || {
            let document = status::document(sale, &latest.state, inlet);
            Arc::new(Published { latest: latest.clone(), document, at: Instant::now() })
        };
        let known = self.read(|rooms| rooms.get(&sale.id).cloned());
        let Some(room) = known else {
            let room = Arc::new(Room {
                latest: RwLock::new(latest.clone()),
                published: watch::Sender::new(publish()),
            });
            return Ok(self.write(|rooms| Arc::clone(rooms.entry(sale.id).or_insert(room))));
        };
        *room.latest.write().unwrap_or_else(PoisonError::into_inner) = latest.clone();
        let last = Arc::clone(&room.published.borrow());
        let same = last.latest.inlet == inlet
            && last.latest.state.drawn == latest.state.drawn
            && last.latest.state.spec == latest.state.spec;
        if !same || last.at.elapsed() + TICK / 2 >= PUBLISH {
            room.published.send_replace(publish());
        }
        Ok(room)
    }

    /// Whether somebody may be let in, and for how many there are units.
    async fn demand(&self, desk: &Desk) -> (Demand, Inlet) {
        let sale = &desk.sale;
        let shut = |inlet| (Demand { open: false, remaining: 0, orders: 0 }, inlet);
        match sale.phase(now()) {
            // Nobody is let in before the draw, whatever is said here.
            Phase::Upcoming => return shut(Inlet::Gathering),
            Phase::Closed => return shut(Inlet::Ended),
            Phase::Open => {}
        }
        if sale.state == SaleState::Rebuilding || !desk.is_sellable() {
            return shut(Inlet::Paused("rebuilding"));
        }
        let trouble = self.trouble.load(Relaxed);
        if trouble > 0 && self.elapsed_ms() < trouble + TROUBLE_MS {
            return shut(Inlet::Paused("overloaded"));
        }
        let (remaining, orders) = match sale.mode {
            Mode::Direct => (sale.stock.saturating_sub(sale.sold), sale.orders),
            Mode::Queue => match self.backend.gate.level(sale.id).await {
                Ok(Some(level)) if level.epoch == sale.epoch => (level.remaining, level.orders),
                Ok(_) => return shut(Inlet::Paused("rebuilding")),
                Err(_) => return shut(Inlet::Paused("unavailable")),
            },
        };
        let demand = Demand { open: true, remaining: remaining.into(), orders };
        (demand, if remaining == 0 { Inlet::SoldOut } else { Inlet::Admitting })
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<SaleId, Arc<Room>>) -> T) -> T {
        look(&self.rooms.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut HashMap<SaleId, Arc<Room>>) -> T) -> T {
        change(&mut self.rooms.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// When the room of a sale opens; `None`: it has none.
pub(crate) fn opens_at(sale: &Sale) -> Option<Timestamp> {
    let terms = sale.admission.waiting_room?;
    let before = i64::try_from(terms.opens_before_ms).unwrap_or(i64::MAX);
    Some(sale.starts_at - chrono::Duration::milliseconds(before))
}

/// Whether the sale has a room that is open, or whose draw can be looked at.
pub(crate) fn is_open(sale: &Sale, now: Timestamp) -> bool {
    let until = sale.ends_at + chrono::Duration::milliseconds(KEEP_AFTER_END_MS);
    opens_at(sale).is_some_and(|from| (from..until).contains(&now))
}

/// What the room of a sale is opened with: a seed that nobody knows yet.
fn spec_of(sale: &Sale) -> RoomSpec {
    let millis = |moment: Timestamp| moment.timestamp_millis().max(0).unsigned_abs();
    RoomSpec {
        seed: Seed(rand::random()),
        starts_ms: millis(sale.starts_at),
        rate: sale.admission.waiting_room.map_or(1, |terms| terms.rate_per_second),
        ttl_ms: sale.admission.ticket_ttl_ms(),
        keep_until_ms: millis(sale.ends_at + chrono::Duration::milliseconds(KEEP_AFTER_END_MS)),
    }
}
