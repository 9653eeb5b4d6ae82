//! The sales this gateway knows, each with its intake. Kept current from the ledger once a second; read without the
//! ledger, so that a database that is down stops no order of a sale that is known.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use seckill_core::{Backend, Claim, Fault, Mode, NewSale, Sale, SaleId, create_sale, fill_gate};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::direct::Pool;
use crate::intake::{Intake, IntakeConfig};
use crate::ticket::{Answer, NotTaken};

/// Sales that a gateway keeps at hand: the newest.
const MAX_SALES: u32 = 1_000;
/// How often the directory is refreshed.
const REFRESH: Duration = Duration::from_secs(1);
/// Unknown sale ids that are remembered, so that asking for them again does not reach the ledger.
const MAX_MISSES: u64 = 10_000;

/// A sale, and where its claims go.
pub struct Desk {
    /// The sale, as the ledger had it when the directory was last refreshed.
    pub sale: Sale,
    /// `None` until the gate has been filled for the sale, and for a sale of the other mode: this gateway does not sell it.
    way: Option<Way>,
}

/// Where the claims of one sale go.
#[derive(Clone)]
enum Way {
    /// Into the sale's lanes.
    Lanes(Intake),
    /// To the writers, which all sales of a direct gateway share.
    Writers(Pool),
}

impl Desk {
    /// Whether this gateway sells the sale.
    pub fn is_sold_here(&self) -> bool {
        self.way.is_some()
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
        Self { backend, seller, tracker, shutdown, desks: RwLock::default(), misses }
    }

    /// The desk of a sale. Asks the ledger only for a sale that is not known yet, and for each id once a second.
    ///
    /// # Errors
    /// The ledger is away, and the sale is not known yet.
    pub async fn desk(&self, id: SaleId) -> Result<Option<Arc<Desk>>, Fault> {
        if let Some(desk) = self.read(|desks| desks.get(&id).cloned()) {
            return Ok(Some(desk));
        }
        let look_up = async {
            let sale = self.backend.ledger.sale(id).await?;
            Ok(sale.map(|sale| self.put(sale)))
        };
        self.misses.try_get_with(id, look_up).await.map_err(|fault: Arc<Fault>| (*fault).clone())
    }

    /// Every known sale, in no order.
    pub fn desks(&self) -> Vec<Arc<Desk>> {
        self.read(|desks| desks.values().cloned().collect())
    }

    /// Takes in a sale as the ledger has it now. Its lanes go on as they are, or start once the gate has been filled.
    pub fn put(&self, sale: Sale) -> Arc<Desk> {
        let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
        let way = match desks.get(&sale.id) {
            // Read before the sale was opened, and put after it was opened: what is known is newer.
            Some(desk) if desk.sale.epoch > sale.epoch => return Arc::clone(desk),
            Some(desk) if desk.sale.epoch == sale.epoch => desk.way.clone(),
            _ => self.way(&sale),
        };
        let desk = Arc::new(Desk { sale, way });
        desks.insert(desk.sale.id, Arc::clone(&desk));
        desk
    }

    fn way(&self, &Sale { id, mode, epoch, .. }: &Sale) -> Option<Way> {
        if mode != self.seller.mode() {
            return None;
        }
        match &self.seller {
            Seller::Writers(pool) => Some(Way::Writers(pool.clone())),
            Seller::Lanes(_) if epoch == 0 => None,
            Seller::Lanes(config) => {
                let intake = Intake::start(id, epoch, &self.backend, *config, &self.tracker, &self.shutdown);
                Some(Way::Lanes(intake))
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
        if let Some(fault) = created.unfilled {
            tracing::warn!(sale_id = %created.sale.id, error = %fault, "a new sale waits for its gate");
        }
        Ok(self.put(created.sale))
    }

    /// Keeps the directory current, through faults of the ledger and the gate; never returns. May be dropped at any
    /// point.
    pub async fn keep_current(&self) {
        loop {
            if let Err(fault) = self.refresh().await {
                tracing::warn!(error = %fault, "the directory of sales cannot be refreshed");
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Reads the newest sales from the ledger and fills the gate of those that have none yet; forgets older ones, whose
    /// lanes then end.
    pub async fn refresh(&self) -> Result<(), Fault> {
        let sales = self.backend.ledger.sales(MAX_SALES).await?;
        if let Some(oldest) = sales.last().map(|sale| sale.id).filter(|_| sales.len() == MAX_SALES as usize) {
            let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
            desks.retain(|id, _| *id >= oldest);
        }
        for sale in sales {
            self.put(self.with_gate(sale).await);
        }
        Ok(())
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
