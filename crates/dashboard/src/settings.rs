//! The settings as JSON, for the page and for the answers of the controls.

use seckill_core::{FaultKind, Settings};
use serde_json::{Map, Value, json};

/// The settings as the page shows them; a fault that has ended is `null`.
pub fn settings_view(settings: &Settings) -> Value {
    let fault = |kind: &FaultKind| {
        let fault = settings.faults.get(kind).filter(|_| settings.amount(*kind) > 0);
        fault.map(
            |fault| json!({"amount": fault.amount, "until": fault.until.timestamp_millis() as f64 / 1_000.0}),
        )
    };
    let faults: Map<_, _> = FaultKind::ALL
        .iter()
        .map(|kind| (json!(kind).as_str().unwrap_or_default().to_owned(), json!(fault(kind))))
        .collect();
    json!({
        "revision": settings.revision,
        "drain_rate": settings.drain_rate,
        "paused": settings.paused,
        "faults": faults,
    })
}
