//! Finds what is new since the frame before, and words it for the log.

use seckill_core::{FaultKind, ProcessId, SaleId, Settings, now};
use serde_json::{Value, json};

use crate::log::NewEntry;
use crate::watch::{Invariants, SaleView};

/// What has been logged so far.
#[derive(Default)]
pub(crate) struct News {
    settings: Option<Settings>,
    active_faults: Vec<FaultKind>,
    sale: Option<SaleId>,
    findings: usize,
    load: Option<LoggedLoad>,
}

/// A load run in the log.
#[derive(Default)]
struct LoggedLoad {
    id: String,
    /// Whether its end was logged.
    ended: bool,
}

impl News {
    /// Changes of the settings. `name_of` gives the name of a process.
    pub(crate) fn of_settings(
        &mut self,
        settings: &Settings,
        name_of: impl Fn(ProcessId) -> String,
    ) -> Vec<NewEntry> {
        let mut news = self.of_faults(settings);
        // The first settings that this gateway sees are older than the gateway: they are no change.
        let Some(before) = self.settings.replace(settings.clone()) else { return news };
        if before.drain_rate != settings.drain_rate {
            let rate = settings.drain_rate.map(|rate| rate.to_string());
            let message = match &rate {
                Some(rate) => format!("drain rate: {rate} a worker"),
                None => "drain rate: what each worker was started with".to_owned(),
            };
            news.push(NewEntry::info("settings", "drain_rate_changed", message, json!({"rate": rate})));
        }
        if before.paused != settings.paused {
            let (code, text) = if settings.paused {
                ("workers_paused", "the workers are paused")
            } else {
                ("workers_resumed", "the workers go on")
            };
            news.push(NewEntry::info("settings", code, text.to_owned(), json!({})));
        }
        if let Some(order) = settings.crash
            && before.crash != settings.crash
        {
            let name = name_of(order.process);
            let message = format!("{name} was ordered to crash");
            news.push(NewEntry::warn("fault", "worker_crash_ordered", message, json!({"name": name})));
        }
        news
    }

    /// Faults that began or ended.
    fn of_faults(&mut self, settings: &Settings) -> Vec<NewEntry> {
        let active: Vec<_> = FaultKind::ALL.into_iter().filter(|kind| settings.amount(*kind) > 0).collect();
        let before = std::mem::replace(&mut self.active_faults, active.clone());
        let mut news = Vec::new();
        for kind in FaultKind::ALL {
            let name = json!(kind);
            let text = text(&name).replace('_', " ");
            match (before.contains(&kind), active.contains(&kind)) {
                (false, true) => {
                    let args = json!({"fault": name, "seconds": remaining_seconds(settings, kind)});
                    news.push(NewEntry::warn("fault", "fault_on", format!("fault on: {text}"), args));
                }
                (true, false) => {
                    let args = json!({"fault": name});
                    news.push(NewEntry::info("fault", "fault_off", format!("fault off: {text}"), args));
                }
                _ => {}
            }
        }
        news
    }

    /// The sale, when the feed begins to follow it.
    pub(crate) fn of_sale(&mut self, sale: &SaleView) -> Option<NewEntry> {
        if self.sale.replace(sale.id) == Some(sale.id) {
            return None;
        }
        let (id, view) = (sale.id, json!(sale));
        let message = format!("sale {id} is open: {} units of {}", view["stock"], view["name"]);
        let args = json!({"id": id, "name": view["name"], "stock": view["stock"]});
        Some(NewEntry::info("sale", "sale_opened", message, args))
    }

    /// Violations. One that lasts is logged once, though its numbers may change with every audit.
    pub(crate) fn of_invariants(&mut self, invariants: Option<&Invariants>) -> Vec<NewEntry> {
        let found = invariants.map_or(0, |invariants| invariants.findings.len());
        let more = found > std::mem::replace(&mut self.findings, found);
        let Some(invariants) = invariants.filter(|_| more) else { return Vec::new() };
        let violation = |finding: &String| {
            NewEntry::error("violation", "violation", finding.clone(), json!({"finding": finding}))
        };
        invariants.findings.iter().map(violation).collect()
    }

    /// The beginning and the end of the load run that the page shows.
    pub(crate) fn of_load(&mut self, load: &Value) -> Vec<NewEntry> {
        let mut news = Vec::new();
        let (id, ended) = (text(&load["id"]).to_owned(), !load["ended_at"].is_null());
        let logged = match self.load.take() {
            // It ended before this gateway started.
            None if ended => LoggedLoad { id: id.clone(), ended: true },
            logged => logged.unwrap_or_default(),
        };
        if logged.id != id {
            let args = json!({"preset": load["preset"], "rate": load["peak_rate"], "buyers": load["buyers"], "mode": load["mode"]});
            let message = format!(
                "load: {} ({} buyers, {} mode)",
                text(&load["preset"]),
                load["buyers"],
                text(&load["mode"])
            );
            news.push(NewEntry::info("load", "load_started", message, args));
        }
        if ended && (logged.id != id || !logged.ended) {
            let pass = load["verdict"]["pass"].as_bool();
            let verdict = match pass {
                Some(true) => "pass",
                Some(false) => "fail",
                None => text(&load["state"]),
            };
            let message = format!("load ended: {verdict}");
            let args = json!({"verdict": verdict});
            news.push(match pass {
                Some(false) => NewEntry::error("load", "load_ended", message, args),
                _ => NewEntry::info("load", "load_ended", message, args),
            });
        }
        self.load = Some(LoggedLoad { id, ended });
        news
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn remaining_seconds(settings: &Settings, kind: FaultKind) -> i64 {
    settings.faults.get(&kind).map_or(0, |fault| (fault.until - now()).num_seconds() + 1)
}
