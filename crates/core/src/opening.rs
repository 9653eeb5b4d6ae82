//! Opening a sale: the one order in which ledger and gate are written, whoever does it.

use crate::{Backend, Epoch, Fault, Mode, NewSale, Sale};

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
    if mode == Mode::Direct {
        return Ok(Created { sale, unfilled: None });
    }
    Ok(match fill_gate(backend, &sale).await {
        Ok(sale) => Created { sale, unfilled: None },
        Err(fault) => Created { sale, unfilled: Some(fault) },
    })
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
