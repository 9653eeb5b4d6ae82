//! Opening and changing a sale: the one order in which ledger and gate are written, whoever does it.

use crate::{
    AbortPoint, Backend, CreatedOnce, Epoch, Fault, Mode, NewSale, RequestKey, Sale, SaleChange, SaleChanged,
    SaleId, abort_point,
};

/// The epoch of a sale's first gate.
const FIRST: Epoch = 1;

/// A sale that was created, and what its gate answered.
#[derive(Debug)]
pub struct Created {
    /// The sale; its epoch is 0 where the gate could not be filled.
    pub sale: Sale,
    /// Why the gate of a sale in queue mode could not be filled. Whoever calls [`fill_gate`] next fills it.
    pub unfilled: Option<Fault>,
}

/// Records a new sale in the ledger and, in queue mode, fills its gate.
///
/// # Errors
/// The ledger's fault; after [`Fault::Unknown`] the sale may exist.
pub async fn create_sale(backend: &Backend, new: &NewSale, mode: Mode) -> Result<Created, Fault> {
    let sale = backend.ledger.create_sale(new, mode).await?;
    Ok(open(backend, sale).await)
}

/// What became of [`create_sale_once`].
#[derive(Debug)]
pub enum Opened {
    /// The sale is recorded, with the key.
    Created(Box<Created>),
    /// The key was used before: [`Ledger::sale_of_key`](crate::Ledger::sale_of_key) has the sale. Nothing was changed.
    KeyTaken,
    /// Another creation under the key has not ended. Nothing was changed.
    UnderWay,
}

/// As [`create_sale`], once for each idempotency key.
///
/// # Errors
/// The ledger's fault; after [`Fault::Unknown`] the sale may exist, and calling this again with the same key is safe.
pub async fn create_sale_once(
    backend: &Backend,
    new: &NewSale,
    mode: Mode,
    key: &RequestKey,
) -> Result<Opened, Fault> {
    Ok(match backend.ledger.create_sale_once(new, mode, key).await? {
        CreatedOnce::Created(sale) => Opened::Created(Box::new(open(backend, *sale).await)),
        CreatedOnce::KeyTaken => Opened::KeyTaken,
        CreatedOnce::UnderWay => Opened::UnderWay,
    })
}

async fn open(backend: &Backend, sale: Sale) -> Created {
    abort_point(AbortPoint::SaleCreated);
    if sale.mode == Mode::Direct {
        return Created { sale, unfilled: None };
    }
    match fill_gate(backend, &sale).await {
        Ok(sale) => Created { sale, unfilled: None },
        Err(fault) => Created { sale, unfilled: Some(fault) },
    }
}

/// Fills the gate of a sale that has none yet, then marks the sale as opened in the ledger; gives the sale as it is then.
///
/// A process killed between the two steps leaves a full gate and epoch 0. No order has touched that gate, because epoch 0
/// takes no orders, and filling it again changes nothing.
///
/// # Errors
/// A fault of the gate or the ledger; calling it again is safe.
pub async fn fill_gate(backend: &Backend, sale: &Sale) -> Result<Sale, Fault> {
    backend.gate.open(sale, FIRST).await?;
    backend.ledger.mark_opened(sale.id, FIRST).await?;
    Ok(Sale { epoch: FIRST, ..sale.clone() })
}

/// A change of a sale, and whether buyers feel it already.
#[derive(Debug)]
pub struct Change {
    /// What the ledger has decided.
    pub changed: SaleChanged,
    /// Why the gate has not applied it yet. Gateways look once a second, and bring it to the gate when they can.
    pub unapplied: Option<Fault>,
}

/// Changes a sale in the ledger first and at its gate second.
///
/// In this order a gate never has units that the ledger does not know. A process killed between the two steps leaves a gate on an
/// earlier revision than the ledger; [`StockGate::apply_change`](crate::StockGate::apply_change) may be called again by anybody.
///
/// # Errors
/// The ledger's fault; after [`Fault::Unknown`] the change may have happened, and the same change again is safe.
pub async fn change_sale(backend: &Backend, id: SaleId, change: &SaleChange) -> Result<Change, Fault> {
    let changed = backend.ledger.change_sale(id, change).await?;
    let mut unapplied = None;
    if let SaleChanged::Done(sale) = &changed {
        abort_point(AbortPoint::SaleChanged);
        if sale.has_gate() {
            unapplied = backend.gate.apply_change(sale).await.err();
        }
    }
    Ok(Change { changed, unapplied })
}
