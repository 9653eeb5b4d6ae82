//! What a saga has to remember, in its row.

use seckill_core::money::Saga;
use seckill_core::{Dependency, Fault};

pub(crate) fn body<T: serde::de::DeserializeOwned>(saga: &Saga) -> Result<T, Fault> {
    serde_json::from_str(&saga.body).map_err(|error| {
        Fault::corrupt(
            Dependency::Ledger,
            format!("the {} of order {}: {error}", saga.kind.as_str(), saga.order_id),
        )
    })
}
