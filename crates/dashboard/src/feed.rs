//! Adds up what all processes tell, four times a second, keeps the last five minutes of it, and hands it to every page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seckill_core::{Backend, DrainRate, FaultKind, ProcessId, SaleId, Settings, Snapshot};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::log::{Entry, Happened, Log, seconds};
use crate::process::{COUNTED, Counts, Process};
use crate::report::{EVERY, Reporter};
use crate::rows::{Row, Rows, columns};
use crate::watch::{Watch, Watched};

/// This process tells how it is itself, so a listener that hears nothing for so long is on a dead connection.
const DEAF_AFTER: Duration = Duration::from_secs(3);
/// The pause before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);
/// Events that a slow page may be behind before its stream is ended, to begin anew: eight seconds' worth.
const BUFFERED: usize = 32;
/// A queue notices that a worker is gone, and gives back what it held, well within this time (two heartbeats of 5 s).
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(30);
/// Processes that are followed; a channel that others write to must not fill this one's memory.
const MAX_PROCESSES: usize = 256;

/// One event of the stream, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `frame` or `log`.
    pub(crate) name: &'static str,
    /// The number of the next row, for `Last-Event-ID`.
    pub(crate) next_row: u64,
    /// JSON.
    pub(crate) data: Arc<str>,
}

/// What the pages are told.
pub struct Feed {
    backend: Backend,
    watch: Arc<Watch>,
    reporter: Arc<Reporter>,
    /// Held for a few microseconds four times a second, and when a page connects.
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<ProcessId, Process>,
    /// What processes that are gone had counted; one that was only silent comes back with the same.
    departed: BTreeMap<ProcessId, Counts>,
    /// When a worker was last heard of for the last time.
    worker_lost: Option<Instant>,
    rows: Rows,
    log: Log,
    seen: Seen,
    load: Option<Value>,
}

/// What the log has told of last.
#[derive(Default)]
struct Seen {
    settings: Option<Settings>,
    active: Vec<FaultKind>,
    sale: Option<SaleId>,
    findings: usize,
    /// The load run, and whether its end was told.
    load: Option<(String, bool)>,
}

impl Feed {
    /// The feed of a gateway on `backend`, which itself reports by `reporter`.
    pub fn new(backend: Backend, reporter: Arc<Reporter>) -> Arc<Self> {
        let (watch, events) = (Watch::new(backend.clone()), broadcast::Sender::new(BUFFERED));
        Arc::new(Self { backend, watch, reporter, state: Mutex::default(), events })
    }

    /// Listens and adds up; never returns.
    pub async fn run(&self) {
        tokio::join!(self.listen(), self.add_up(), self.watch.run());
    }

    async fn listen(&self) {
        loop {
            if let Ok(mut listener) = self.backend.control.listen().await {
                while let Ok(Ok(snapshot)) = timeout(DEAF_AFTER, listener.next()).await {
                    self.hear(snapshot);
                }
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    fn hear(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        if let Some(process) = state.processes.get_mut(&snapshot.process) {
            process.hear(snapshot);
        } else if state.processes.len() < MAX_PROCESSES {
            let happened = Happened::info(
                "process",
                "process_joined",
                format!("{} is here", snapshot.name),
                json!({"name": snapshot.name, "roles": snapshot.roles}),
            );
            state.departed.remove(&snapshot.process);
            state.processes.insert(snapshot.process, Process::new(snapshot));
            self.tell(&mut state, happened);
        }
    }

    async fn add_up(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.frame();
        }
    }

    /// One row, and one event for every page.
    fn frame(&self) {
        let Watched { sale, invariants } = self.watch.watched();
        let settings = self.reporter.settings();
        let mut state = self.lock();
        self.forget_the_gone(&mut state);
        let row = Row::of(seconds(), &state.processes.values(), sale.as_ref());
        let watched = self.events.receiver_count() > 0;
        self.watch.tell(idle(&state, &row), watched);
        let news = state.news(
            settings.as_ref(),
            sale.as_ref().map(|sale| (sale.id, json!(sale))),
            invariants.as_ref(),
        );
        for happened in news {
            self.tell(&mut state, happened);
        }
        state.rows.push(&row);
        if self.events.receiver_count() == 0 {
            return;
        }
        // An audit of the sale before says nothing about this one.
        let invariants = invariants.filter(|found| sale.as_ref().is_some_and(|sale| sale.id == found.sale));
        let processes: Vec<_> = state.processes.values().map(Process::view).collect();
        let rest = json!({
            "sale": sale,
            "invariants": invariants,
            "processes": processes,
            "settings": settings_view(&settings.unwrap_or_default()),
            "load": state.load,
            "totals": state.totals(),
        });
        let data = format!("{{\"row\":{},{}", row.json(), &rest.to_string()[1..]);
        self.send("frame", &state, data);
    }

    fn forget_the_gone(&self, state: &mut State) {
        let gone: Vec<_> = state.processes.values().filter(|process| process.is_gone()).collect();
        let gone: Vec<_> = gone.iter().map(|process| process.now().process).collect();
        for id in gone {
            let Some(process) = state.processes.remove(&id) else { continue };
            let now = process.now();
            if now.drain_rate.is_some() {
                state.worker_lost = Some(Instant::now());
            }
            if state.departed.len() < MAX_PROCESSES {
                state.departed.insert(id, process.counts());
            }
            let happened = Happened::warn(
                "process",
                "process_vanished",
                format!("{} has fallen silent; its numbers are gone", now.name),
                json!({"name": now.name, "roles": now.roles}),
            );
            self.tell(state, happened);
        }
    }

    /// Notes down what happened, and tells the pages.
    fn tell(&self, state: &mut State, happened: Happened) {
        let next_row = state.rows.next();
        let entry = state.log.push(happened, next_row);
        self.send("log", state, json!(entry).to_string());
    }

    fn send(&self, name: &'static str, state: &State, data: String) {
        // An error means that no page is open.
        let _ = self.events.send(Event { name, next_row: state.rows.next(), data: data.into() });
    }

    /// Everything from now on, and what is needed before: the rows from number `from` on, or all that are kept. `controls`:
    /// whether the page has any.
    pub(crate) fn join(&self, from: Option<u64>, controls: bool) -> (Event, broadcast::Receiver<Event>) {
        // Under one lock, so that nothing falls between the two.
        let state = self.lock();
        let receiver = self.events.subscribe();
        let missed = from.and_then(|from| state.rows.since(from).map(|rows| (rows, from)));
        let complete = missed.is_none();
        let (rows, since) = missed.unwrap_or_else(|| (state.rows.all(), 0));
        let log: Vec<&Entry> = state.log.since(since);
        let head = json!({"columns": columns(), "complete": complete, "controls": controls, "log": log});
        let data = format!("{{\"rows\":{rows},{}", &head.to_string()[1..]);
        (Event { name: "history", next_row: state.rows.next(), data: data.into() }, receiver)
    }

    /// The workers that are alive.
    pub(crate) fn workers(&self) -> Vec<(ProcessId, String)> {
        let state = self.lock();
        let alive = state.processes.values().filter(|process| !process.is_silent());
        let working = alive.filter(|process| process.now().drain_rate.is_some());
        working.map(|process| (process.now().process, process.now().name.clone())).collect()
    }

    /// The load run that any gateway tells of.
    pub(crate) fn load(&self) -> Option<Value> {
        self.lock().load.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Rows and entries are pushed whole; a panic leaves at worst a row out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether every worker waits for orders: there is one, none is paused, none holds or has lately written any, and none has
/// gone lately whose orders the queue may yet give back.
fn idle(state: &State, row: &Row) -> bool {
    let mut workers =
        state.processes.values().filter(|process| process.now().drain_rate.is_some()).peekable();
    workers.peek().is_some()
        && row.committed() == 0.0
        && state.worker_lost.is_none_or(|lost| lost.elapsed() > GIVEN_BACK_AFTER)
        && workers.all(|worker| {
            worker.now().drain_rate != Some(DrainRate::Paused) && worker.held_orders() == Some(0)
        })
}

impl State {
    fn totals(&self) -> Value {
        let mut totals = Counts::default();
        self.departed.values().for_each(|counts| totals.add(counts));
        self.processes.values().for_each(|process| totals.add(&process.counts()));
        COUNTED.iter().zip(totals.0).map(|(name, count)| ((*name).to_owned(), json!(count as u64))).collect()
    }

    /// What is new since it was last asked.
    fn news(
        &mut self,
        settings: Option<&Settings>,
        sale: Option<(SaleId, Value)>,
        invariants: Option<&crate::watch::Invariants>,
    ) -> Vec<Happened> {
        let mut news = Vec::new();
        if let Some(settings) = settings {
            self.settings_news(settings, &mut news);
        }
        if let Some((id, view)) = sale
            && self.seen.sale.replace(id) != Some(id)
        {
            let message = format!("sale {id} is open: {} units of {}", view["stock"], view["name"]);
            let args = json!({"id": id, "name": view["name"], "stock": view["stock"]});
            news.push(Happened::info("sale", "sale_opened", message, args));
        }
        // A violation that lasts is told once, though its numbers may change with every audit.
        let found = invariants.map_or(0, |invariants| invariants.findings.len());
        let more = found > std::mem::replace(&mut self.seen.findings, found);
        if let Some(invariants) = invariants.filter(|_| more) {
            let violation = |finding: &String| {
                Happened::error("violation", "violation", finding.clone(), json!({"finding": finding}))
            };
            news.extend(invariants.findings.iter().map(violation));
        }
        self.load_news(&mut news);
        news
    }

    fn settings_news(&mut self, settings: &Settings, news: &mut Vec<Happened>) {
        let active: Vec<_> = FaultKind::ALL.into_iter().filter(|kind| settings.amount(*kind) > 0).collect();
        let was = std::mem::replace(&mut self.seen.active, active.clone());
        for kind in FaultKind::ALL {
            let name = json!(kind);
            let text = name.as_str().unwrap_or_default().replace('_', " ");
            match (was.contains(&kind), active.contains(&kind)) {
                (false, true) => {
                    let args = json!({"fault": name, "seconds": remaining_seconds(settings, kind)});
                    news.push(Happened::warn("fault", "fault_on", format!("fault on: {text}"), args));
                }
                (true, false) => {
                    let args = json!({"fault": name});
                    news.push(Happened::info("fault", "fault_off", format!("fault off: {text}"), args));
                }
                _ => {}
            }
        }
        // What was so when this gateway came is no news.
        let Some(before) = self.seen.settings.replace(settings.clone()) else { return };
        if before.drain_rate != settings.drain_rate {
            let rate = settings.drain_rate.map(|rate| rate.to_string());
            let message = match &rate {
                Some(rate) => format!("drain rate: {rate} a worker"),
                None => "drain rate: what each worker was started with".to_owned(),
            };
            news.push(Happened::info("settings", "drain_rate_changed", message, json!({"rate": rate})));
        }
        if before.paused != settings.paused {
            let (code, text) = if settings.paused {
                ("workers_paused", "the workers are paused")
            } else {
                ("workers_resumed", "the workers go on")
            };
            news.push(Happened::info("settings", code, text.to_owned(), json!({})));
        }
        if let Some(order) = settings.crash
            && before.crash != settings.crash
        {
            let name = self
                .processes
                .get(&order.process)
                .map(|process| process.now().name.clone())
                .unwrap_or_default();
            let message = format!("{name} was told to crash");
            news.push(Happened::warn("fault", "worker_crash_ordered", message, json!({"name": name})));
        }
    }

    /// Of all load runs that processes tell of, the newest is the one that is shown.
    fn load_news(&mut self, news: &mut Vec<Happened>) {
        let told = self.processes.values().filter_map(|process| process.now().load.as_ref());
        let started = |load: &Value| load["started_at"].as_f64().unwrap_or_default();
        let newest = told.max_by(|a, b| started(a).total_cmp(&started(b))).cloned();
        let Some(load) = newest.or_else(|| self.load.take().map(orphaned)) else { return };
        let id = load["id"].as_str().unwrap_or_default().to_owned();
        let ended = !load["ended_at"].is_null();
        if self.seen.load.is_none() && ended {
            // It was over when this gateway came.
            self.seen.load = Some((id.clone(), true));
        }
        let (known, told_end) = self.seen.load.take().unwrap_or_default();
        if known != id {
            let args = json!({"preset": load["preset"], "rate": load["peak_rate"], "buyers": load["buyers"], "mode": load["mode"]});
            let message = format!(
                "load: {} ({} buyers, {} mode)",
                text(&load["preset"]),
                load["buyers"],
                text(&load["mode"])
            );
            news.push(Happened::info("load", "load_started", message, args));
        }
        if ended && (known != id || !told_end) {
            let pass = load["verdict"]["pass"].as_bool();
            let verdict = match pass {
                Some(true) => "pass",
                Some(false) => "fail",
                None => text(&load["state"]),
            };
            let message = format!("load ended: {verdict}");
            let args = json!({"verdict": verdict});
            news.push(match pass {
                Some(false) => Happened::error("load", "load_ended", message, args),
                _ => Happened::info("load", "load_ended", message, args),
            });
        }
        self.seen.load = Some((id, ended));
        self.load = Some(load);
    }
}

/// A load run that nobody tells of any more: if it was under way, it has ended with its gateway.
fn orphaned(mut load: Value) -> Value {
    if load["ended_at"].is_null() {
        load["state"] = json!("failed");
        load["ended_at"] = json!(seconds());
        load["message"] = json!("the gateway that ran it is gone");
    }
    load
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn remaining_seconds(settings: &Settings, kind: FaultKind) -> i64 {
    settings.faults.get(&kind).map_or(0, |fault| (fault.until - seckill_core::now()).num_seconds() + 1)
}

/// The settings as the page shows them: a fault that has ended is none.
pub(crate) fn settings_view(settings: &Settings) -> Value {
    let fault = |kind: &FaultKind| {
        let fault = settings.faults.get(kind).filter(|_| settings.amount(*kind) > 0);
        fault.map(
            |fault| json!({"amount": fault.amount, "until": fault.until.timestamp_millis() as f64 / 1_000.0}),
        )
    };
    let faults: serde_json::Map<_, _> = FaultKind::ALL
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
