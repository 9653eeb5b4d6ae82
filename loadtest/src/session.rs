//! A run from its first request to its verdict: sending, waiting for the drain, looking up every order, the audit, the
//! report. [`Watched`] has its progress. Nothing is printed here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use hyper::header::HeaderValue;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::check::bank::{Bank, Charges};
use crate::check::bulk::{self, Recorded};
use crate::check::effects::{self, EffectCheck};
use crate::check::samples::{Drain, Samples};
use crate::check::shop::{Audit, AuditState, SaleView, Shop};
use crate::check::verify::{Check, Followed, VerifySettings, ask_for_open, follow};
use crate::error::Error;
use crate::plan::lifecycle::LifecyclePlan;
use crate::plan::scenario::Scenario;
use crate::plan::schedule::Plan;
use crate::plan::tokens::Tokens;
use crate::report::lifecycle::LifecycleAftermath;
use crate::report::measured::Header;
use crate::report::schema::{LifecycleReport, PlanReport, Report, SaleReport, VerificationReport};
use crate::report::series::Bucket;
use crate::report::verification::Aftermath;
use crate::send::client::Clients;
use crate::send::lifecycle::{Asking, LifeJob, LifeProgress, Lives, connections, follow_orders};
use crate::send::progress::Progress;
use crate::send::run::{Job, Order, Promise, run};

/// While the audit has orders in flight it is read again, for so long: the server may answer with an audit a second old.
const AUDIT_WITHIN: Duration = Duration::from_secs(5);
/// How old an answer with an audit may be.
const AUDIT_AGE: Duration = Duration::from_millis(1_500);
/// The wait for orders to end lasts so many times as long as that for a drain: a bank that fails is asked again after a minute.
const LIFE_STALLS: u32 = 3;
/// How long a drain may stand still, unless the caller sets another time.
const DRAIN_STALL: Duration = Duration::from_secs(30);
/// How long one request may take, unless the scenario sets another time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A run with everything that it needs.
pub struct Session {
    /// The base address, as the report shows it.
    pub target: String,
    /// The scenario that the plan was made from.
    pub scenario: Scenario,
    /// The scenario's name; `None`: it has none.
    pub name: Option<String>,
    /// The requests and their times.
    pub plan: Plan,
    /// The admin token, as [`bearer`](crate::check::shop::bearer) makes it: all orders are looked up in one list. `None`: they are
    /// looked up one by one.
    pub admin: Option<HeaderValue>,
    /// One token for each buyer.
    pub tokens: Tokens,
    pub clients: Clients,
    /// The sale that the buyers order from.
    pub sale: SaleReport,
    /// What the buyers do after the order; `None`: nothing. The sale has to have payments.
    pub lifecycle: Option<LifecyclePlan>,
    /// The bank that charges for the sale's orders; its charges are compared with them. `None`: they are not.
    pub bank: Option<Bank>,
    /// Whether to wait for the drain and look up the orders.
    pub verify: bool,
    /// The wait for the drain, and then for single orders, ends when nothing has been committed for so long.
    pub drain_stall: Duration,
    /// Ends the run early. Requests under way are waited for, and the report has what was measured until then.
    pub stop: CancellationToken,
    /// The progress of the run.
    pub watched: Watched,
    /// Called with a sentence when a step failed and the run goes on in another way.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

/// A session that has ended: the report, and what a report has no room for.
#[derive(Debug, Clone)]
pub struct Played {
    pub report: Report,
    /// When the schedule began, by this machine's clock.
    pub started_at: SystemTime,
    /// The requests in steps of 100 ms, from the start to the last answer.
    pub series: Vec<Bucket>,
    /// The sale, from the start to the verdict.
    pub samples: Samples,
    /// The sale's audit after the look-up; `None`: the server has none or did not answer, or nothing was verified.
    pub audit: Option<Audit>,
    /// Promised orders without a final row.
    pub unrecorded: Vec<Check>,
}

impl Played {
    /// Accepted orders a second in the busiest second.
    pub fn accepted_rate_peak(&self) -> f64 {
        Bucket::accepted_rate_peak(&self.series)
    }

    /// Commits a second in the busiest second.
    pub fn commit_rate_peak(&self) -> f64 {
        self.samples.commit_rate_peak(self.started_at)
    }

    /// Commits a second from the first commit to the last.
    pub fn commit_rate_mean(&self) -> f64 {
        self.samples.commit_rate_mean(self.started_at)
    }

    /// Seconds from the start to the last commit.
    pub fn commit_seconds(&self) -> f64 {
        self.samples.commit_seconds(self.started_at)
    }
}

/// The progress of a session. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Watched {
    pub progress: Arc<Progress>,
    /// The sale over time.
    pub samples: Samples,
    /// Orders looked up so far.
    pub looked_up: Arc<AtomicU64>,
    /// Orders that have ended so far, where the buyers go on after the order.
    pub lives: Arc<LifeProgress>,
    step: Arc<watch::Sender<Step>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// Requests leave on schedule.
    #[default]
    Sending,
    /// Every request was answered. Buyers pay, cancel, and wait until their orders have ended.
    Settling,
    /// Every request was answered. Accepted orders are on their way to the ledger.
    Draining,
    /// Orders are looked up.
    Verifying { orders: usize },
}

impl Default for Watched {
    fn default() -> Self {
        let step = Arc::new(watch::Sender::new(Step::default()));
        Self {
            progress: Arc::default(),
            samples: Samples::default(),
            looked_up: Arc::default(),
            lives: Arc::default(),
            step,
        }
    }
}

impl Watched {
    /// The sale is read once per `every`, 10 ms or more, instead of four times a second.
    pub fn sampling_every(every: Duration) -> Self {
        Self { samples: Samples::every(every), ..Self::default() }
    }

    /// The current step, and every change of it.
    pub fn steps(&self) -> watch::Receiver<Step> {
        self.step.subscribe()
    }

    pub fn step(&self) -> Step {
        *self.step.borrow()
    }
}

impl Session {
    /// A session that verifies its orders one by one, waits 30 s for a drain that stands still, has no name and no thresholds,
    /// and drops its warnings. Set the fields that should be otherwise.
    pub fn new(plan: Plan, clients: Clients, tokens: Tokens, sale: SaleReport) -> Self {
        Self {
            target: clients.target().to_string(),
            scenario: Scenario::default(),
            name: None,
            plan,
            admin: None,
            tokens,
            clients,
            sale,
            lifecycle: None,
            bank: None,
            verify: true,
            drain_stall: DRAIN_STALL,
            stop: CancellationToken::new(),
            watched: Watched::default(),
            say: Box::new(|_| {}),
        }
    }

    /// Plays it to its end.
    ///
    /// # Errors
    /// Nothing was sent: the plan cannot be carried out, or there are too few tokens.
    pub async fn play(&mut self) -> Result<Report, Error> {
        Ok(self.play_in_detail().await?.report)
    }

    /// Plays it to its end, and keeps what the report has no room for.
    ///
    /// # Errors
    /// The same as those of [`Self::play`].
    // Boxed, so that it is compiled with this crate and not again with each one that waits for it.
    pub fn play_in_detail(&mut self) -> BoxFuture<'_, Result<Played, Error>> {
        Box::pin(self.play_steps())
    }

    async fn play_steps(&mut self) -> Result<Played, Error> {
        let samples = self.watched.samples.clone();
        let watching = CancellationToken::new();
        let _ends_with_the_session = watching.clone().drop_guard();
        tokio::spawn(samples.clone().watch(Shop::new(&self.clients), self.sale.id, watching.clone()));
        let (promises, living) = self.live();
        let Sent { mut report, orders, series, started_at } = self.send(promises).await?;
        let ended_at = started_at + Duration::from_secs_f64(report.duration_seconds);
        let lives = match living {
            Some(living) => {
                self.watched.step.send_replace(Step::Settling);
                Some(living.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
            }
            None => None,
        };
        report.lifecycle = self.lifecycle_report(lives.as_ref(), None);
        let (mut audit, mut unrecorded) = (None, Vec::new());
        if self.verify
            && !self.stop.is_cancelled()
            && let Some(checked) = self.check(&orders, lives.as_ref(), started_at, ended_at).await
        {
            report.verification = Some(checked.report);
            report.lifecycle = checked.lifecycle;
            (audit, unrecorded) = (checked.audit, checked.unrecorded);
        }
        report.place(&samples.all(), started_at);
        report.set_verdict(&self.scenario.thresholds, self.stop.is_cancelled());
        Ok(Played { report, started_at, series, samples, audit, unrecorded })
    }

    /// Starts to follow the orders that are promised, where the buyers go on after the order.
    fn live(&self) -> (Option<UnboundedSender<Promise>>, Option<JoinHandle<Lives>>) {
        let Some(plan) = self.lifecycle else { return (None, None) };
        let (sender, promises) = unbounded_channel();
        let job = LifeJob {
            plan,
            tokens: self.tokens.clone(),
            stall: self.drain_stall * LIFE_STALLS + plan.window,
            progress: self.watched.lives.clone(),
        };
        let asking = Asking::new(&self.clients, job);
        let following = follow_orders(connections(&self.clients), asking, promises, self.stop.clone());
        (Some(sender), Some(tokio::spawn(following)))
    }

    fn lifecycle_report(
        &self,
        lives: Option<&Lives>,
        aftermath: Option<&LifecycleAftermath<'_>>,
    ) -> Option<LifecycleReport> {
        self.lifecycle.as_ref().zip(lives).map(|(plan, lives)| LifecycleReport::of(plan, lives, aftermath))
    }

    /// Sends all requests. The records are dropped here, because a million of them would fill the memory.
    async fn send(&mut self, promises: Option<UnboundedSender<Promise>>) -> Result<Sent, Error> {
        let quantity = self.scenario.quantity.unwrap_or(1);
        let job =
            Job { quantity, promises, ..Job::new(self.plan.clone(), self.sale.id, self.tokens.clone()) };
        let header = self.header(quantity);
        let run = run(&mut self.clients, &job, &self.watched.progress, &self.stop).await?;
        let (report, series) = (Report::of(&run, header), run.series());
        Ok(Sent { report, orders: run.orders(), series, started_at: run.started_at })
    }

    fn header(&self, quantity: u32) -> Header {
        let plan = PlanReport {
            scenario: self.name.clone(),
            quantity,
            connections: self.scenario.connections().into(),
            max_connections: self.clients.most() as u64,
            warmup_seconds: self.scenario.warmup.unwrap_or_default().as_secs_f64(),
            timeout_seconds: self.scenario.timeout().as_secs_f64(),
            ..PlanReport::of(&self.plan)
        };
        Header { target: self.target.clone(), sale: self.sale.clone(), plan }
    }

    /// Waits for the drain and looks up every order. `None`: it was interrupted before the first look-up.
    async fn check(
        &mut self,
        orders: &[Order],
        lives: Option<&Lives>,
        started_at: SystemTime,
        run_ended_at: SystemTime,
    ) -> Option<Checked> {
        self.watched.step.send_replace(Step::Draining);
        let samples = self.watched.samples.clone();
        let promised = orders.iter().filter(|order| order.promised).count() as u64;
        let drain = samples.drained(promised, self.drain_stall, &self.stop).await;
        match drain {
            Drain::Cancelled => return None,
            Drain::Stalled => (self.say)("the drain has stalled; looking up every order all the same"),
            Drain::Done => {}
        }
        let drained_at = samples.drained_at().filter(|_| drain == Drain::Done);
        self.watched.step.send_replace(Step::Verifying { orders: orders.len() });
        let settings = VerifySettings {
            within: self.drain_stall,
            started_at: Some(started_at),
            looked_up: self.watched.looked_up.clone(),
            ..VerifySettings::default()
        };
        let (mut followed, recorded, cancelled) = self.look_up(orders, &settings).await;
        let audit = self.audit().await;
        if followed.has_unrecorded() {
            // The audit is newer than the look-up. Rows that arrived between the two must not count as missing.
            let deadline = Instant::now() + settings.within;
            let Self { clients, tokens, stop, .. } = &mut *self;
            ask_for_open(clients, &mut followed, tokens, &settings, deadline, stop).await;
        }
        let sale = Shop::new(&self.clients).sale(self.sale.id).await.ok().flatten();
        let checked = followed.finish(cancelled);
        let aftermath = Aftermath {
            stock: self.sale.stock,
            quantity: self.scenario.quantity.unwrap_or(1),
            recorded,
            audit: audit.as_ref(),
            has_gate: sale.as_ref().is_none_or(SaleView::has_gate),
            rebuilding: sale.as_ref().is_some_and(SaleView::is_rebuilding),
            run_ended_at,
            drained_at,
        };
        let report = VerificationReport::of(&checked, &aftermath);
        let bank = self.charges(lives).await;
        let effects = self.effects().await;
        let after = LifecycleAftermath {
            checks: &checked.checks,
            audit: audit.as_ref(),
            has_gate: aftermath.has_gate,
            created: self.sale.created,
            bank: bank.as_ref(),
            effects: effects.as_ref(),
        };
        let lifecycle = self.lifecycle_report(lives, Some(&after).filter(|_| !checked.cancelled));
        let unrecorded = checked.checks.into_iter().filter(Check::is_lost).collect();
        Some(Checked { report, lifecycle, audit, unrecorded })
    }

    /// With the admin token the orders are looked up in the list of all recorded orders. Orders that are not in it, or all of
    /// them where the list cannot be read, are looked up one by one. Also returns whether it was cancelled.
    async fn look_up(
        &mut self,
        orders: &[Order],
        settings: &VerifySettings,
    ) -> (Followed, Option<Recorded>, bool) {
        let Self { clients, tokens, stop, admin, sale, say, .. } = self;
        if let Some(admin) = admin {
            match bulk::look_up(clients, sale.id, admin, orders, settings, stop).await {
                Ok(Some((mut followed, recorded))) => {
                    let cancelled = follow(clients, &mut followed, tokens, settings, stop).await;
                    return (followed, Some(recorded), cancelled);
                }
                Ok(None) => {
                    return (Followed::new(orders, settings.started_at), Some(Recorded::default()), true);
                }
                Err(error) => say(&format!("{error}; asking for every order by itself")),
            }
        }
        // Looking up one by one takes a time for each order: 1 ms, which is slow for a server that could accept them.
        let within = settings.within + Duration::from_millis(orders.len() as u64);
        let settings = VerifySettings { within, ..settings.clone() };
        let mut followed = Followed::new(orders, settings.started_at);
        let cancelled = follow(clients, &mut followed, tokens, &settings, stop).await;
        (followed, None, cancelled)
    }

    /// The bank's charges for the orders, or why they could not be read; `None`: no bank was named.
    async fn charges(&self, lives: Option<&Lives>) -> Option<Result<Charges, String>> {
        let (bank, lives) = self.bank.as_ref().zip(lives)?;
        let charges = bank.charges(lives.lives.iter().map(|life| life.order.order_id)).await;
        Some(charges.map_err(|error| error.to_string()))
    }

    /// The effects of the refund events, or why they could not be read; `None`: nobody goes on after the order, or there is no admin token.
    async fn effects(&self) -> Option<Result<Option<Vec<EffectCheck>>, String>> {
        let (admin, _) = self.admin.as_ref().zip(self.lifecycle.as_ref())?;
        let mut shop = Shop::new(&self.clients);
        let read = effects::settled(&mut shop, self.sale.id, admin, self.drain_stall, &self.stop).await;
        Some(read.map_err(|error| error.to_string()))
    }

    /// The sale's audit. `None`: the server has none, or did not answer.
    async fn audit(&self) -> Option<Audit> {
        let mut shop = Shop::new(&self.clients);
        let began = Instant::now();
        let within = if self.lifecycle.is_some() { self.drain_stall.max(AUDIT_WITHIN) } else { AUDIT_WITHIN };
        if self.lifecycle.is_some() {
            // The last order has ended just now, and its money must be in the audit.
            self.stop.run_until_cancelled(tokio::time::sleep(AUDIT_AGE)).await;
        }
        loop {
            let audit = match shop.audit(self.sale.id).await {
                Ok(audit) => audit?,
                Err(error) => {
                    (self.say)(&error.to_string());
                    return None;
                }
            };
            let settled = !matches!(audit.state(), AuditState::InFlight | AuditState::Rebuilding);
            if settled || began.elapsed() > within || self.stop.is_cancelled() {
                return Some(audit);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What is kept of the sending.
struct Sent {
    report: Report,
    orders: Vec<Order>,
    series: Vec<Bucket>,
    started_at: SystemTime,
}

/// What the look-up and the audit found.
struct Checked {
    report: VerificationReport,
    lifecycle: Option<LifecycleReport>,
    audit: Option<Audit>,
    unrecorded: Vec<Check>,
}

impl Scenario {
    /// How long one request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }
}
