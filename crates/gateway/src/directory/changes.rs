//! Creating a sale once, and changing one: how changes reach the gate and, after a restore, the ledger, whoever died in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use seckill_core::{
    Backend, Change, Epoch, Fault, Mode, NewSale, Opened, RequestKey, Sale, SaleChange, SaleChanged, SaleId,
    SaleState, change_sale, create_sale_once,
};

use super::{Desk, Directory};

/// Whether `known` is the same sale as `recorded` with a change that `recorded` lacks.
pub(super) fn is_ahead(known: &Sale, recorded: &Sale) -> bool {
    known.revision > recorded.revision && known.created_at == recorded.created_at
}

/// Which revision of each sale this process has brought to the gate, or found there.
pub(super) struct AppliedChanges {
    mode: Mode,
    /// By sale, the filling of the gate and the revision. Held only to look up or insert.
    applied: Mutex<HashMap<SaleId, (Epoch, u32)>>,
}

impl AppliedChanges {
    pub(super) fn new(mode: Mode) -> Self {
        Self { mode, applied: Mutex::default() }
    }

    /// Brings a sale as the ledger has it to its gate, unless that was done. A gate that has it already stays as it is. A gate that
    /// cannot be reached holds up no other sale.
    pub(super) async fn bring_to_gate(&self, backend: &Backend, sale: &Sale) {
        // A gate that is being rebuilt takes all of it from the ledger.
        if self.mode != Mode::Queue || !sale.has_gate() || sale.state != SaleState::Open || self.has(sale) {
            return;
        }
        match backend.gate.apply_change(sale).await {
            Ok(()) => self.note(sale),
            Err(fault) => {
                tracing::warn!(sale_id = %sale.id, error = %fault, "a change of a sale waits for its gate");
            }
        }
    }

    fn has(&self, sale: &Sale) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.get(&sale.id).is_some_and(|last| *last == (sale.epoch, sale.revision))
    }

    fn note(&self, sale: &Sale) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert(sale.id, (sale.epoch, sale.revision));
    }

    /// Forgets the other sales.
    pub(super) fn retain(&self, is_known: impl Fn(&SaleId) -> bool) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_known(id));
    }
}

/// What became of a creation under an idempotency key.
pub(crate) enum OnceCreated {
    /// The sale is there, with the key.
    Created(Arc<Desk>),
    /// The key was used before.
    KeyTaken,
    /// Another creation under the key has not ended.
    UnderWay,
}

impl Directory {
    /// As [`Self::create`], once for each idempotency key.
    ///
    /// # Errors
    /// As [`Self::create`]; calling it again with the same key is safe.
    pub(crate) async fn create_once(&self, new: &NewSale, key: &RequestKey) -> Result<OnceCreated, Fault> {
        Ok(match create_sale_once(&self.backend, new, self.seller.mode(), key).await? {
            Opened::Created(created) => OnceCreated::Created(self.take_in(*created)),
            Opened::KeyTaken => OnceCreated::KeyTaken,
            Opened::UnderWay => OnceCreated::UnderWay,
        })
    }

    /// Changes a sale in the ledger and then at its gate, and takes in what it is now.
    ///
    /// # Errors
    /// The ledger is away; after [`Fault::Unknown`] the change may have happened, and the same change again is safe.
    pub(crate) async fn change(&self, id: SaleId, change: &SaleChange) -> Result<Change, Fault> {
        let made = change_sale(&self.backend, id, change).await?;
        if let SaleChanged::Done(sale) = &made.changed {
            self.put((**sale).clone());
        }
        if let Some(fault) = &made.unapplied {
            tracing::warn!(sale_id = %id, error = %fault, "a change of a sale waits for its gate");
        }
        Ok(made)
    }

    /// Gives the ledger a change back that this gateway knows and the ledger does not: it was restored from a backup. Where the
    /// sale was only read before the change, the ledger has it, and nothing happens.
    pub(super) async fn restore_lost_change(&self, recorded: &Sale) -> Result<(), Fault> {
        match self.get(recorded.id).filter(|desk| is_ahead(&desk.sale, recorded)) {
            Some(desk) => self.backend.ledger.restore_sale(&desk.sale).await,
            None => Ok(()),
        }
    }
}
