//! Load runs as processes report them, in JSON: what is done with one whose process is gone.

use serde_json::{Value, json};

use crate::log::seconds;

/// When a run started, in seconds since 1970.
pub(crate) fn started(load: &Value) -> f64 {
    load["started_at"].as_f64().unwrap_or_default()
}

/// A load run that no process reports any more. If it had not ended, it has failed now.
pub(crate) fn ended_with_its_gateway(mut load: Value) -> Value {
    if load["ended_at"].is_null() {
        load["state"] = json!("failed");
        load["ended_at"] = json!(seconds());
        load["message"] = json!("the gateway that ran it is gone");
        load["failure"] = json!({"code": "gateway_gone", "args": {}, "message": load["message"]});
    }
    load
}
