//! The sales this gateway knows, each with its intake. Kept current from the ledger once a second; read without the
//! ledger, so that a database that is down stops no order of a sale that is known.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use seckill_core::{Backend, Epoch, Fault, NewSale, Sale, SaleId, UNGATED};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::direct::Pool;
use crate::intake::{Intake, IntakeConfig};

/// Sales that a gateway keeps at hand: the newest.
const MAX_SALES: u32 = 1_000;
/// How often the directory is brought up to date.
const REFRESH: Duration = Duration::from_secs(1);
/// Unknown sale ids that are remembered, so that asking for them again does not reach the ledger.
const MAX_MISSES: u64 = 10_000;

/// A sale, and the way into its lanes.
pub struct Desk {
    /// The sale, as the ledger had it when the directory was last brought up to date.
    pub sale: Sale,
    /// `None` until the gate has been filled for the sale; and for a sale of the other mode, which is not this gateway's to
    /// sell.
    pub intake: Option<Intake>,
}

/// How this gateway sells.
enum Mode {
    /// Through lanes, gate and queue.
    Queue(IntakeConfig),
    /// Straight into the ledger.
    Direct(Pool),
}

/// The sales this gateway knows.
pub struct Directory {
    backend: Backend,
    mode: Mode,
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
        Self::of(Mode::Queue(intake), backend, tracker, shutdown)
    }

    /// An empty directory whose sales are sold straight into the ledger, by the writers of `pool`.
    pub(crate) fn direct(
        backend: Backend,
        pool: Pool,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self::of(Mode::Direct(pool), backend, tracker, shutdown)
    }

    fn of(mode: Mode, backend: Backend, tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        let misses = Cache::builder().max_capacity(MAX_MISSES).time_to_live(REFRESH).build();
        Self { backend, mode, tracker, shutdown, desks: RwLock::default(), misses }
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
        let intake = match desks.get(&sale.id) {
            // Read before the sale was opened, put after it: what is known is newer.
            Some(desk) if desk.sale.epoch > sale.epoch => return Arc::clone(desk),
            Some(desk) if desk.sale.epoch == sale.epoch => desk.intake.clone(),
            _ => self.intake(&sale),
        };
        let desk = Arc::new(Desk { sale, intake });
        desks.insert(desk.sale.id, Arc::clone(&desk));
        desk
    }

    fn intake(&self, Sale { id, epoch, .. }: &Sale) -> Option<Intake> {
        match (&self.mode, *epoch) {
            (Mode::Direct(pool), UNGATED) => Some(Intake::direct(*id, pool.clone())),
            (Mode::Direct(_), _) | (Mode::Queue(_), 0 | UNGATED) => None,
            (Mode::Queue(config), epoch) => {
                Some(Intake::start(*id, epoch, &self.backend, *config, &self.tracker, &self.shutdown))
            }
        }
    }

    /// Records a new sale, opens it and takes it in. Where its gate cannot be filled just now, it takes no orders until the
    /// refresh has filled it.
    ///
    /// # Errors
    /// The ledger is away; after [`Fault::Unknown`] the sale may exist.
    pub async fn create(&self, new: &NewSale) -> Result<Arc<Desk>, Fault> {
        const UNOPENED: Epoch = 0;
        let epoch = if matches!(self.mode, Mode::Direct(_)) { UNGATED } else { UNOPENED };
        let sale = self.backend.ledger.create_sale(new, epoch).await?;
        if epoch == UNGATED {
            return Ok(self.put(sale));
        }
        match self.open(sale.clone()).await {
            Ok(desk) => Ok(desk),
            Err(fault) => {
                tracing::warn!(sale_id = %sale.id, error = %fault, "a new sale waits for its gate");
                Ok(self.put(sale))
            }
        }
    }

    /// Fills the gate of a sale that has epoch 0 and takes it in. A gateway killed between the two steps leaves a full
    /// gate that no order has touched, since epoch 0 takes none: filling it again changes nothing.
    ///
    /// # Errors
    /// The gate or the ledger is away; the refresh tries again.
    pub async fn open(&self, mut sale: Sale) -> Result<Arc<Desk>, Fault> {
        const FIRST: u32 = 1;
        self.backend.gate.open(&sale, FIRST).await?;
        self.backend.ledger.mark_opened(sale.id, FIRST).await?;
        sale.epoch = FIRST;
        Ok(self.put(sale))
    }

    /// Keeps the directory current, through faults of the ledger and the gate; never returns. May be dropped at any
    /// point.
    pub async fn keep_current(&self) {
        loop {
            if let Err(fault) = self.refresh().await {
                tracing::warn!(error = %fault, "the directory of sales is not brought up to date");
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
            if sale.epoch == 0
                && matches!(self.mode, Mode::Queue(_))
                && let Err(fault) = self.open(sale.clone()).await
            {
                // One gate that cannot be filled holds up no other sale.
                tracing::warn!(sale_id = %sale.id, error = %fault, "a sale waits for its gate");
            }
            self.put(sale);
        }
        Ok(())
    }

    fn read<T>(&self, look: impl FnOnce(&HashMap<SaleId, Arc<Desk>>) -> T) -> T {
        look(&self.desks.read().unwrap_or_else(PoisonError::into_inner))
    }
}
