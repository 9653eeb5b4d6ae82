//! Finds what is new since the frame before, and words it for the log.

use std::collections::{BTreeMap, BTreeSet};

use seckill_core::{FaultKind, ProcessId, Readiness, SaleId, SaleState, Settings, now};
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
    /// The parts of the back end that could not be used.
    down: BTreeSet<String>,
    /// Whether the sale was being rebuilt.
    rebuilding: bool,
    parked: f64,
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
                Some(rate) => format!("drain rate: {rate} for all workers together"),
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

    /// The sale, when the feed begins to follow it, and the rebuild of its gate.
    pub(crate) fn of_sale(&mut self, sale: &SaleView) -> Vec<NewEntry> {
        let opened = self.opened(sale);
        let rebuilding = sale.state == SaleState::Rebuilding;
        let before = std::mem::replace(&mut self.rebuilding, rebuilding);
        let args = json!({"id": sale.id});
        let rebuild = match (before && opened.is_none(), rebuilding) {
            (false, true) => {
                let message = format!("the gate of sale {} was lost, and is rebuilt", sale.id);
                Some(NewEntry::warn("sale", "rebuild_began", message, args))
            }
            (true, false) => {
                let message = format!("the gate of sale {} takes orders again", sale.id);
                Some(NewEntry::info("sale", "rebuild_ended", message, args))
            }
            _ => None,
        };
        opened.into_iter().chain(rebuild).collect()
    }

    fn opened(&mut self, sale: &SaleView) -> Option<NewEntry> {
        if self.sale.replace(sale.id) == Some(sale.id) {
            return None;
        }
        let (id, view) = (sale.id, json!(sale));
        let message = format!("sale {id} is open: {} units of {}", view["stock"], view["name"]);
        let args = json!({"id": id, "name": view["name"], "stock": view["stock"]});
        Some(NewEntry::info("sale", "sale_opened", message, args))
    }

    /// Parts of the back end that cannot be used any more, or again, as far as one of the processes knows.
    pub(crate) fn of_servers<'a>(&mut self, known: impl Iterator<Item = &'a Readiness>) -> Vec<NewEntry> {
        let down: BTreeMap<_, _> = known.flat_map(|readiness| &readiness.down).collect();
        let names: BTreeSet<String> = down.keys().map(|name| (*name).clone()).collect();
        let before = std::mem::replace(&mut self.down, names);
        let lost = down.iter().filter(|(name, _)| !before.contains(**name)).map(|(name, reason)| {
            let args = json!({"server": name, "reason": reason});
            NewEntry::error("server", "server_down", format!("the {name} cannot be used: {reason}"), args)
        });
        let back = before.iter().filter(|name| !self.down.contains(*name)).map(|name| {
            NewEntry::info(
                "server",
                "server_up",
                format!("the {name} can be used again"),
                json!({"server": name}),
            )
        });
        lost.chain(back).collect()
    }

    /// Messages that the workers have parked since they were first heard of. When a worker goes, they are fewer.
    pub(crate) fn of_parked(&mut self, parked: f64) -> Option<NewEntry> {
        let more = parked - std::mem::replace(&mut self.parked, parked);
        let message = || format!("{more} messages were parked; see `seckill parked list`");
        (more > 0.0).then(|| NewEntry::warn("server", "messages_parked", message(), json!({"n": more})))
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
