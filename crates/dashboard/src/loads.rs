//! Load runs as processes report them, in JSON: what is done with one whose process is gone.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::log::seconds;

/// When a run started, in seconds since 1970.
fn started(load: &Value) -> f64 {
    load["started_at"].as_f64().unwrap_or_default()
}

/// Whether this can be a load run at all. Processes of other versions may report and keep anything.
pub(crate) fn is_load(load: &Value) -> bool {
    load.is_object()
}

/// Whether a run has not ended.
fn is_under_way(load: &Value) -> bool {
    load["ended_at"].is_null()
}

/// Of two runs that processes report, the greater one is shown: one that is under way, else the one that started later.
pub(crate) fn order(a: &Value, b: &Value) -> Ordering {
    is_under_way(a).cmp(&is_under_way(b)).then(started(a).total_cmp(&started(b)))
}

/// Whether a run that no process reports is shown, and not one that a process does. The clocks of the two may differ, and what is
/// under way is seen to be.
pub(crate) fn gives_way(reported: &Value, remembered: &Value) -> bool {
    !is_under_way(reported) && started(reported) < started(remembered)
}

/// A load run that no process reports any more. If it had not ended, it has failed now.
pub(crate) fn ended_with_its_gateway(mut load: Value) -> Value {
    if is_under_way(&load) {
        load["state"] = json!("failed");
        load["ended_at"] = json!(seconds());
        load["message"] = json!("the gateway that ran it is gone");
        load["failure"] = json!({"code": "gateway_gone", "args": {}, "message": load["message"]});
    }
    load
}
