//! The sales this gateway knows, each with its intake. Refreshed from the ledger once a second; read without the ledger, so
//! that a database that is down stops no order of a sale that is known. What gateways know is kept in the gate, too: a
//! gateway that starts while the ledger is away sells the sales that its peers sold.

mod changes;
pub(crate) mod of_orders;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use seckill_core::{
    Backend, Claim, Created, Ended, Fault, GateCondition, KnownSales, Mode, NewSale, Phase, Sale, SaleId,
    SaleState, UserId, create_sale, fill_gate, now,
};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::changes::OnceCreated;
use self::changes::{AppliedChanges, is_ahead};
use crate::direct::Pool;
use crate::intake::{Intake, IntakeConfig};
use crate::ticket::{Answer, NotTaken};

/// Of the sales that are over, the newest that a gateway keeps at hand.
const NEWEST: u32 = 1_000;
/// Unfinished sales that one query reads.
const PAGE: u32 = 1_000;
/// Unfinished sales that a gateway keeps at hand.
const MAX_UNFINISHED: usize = 10_000;
/// How often the directory is refreshed.
const REFRESH: Duration = Duration::from_secs(1);
/// How often what gateways know is written to the gate, where it has not changed.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// Unknown sale ids that are remembered, so that asking for them again does not reach the ledger.
const MAX_MISSES: u64 = 10_000;
/// How long the answer that a gate is not sound serves everyone who asks.
const CONDITION_AGE: Duration = Duration::from_millis(200);

/// A sale, and where its claims go.
pub struct Desk {
    /// The sale, as the ledger had it when the directory was last refreshed.
    pub sale: Sale,
    /// `None` until the gate has been filled for the sale, while it is rebuilt, and for a sale of the other mode.
    way: Option<Way>,
    /// Whether the gate was found to have lost the sale.
    lost: Arc<AtomicBool>,
}

/// Where the claims of one sale go.
#[derive(Clone)]
enum Way {
    /// Into the sale's lanes, which start with the first claim.
    Lanes(Arc<LazyLock<Intake, Box<dyn FnOnce() -> Intake + Send>>>),
    /// To the writers, which all sales of a direct gateway share.
    Writers(Pool),
}

impl Desk {
    /// Whether this gateway takes claims for the sale.
    pub fn is_sold_here(&self) -> bool {
        self.way.is_some()
    }

    /// Whether the sale has a gate that has to be looked after.
    pub fn has_gate(&self) -> bool {
        self.sale.has_gate()
    }

    /// Whether buyers can get units now: the gate is there, in the epoch that the ledger names.
    pub fn is_sellable(&self) -> bool {
        self.is_sold_here() && !self.lost.load(Relaxed)
    }

    /// Records whether the gate has lost the sale.
    pub(crate) fn set_lost(&self, lost: bool) {
        self.lost.store(lost, Relaxed);
    }

    /// Whether this gateway knows without asking the gate that nothing is left, and that `user` holds no order.
    pub(crate) fn is_sold_out_for(&self, user: UserId) -> bool {
        matches!(&self.way, Some(Way::Lanes(intake)) if intake.is_sold_out_for(user))
    }

    /// Takes a claim in; `None`: this gateway does not sell the sale. The answer comes through the receiver, also where the
    /// one who waits for it gives up.
    pub(crate) fn submit(&self, claim: Claim) -> Option<Result<oneshot::Receiver<Answer>, NotTaken>> {
        Some(match self.way.as_ref()? {
            Way::Lanes(intake) => intake.submit(claim),
            Way::Writers(pool) => pool.submit(self.sale.id, claim),
        })
    }
}

/// How this gateway sells.
enum Seller {
    /// Through lanes, gate and queue.
    Lanes(IntakeConfig),
    /// Straight into the ledger.
    Writers(Pool),
}

impl Seller {
    fn mode(&self) -> Mode {
        match self {
            Self::Lanes(_) => Mode::Queue,
            Self::Writers(_) => Mode::Direct,
        }
    }
}

/// The sales this gateway knows.
pub struct Directory {
    backend: Backend,
    seller: Seller,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Held only to look up, insert or swap; never across an await.
    desks: RwLock<HashMap<SaleId, Arc<Desk>>>,
    misses: Cache<SaleId, Option<Arc<Desk>>>,
    /// The highest id of a sale that was ever taken in.
    newest: AtomicU64,
    /// Whether it was ever filled, from the ledger or from what peers know.
    filled: AtomicBool,
    /// What was last written to the gate, and when.
    kept: Mutex<Option<(Instant, KnownSales)>>,
    /// Which changes the gate has.
    changes: AppliedChanges,
    /// The last answer and when its question was asked. Held across the questions on purpose: those who ask meanwhile wait for
    /// the next answer.
    sound: Mutex<Option<(Instant, bool)>>,
}

impl Directory {
    /// An empty directory; lanes will run on `tracker` until `shutdown`.
    pub fn new(
        backend: Backend,
        intake: IntakeConfig,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self::of(Seller::Lanes(intake), backend, tracker, shutdown)
    }

    /// An empty directory whose sales are sold straight into the ledger, by the writers of `pool`.
    pub(crate) fn direct(
        backend: Backend,
        pool: Pool,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self::of(Seller::Writers(pool), backend, tracker, shutdown)
    }

    fn of(seller: Seller, backend: Backend, tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        let misses = Cache::builder().max_capacity(MAX_MISSES).time_to_live(REFRESH).build();
        let changes = AppliedChanges::new(seller.mode());
        Self {
            backend,
            seller,
            tracker,
            shutdown,
            desks: RwLock::default(),
            misses,
            newest: AtomicU64::new(0),
            filled: AtomicBool::new(false),
            kept: Mutex::default(),
            changes,
            sound: Mutex::default(),
        }
    }

    /// The desk of a sale. Asks the ledger only for a sale that is not known yet, and for each id once a second.
    ///
    /// # Errors
    /// The ledger is away, and the sale is not known yet.
    pub async fn desk(&self, id: SaleId) -> Result<Option<Arc<Desk>>, Fault> {
        if let Some(desk) = self.get(id) {
            return Ok(Some(desk));
        }
        let look_up = async {
            let sale = self.backend.ledger.sale(id).await?;
            Ok(sale.map(|sale| self.put(sale)))
        };
        // Boxed, because it is large, and a request for a known sale has no need of it.
        let looked_up = Box::pin(self.misses.try_get_with(id, look_up)).await;
        looked_up.map_err(|fault: Arc<Fault>| (*fault).clone())
    }

    pub fn get(&self, id: SaleId) -> Option<Arc<Desk>> {
        self.read(|desks| desks.get(&id).cloned())
    }

    /// Every known sale, in no order.
    pub fn desks(&self) -> Vec<Arc<Desk>> {
        self.read(|desks| desks.values().cloned().collect())
    }

    /// Takes in a sale as the ledger has it now. Its lanes go on as they are, or start once the gate has been filled.
    pub fn put(&self, sale: Sale) -> Arc<Desk> {
        self.newest.fetch_max(sale.id.0, Relaxed);
        let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
        let (way, lost) = match desks.get(&sale.id) {
            // Read before the sale was opened, and put after it was opened: what is known is newer.
            Some(desk) if desk.sale.epoch > sale.epoch => return Arc::clone(desk),
            // The same, of a change.
            Some(desk) if is_ahead(&desk.sale, &sale) => return Arc::clone(desk),
            Some(desk) if desk.sale.epoch == sale.epoch && desk.sale.state == sale.state => {
                (desk.way.clone(), Arc::clone(&desk.lost))
            }
            _ => (self.way(&sale), Arc::default()),
        };
        let desk = Arc::new(Desk { sale, way, lost });
        desks.insert(desk.sale.id, Arc::clone(&desk));
        desk
    }

    fn way(&self, &Sale { id, mode, epoch, state, .. }: &Sale) -> Option<Way> {
        if mode != self.seller.mode() {
            return None;
        }
        match &self.seller {
            Seller::Writers(pool) => Some(Way::Writers(pool.clone())),
            Seller::Lanes(_) if epoch == 0 || state != SaleState::Open => None,
            Seller::Lanes(config) => {
                let (backend, config) = (self.backend.clone(), *config);
                let (tracker, shutdown) = (self.tracker.clone(), self.shutdown.clone());
                let start = move || Intake::start(id, epoch, &backend, config, &tracker, &shutdown);
                Some(Way::Lanes(Arc::new(LazyLock::new(Box::new(start)))))
            }
        }
    }

    /// Creates a sale and takes it in. Where its gate cannot be filled now, it takes no orders until the refresh has filled
    /// it.
    ///
    /// # Errors
    /// The ledger is away; after [`Fault::Unknown`] the sale may exist.
    pub async fn create(&self, new: &NewSale) -> Result<Arc<Desk>, Fault> {
        let created = create_sale(&self.backend, new, self.seller.mode()).await?;
        Ok(self.take_in(created))
    }

    fn take_in(&self, created: Created) -> Arc<Desk> {
        if let Some(fault) = created.unfilled {
            tracing::warn!(sale_id = %created.sale.id, error = %fault, "a new sale waits for its gate");
        }
        self.put(created.sale)
    }

    /// Keeps the directory current, through faults of the ledger and the gate; never returns. May be dropped at any
    /// point.
    pub async fn keep_current(&self) {
        loop {
            // Boxed, because whoever runs this would have to hold all of it.
            if let Err(fault) = Box::pin(self.refresh()).await {
                tracing::warn!(error = %fault, "the directory of sales cannot be refreshed");
                self.fill_from_peers().await;
            } else if let Err(fault) = self.share_with_peers().await {
                tracing::warn!(error = %fault, "the sales that this gateway knows cannot be kept in the gate");
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Whether the directory was ever filled.
    pub fn is_filled(&self) -> bool {
        self.filled.load(Relaxed)
    }

    /// Reads the unfinished and the newest sales from the ledger and fills the gate of those that have none yet; forgets the
    /// others, whose lanes then end.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let mut sales = self.backend.ledger.sales(NEWEST).await?;
        let oldest = sales.last().map(|sale| sale.id).filter(|_| sales.len() == NEWEST as usize);
        if let (Some(oldest), Mode::Queue) = (oldest, self.seller.mode()) {
            sales.extend(unfinished_before(&self.backend, oldest).await?);
        }
        let known: HashSet<_> = sales.iter().map(|sale| sale.id).collect();
        if self.desks().iter().any(|desk| desk.has_gate() && !known.contains(&desk.sale.id)) {
            // Of a sale that is not over the ledger has no row: it was restored from a backup.
            self.restore_lost_sales(self.backend.ledger.id().await?).await?;
        }
        for sale in sales {
            self.restore_lost_change(&sale).await?;
            let desk = self.put(self.with_gate(sale).await);
            self.changes.bring_to_gate(&self.backend, &desk.sale).await;
        }
        if let Some(oldest) = oldest {
            let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
            desks.retain(|id, _| *id >= oldest || known.contains(id));
            self.changes.retain(|id| *id >= oldest || known.contains(id));
        }
        self.filled.store(true, Relaxed);
        Ok(())
    }

    /// Writes what this gateway knows to the gate, and gives the ledger back what it has lost: a ledger that was restored from
    /// a backup may lack the newest sales, whose orders wait in the queue.
    async fn share_with_peers(&self) -> Result<(), Fault> {
        if self.seller.mode() == Mode::Direct {
            return Ok(());
        }
        let mut kept = self.kept.lock().await;
        let ledger_id = self.backend.ledger.id().await?;
        if kept.is_none() {
            self.restore_lost_sales(ledger_id).await?;
        }
        let mut sales: Vec<Sale> =
            self.desks().iter().filter(|desk| desk.has_gate()).map(|desk| shared(&desk.sale)).collect();
        sales.sort_by_key(|sale| sale.id);
        let known = KnownSales { ledger_id, sales };
        let fresh = |(at, last): &(Instant, KnownSales)| at.elapsed() < KEEP_EVERY && *last == known;
        if !kept.as_ref().is_some_and(fresh) {
            self.backend.gate.keep_known_sales(&known).await?;
            *kept = Some((Instant::now(), known));
        }
        Ok(())
    }

    async fn restore_lost_sales(&self, ledger_id: seckill_core::LedgerId) -> Result<(), Fault> {
        let Some(known) = self.backend.gate.known_sales().await? else { return Ok(()) };
        if known.ledger_id != ledger_id {
            return Ok(());
        }
        for sale in known.sales {
            match self.backend.ledger.sale(sale.id).await? {
                None => {
                    tracing::warn!(sale_id = %sale.id, "the ledger has lost a sale; it is recorded again as the gate knows it");
                    self.backend.ledger.restore_sale(&sale).await?;
                    self.put(sale);
                }
                Some(recorded) if is_ahead(&sale, &recorded) => {
                    self.backend.ledger.restore_sale(&sale).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Takes in the sales that peers know, where this gateway knows none.
    async fn fill_from_peers(&self) {
        if self.is_filled() || self.seller.mode() == Mode::Direct {
            return;
        }
        match self.backend.gate.known_sales().await {
            Ok(Some(known)) => {
                tracing::warn!(
                    sales = known.sales.len(),
                    "selling the sales that other gateways know while the ledger is away"
                );
                for sale in known.sales {
                    self.put(sale);
                }
                self.filled.store(true, Relaxed);
            }
            Ok(None) => {}
            Err(fault) => tracing::warn!(error = %fault, "what other gateways know cannot be read"),
        }
    }

    /// Whether every gate of a sale that is not over is there, so that it knows who holds an order. Call it after the gate has
    /// said that somebody holds none: "yes" is true of a moment after the call.
    pub(crate) async fn gates_are_sound(&self) -> Result<bool, Fault> {
        if self.seller.mode() == Mode::Direct {
            return Ok(true);
        }
        let asked = Instant::now();
        let mut last = self.sound.lock().await;
        // A "yes" from before the call says nothing about what the gate answered just before it.
        let serves = |(at, sound): &(Instant, bool)| *at >= asked || (!sound && at.elapsed() < CONDITION_AGE);
        if let Some((_, sound)) = last.filter(serves) {
            return Ok(sound);
        }
        let begin = Instant::now();
        let mut all = true;
        for desk in self.desks().iter().filter(|desk| desk.has_gate()) {
            let condition = self.backend.gate.condition(desk.sale.id, desk.sale.epoch).await?;
            let sound = desk.sale.state == SaleState::Open && condition == GateCondition::Sound;
            desk.set_lost(!sound);
            all &= sound;
        }
        *last = Some((begin, all));
        Ok(all)
    }

    /// Looks once a second whether the gates are there, for health reports; never returns. May be dropped at any point.
    pub(crate) async fn watch_gates(&self) {
        loop {
            // A gate that does not answer is the health report's own matter.
            let _ = self.gates_are_sound().await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// How many of the sales that are open now cannot be sold, and how many are open; `None`: all can be sold.
    pub fn unsellable(&self) -> Option<(usize, usize)> {
        let now = now();
        let open =
            |desk: &Arc<Desk>| desk.sale.mode == self.seller.mode() && desk.sale.phase(now) == Phase::Open;
        let open: Vec<_> = self.desks().into_iter().filter(open).collect();
        let unsellable = open.iter().filter(|desk| !desk.is_sellable()).count();
        (unsellable > 0).then_some((unsellable, open.len()))
    }

    /// The sale with its gate filled, where that is this gateway's task and has not been done. A gate that cannot be filled
    /// holds up no other sale.
    async fn with_gate(&self, sale: Sale) -> Sale {
        if sale.epoch > 0 || sale.mode != Mode::Queue || self.seller.mode() != Mode::Queue {
            return sale;
        }
        match fill_gate(&self.backend, &sale).await {
            Ok(filled) => filled,
            Err(fault) => {
                tracing::warn!(sale_id = %sale.id, error = %fault, "a sale waits for its gate");
                sale
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<SaleId, Arc<Desk>>) -> T) -> T {
        look(&self.desks.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The unfinished sales that are older than `oldest`.
async fn unfinished_before(backend: &Backend, oldest: SaleId) -> Result<Vec<Sale>, Fault> {
    let mut found: Vec<Sale> = Vec::new();
    while found.len() < MAX_UNFINISHED {
        let page = backend.ledger.unfinished_sales(found.last().map(|sale| sale.id), PAGE).await?;
        let full = page.len() == PAGE as usize;
        found.extend(page);
        if !full || found.last().is_some_and(|sale| sale.id >= oldest) {
            break;
        }
    }
    found.retain(|sale| sale.id < oldest);
    Ok(found)
}

/// A sale without what changes all the time, so that it is written again only when it has changed.
fn shared(sale: &Sale) -> Sale {
    Sale { sold: 0, orders: 0, rejected_orders: 0, ended: Ended::default(), rebuild: None, ..sale.clone() }
}
