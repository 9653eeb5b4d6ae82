//! Adds up the snapshots of all processes four times a second, keeps the last five minutes, and sends them to every page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use seckill_core::{Backend, Fault, ProcessId, Settings, Snapshot};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::after::AfterView;
use crate::loads::{ended_with_its_gateway, gives_way, is_load, order};
use crate::log::{Entry, Log, NewEntry, seconds};
use crate::news::News;
use crate::process::{COUNTED, Counts, GONE, Process};
use crate::report::{EVERY, Reporter};
use crate::rows::{Row, Rows, columns};
use crate::settings::settings_view;
use crate::watch::{Invariants, SaleView, Watch, Watched};

/// This process publishes snapshots, too. A listener that receives none for so long has a dead connection.
const DEAF_AFTER: Duration = Duration::from_secs(3);
/// The pause before the feed listens again.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);
/// Events that a slow page may be behind, eight seconds' worth. Then its stream ends, and the page connects again.
const BUFFERED: usize = 32;
/// Processes that are followed: others write to the control plane, and they must not fill this process's memory.
const MAX_PROCESSES: usize = 256;
/// After so long without an answer of the control plane no process counts as gone: perhaps none can be heard.
const UNSURE_AFTER: Duration = Duration::from_millis(1_000);
/// After so long the page says so. A busy machine alone does not take so long.
const CUT_OFF_AFTER: Duration = Duration::from_millis(3_000);
/// How long after the control plane was away no process counts as gone: until the feed listens again, and has heard of all.
const HEARD_AGAIN: Duration = Duration::from_secs(4);

/// One event of the stream, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `history`, `frame`, `log` or `bye`.
    pub(crate) name: &'static str,
    /// The number of the next row, for `Last-Event-ID`.
    pub(crate) next_row: u64,
    pub(crate) data: Arc<str>,
}

/// Everything that the pages show.
pub struct Feed {
    backend: Backend,
    watch: Arc<Watch>,
    reporter: Arc<Reporter>,
    /// Held for a few microseconds four times a second, and when a page connects.
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    first_page: Notify,
}

#[derive(Default)]
struct State {
    /// No process counts as gone before this moment, because none can be heard.
    deaf_until: Option<Instant>,
    processes: BTreeMap<ProcessId, Process>,
    /// The counts of processes that are gone. One that was only silent comes back and counts on from there.
    departed: BTreeMap<ProcessId, Counts>,
    rows: Rows,
    log: Log,
    news: News,
    load: Option<Value>,
}

impl Feed {
    /// The feed of a gateway on `backend`; `reporter` is the gateway's own.
    pub fn new(backend: Backend, reporter: Arc<Reporter>) -> Arc<Self> {
        let (watch, events) = (Watch::new(backend.clone()), broadcast::Sender::new(BUFFERED));
        Arc::new(Self {
            backend,
            watch,
            reporter,
            state: Mutex::default(),
            events,
            first_page: Notify::new(),
        })
    }

    /// Waits until a page is open. For one caller.
    pub async fn first_page(&self) {
        self.first_page.notified().await;
    }

    /// Receives snapshots and makes frames; never returns.
    // Boxed, so that it is compiled with this crate and not again with each one that waits for it.
    pub fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::join!(self.listen(), self.make_frames(), self.watch.run(), self.recall_load());
        })
    }

    async fn listen(&self) {
        loop {
            if let Ok(mut listener) = self.backend.control.listen().await {
                while let Ok(Ok(snapshot)) = timeout(DEAF_AFTER, listener.next()).await {
                    self.receive(snapshot);
                }
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    fn receive(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        if let Some(process) = state.processes.get_mut(&snapshot.process) {
            process.push(snapshot);
        } else if state.processes.len() < MAX_PROCESSES {
            let joined = NewEntry::info(
                "process",
                "process_joined",
                format!("{} is here", snapshot.name),
                json!({"name": snapshot.name, "roles": snapshot.roles}),
            );
            state.departed.remove(&snapshot.process);
            state.processes.insert(snapshot.process, Process::new(snapshot));
            self.log(&mut state, joined);
        }
    }

    /// Takes in the load run that was kept last, in case its gateway is gone: this one, before it was killed, or another one. A gateway
    /// that is alive reports its run by itself, and is heard before.
    async fn recall_load(&self) {
        sleep(2 * GONE).await;
        let kept = loop {
            match self.backend.control.kept_load().await {
                Ok(kept) => break kept,
                // Of another version.
                Err(Fault::Corrupt { .. }) => return,
                Err(_) => sleep(LISTEN_AGAIN).await,
            }
        };
        if let Some(kept) = kept {
            self.lock().recall(kept);
        }
    }

    async fn make_frames(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.make_frame();
        }
    }

    /// Makes one row, and one event for every page.
    fn make_frame(&self) {
        let Watched { sale, invariants, refunds } = self.watch.watched();
        let settings = self.reporter.settings();
        let unanswered = self.reporter.unanswered_for();
        let cut_off = unanswered > CUT_OFF_AFTER;
        // Straight from this process: without the control plane its page still has its own numbers.
        if let Some(own) = self.reporter.latest() {
            self.receive(own);
        }
        let mut state = self.lock();
        if unanswered > UNSURE_AFTER {
            state.deaf_until = Some(Instant::now() + HEARD_AGAIN);
        }
        self.remove_gone(&mut state);
        let row = Row::of(seconds(), &state.processes.values(), sale.as_ref());
        let page_open = self.events.receiver_count() > 0;
        self.watch.update(page_open);
        for entry in state.news(settings.as_ref(), sale.as_ref(), invariants.as_ref()) {
            self.log(&mut state, entry);
        }
        state.rows.push(&row);
        if self.events.receiver_count() == 0 {
            return;
        }
        // The page shows an audit beside the sale that it is of, never beside the sale after it.
        let invariants = invariants.filter(|found| sale.as_ref().is_some_and(|sale| sale.id == found.sale));
        let processes: Vec<_> = state.processes.values().map(Process::view).collect();
        let rest = json!({
            "sale": sale,
            "invariants": invariants,
            "processes": processes,
            "settings": settings_view(&settings.unwrap_or_default()),
            "load": state.load,
            "totals": state.totals(),
            "after": AfterView::of(state.processes.values()),
            "refunds": refunds,
            "cut_off": cut_off,
        });
        let data = format!("{{\"row\":{},{}", row.json(), &rest.to_string()[1..]);
        self.send("frame", &state, data);
    }

    fn remove_gone(&self, state: &mut State) {
        if state.deaf_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        let gone: Vec<_> = state.processes.values().filter(|process| process.is_gone()).collect();
        let gone: Vec<_> = gone.iter().map(|process| process.last().process).collect();
        for id in gone {
            let Some(process) = state.processes.remove(&id) else { continue };
            let last = process.last();
            if state.departed.len() < MAX_PROCESSES {
                state.departed.insert(id, process.counts());
            }
            let vanished = NewEntry::warn(
                "process",
                "process_vanished",
                format!("{} has fallen silent; its numbers are gone", last.name),
                json!({"name": last.name, "roles": last.roles}),
            );
            self.log(state, vanished);
        }
    }

    /// Adds an entry to the log and sends it to the pages.
    fn log(&self, state: &mut State, new: NewEntry) {
        let next_row = state.rows.next();
        let entry = state.log.push(new, next_row);
        self.send("log", state, json!(entry).to_string());
    }

    fn send(&self, name: &'static str, state: &State, data: String) {
        // An error means that no page is open.
        let _ = self.events.send(Event { name, next_row: state.rows.next(), data: data.into() });
    }

    /// For a page that connects: the history, and a receiver of everything after it. The history has the rows from number
    /// `from` on, or all rows that are kept. `controls` says whether the page has any.
    pub(crate) fn join(&self, from: Option<u64>, controls: bool) -> (Event, broadcast::Receiver<Event>) {
        // Under one lock, so that no event falls between the history and the receiver.
        let state = self.lock();
        let receiver = self.events.subscribe();
        self.first_page.notify_one();
        let missed = from.and_then(|from| state.rows.since(from).map(|rows| (rows, from)));
        let complete = missed.is_none();
        let (rows, since) = missed.unwrap_or_else(|| (state.rows.all(), 0));
        let log: Vec<&Entry> = state.log.since(since);
        let head = json!({"columns": columns(), "complete": complete, "controls": controls, "log": log});
        let data = format!("{{\"rows\":{rows},{}", &head.to_string()[1..]);
        (Event { name: "history", next_row: state.rows.next(), data: data.into() }, receiver)
    }

    /// The workers that are alive, with their names.
    pub fn workers(&self) -> Vec<(ProcessId, String)> {
        let state = self.lock();
        let alive = state.processes.values().filter(|process| !process.is_silent());
        let working = alive.filter(|process| process.last().drain_rate.is_some());
        working.map(|process| (process.last().process, process.last().name.clone())).collect()
    }

    /// Ledger transactions of all workers, since each began.
    pub fn transactions(&self) -> u64 {
        self.lock().counts().0[Counts::TRANSACTIONS] as u64
    }

    /// The newest load run in any gateway, as its gateway reports it.
    pub fn load(&self) -> Option<Value> {
        self.lock().load.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Rows and entries are pushed whole: a panic leaves at worst a row out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counts(&self) -> Counts {
        let mut totals = Counts::default();
        self.departed.values().for_each(|counts| totals.add(counts));
        self.processes.values().for_each(|process| totals.add(&process.counts()));
        totals
    }

    fn totals(&self) -> Value {
        COUNTED
            .iter()
            .zip(self.counts().0)
            .map(|(name, count)| ((*name).to_owned(), json!(count as u64)))
            .collect()
    }

    /// The log's entries of this frame.
    fn news(
        &mut self,
        settings: Option<&Settings>,
        sale: Option<&SaleView>,
        invariants: Option<&Invariants>,
    ) -> Vec<NewEntry> {
        self.load = self.newest_load();
        let Self { processes, news, load, .. } = self;
        let name_of = |id| processes.get(&id).map(|process| process.last().name.clone()).unwrap_or_default();
        let mut entries = settings.map(|settings| news.of_settings(settings, name_of)).unwrap_or_default();
        entries.extend(sale.map(|sale| news.of_sale(sale)).unwrap_or_default());
        entries.extend(news.of_invariants(invariants));
        entries.extend(
            news.of_servers(processes.values().filter_map(|process| process.last().readiness.as_ref())),
        );
        entries.extend(news.of_parked(processes.values().map(Process::parked).sum()));
        entries.extend(load.as_ref().map(|load| news.of_load(load)).unwrap_or_default());
        entries
    }

    /// Takes in a load run that was kept.
    fn recall(&mut self, kept: Value) {
        if is_load(&kept) && self.load.as_ref().is_none_or(|load| gives_way(load, &kept)) {
            self.load = Some(ended_with_its_gateway(kept));
        }
    }

    /// The newest of all load runs that processes report. One that is newer and that no process reports any more stays.
    fn newest_load(&self) -> Option<Value> {
        let reported = self.processes.values().filter_map(|process| process.last().load.as_ref());
        let newest = reported.filter(|load| is_load(load)).max_by(|a, b| order(a, b));
        let before =
            self.load.as_ref().filter(|before| newest.is_none_or(|newest| gives_way(newest, before)));
        before.map(|before| ended_with_its_gateway(before.clone())).or_else(|| newest.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that reports `load`.
    fn report(state: &mut State, load: Value) {
        let snapshot = Snapshot {
            process: ProcessId::generate(),
            name: String::new(),
            roles: Vec::new(),
            uptime_ms: 0,
            series: BTreeMap::new(),
            histograms: BTreeMap::new(),
            drain_rate: None,
            drain_told: None,
            settings_revision: 0,
            faults: Vec::new(),
            load: Some(load),
            readiness: None,
        };
        state.processes.insert(snapshot.process, Process::new(snapshot));
    }

    fn shown(state: &mut State) -> Option<Value> {
        state.load = state.newest_load();
        state.load.as_ref().map(|load| load["id"].clone())
    }

    #[test]
    fn what_is_no_load_run_is_ignored() {
        let mut state = State::default();
        for other in [json!([1]), json!("run"), json!(7), Value::Null] {
            state.recall(other.clone());
            report(&mut state, other);
            assert_eq!(shown(&mut state), None);
        }
        // Nor is it shown once its process is gone.
        state.processes.clear();
        assert_eq!(shown(&mut state), None);
        state.recall(json!({"id": "1", "started_at": 1.0}));
        assert_eq!(shown(&mut state), Some(json!("1")));
    }

    #[test]
    fn a_run_under_way_is_shown_though_a_clock_was_ahead() {
        let mut state = State::default();
        state.recall(json!({"id": "ahead", "started_at": 9e9, "ended_at": 9e9}));
        assert_eq!(shown(&mut state), Some(json!("ahead")));
        report(&mut state, json!({"id": "ended", "started_at": 5.0, "ended_at": 6.0}));
        assert_eq!(shown(&mut state), Some(json!("ahead")), "the later one of two that have ended");
        report(&mut state, json!({"id": "running", "started_at": 4.0, "ended_at": null}));
        assert_eq!(shown(&mut state), Some(json!("running")));
        state.recall(json!({"id": "ahead", "started_at": 9e9, "ended_at": 9e9}));
        assert_eq!(shown(&mut state), Some(json!("running")));
    }
}
