//! A run from its first request to its verdict: sending, waiting for the drain, looking every order up, the audit, the
//! report. Whoever wants to see how far it is looks at [`Watched`]; nothing is shown here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Aftermath, Audit, Clients, Drain, Error, Header, Job, Order, Plan, PlanReport, Progress, Recorded,
    Report, SaleReport, Samples, Scenario, Shop, Tokens, Verification, VerificationReport, VerifySettings,
    verify, verify_in_bulk,
};

/// The sale's audit is asked again for so long while orders are in flight: it may be a second old.
const AUDIT_WITHIN: Duration = Duration::from_secs(5);
/// How long one request may take, unless the scenario says something else.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A run with everything that it needs.
pub struct Session {
    /// The base address, for the report.
    pub target: String,
    /// What the plan was made of.
    pub scenario: Scenario,
    /// The scenario's name; `None`: it has none.
    pub name: Option<String>,
    /// Who comes when.
    pub plan: Plan,
    /// Looks all orders up at once, as [`bearer`](crate::bearer) makes it; `None`: they are looked up one by one.
    pub admin: Option<HeaderValue>,
    /// One a buyer.
    pub tokens: Tokens,
    /// The connections.
    pub clients: Clients,
    /// What is bought from.
    pub sale: SaleReport,
    /// Whether to wait for the drain and look the orders up.
    pub verify: bool,
    /// What is left is taken for lost when nothing has been committed for so long.
    pub drain_stall: Duration,
    /// Ends what is under way in order; what there is, is reported.
    pub stop: CancellationToken,
    /// How far it is.
    pub watched: Watched,
    /// Hears, in sentences, of what did not go as it should and changes how the run goes on.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

/// How far a session is. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The requests.
    pub progress: Arc<Progress>,
    /// The sale, four times a second.
    pub samples: Samples,
    /// Orders looked up.
    pub looked_up: Arc<AtomicU64>,
    step: Arc<watch::Sender<Step>>,
}

/// What a session is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// Requests leave on schedule.
    #[default]
    Sending,
    /// Everything is answered; accepted orders are on their way into the ledger.
    Draining,
    /// Orders are looked up.
    Verifying {
        /// How many.
        orders: usize,
    },
}

impl Default for Watched {
    fn default() -> Self {
        let step = Arc::new(watch::Sender::new(Step::default()));
        Self { progress: Arc::default(), samples: Samples::default(), looked_up: Arc::default(), step }
    }
}

impl Watched {
    /// The step, and every change of it.
    pub fn steps(&self) -> watch::Receiver<Step> {
        self.step.subscribe()
    }

    /// The step.
    pub fn step(&self) -> Step {
        *self.step.borrow()
    }
}

impl Session {
    /// Plays it to its end.
    ///
    /// # Errors
    /// Nothing was sent: the plan cannot be carried out, or there are too few tokens.
    pub async fn play(&mut self) -> Result<Report, Error> {
        let samples = self.watched.samples.clone();
        let watching = CancellationToken::new();
        let _ends_with_the_session = watching.clone().drop_guard();
        tokio::spawn(samples.clone().watch(Shop::new(&self.clients), self.sale.id, watching.clone()));
        let (mut report, orders, started_at) = self.send().await?;
        let ended_at = started_at + Duration::from_secs_f64(report.duration_seconds);
        if self.verify && !self.stop.is_cancelled() {
            report.verification = self.check(&orders, started_at, ended_at).await;
        }
        report.place(&samples.all(), started_at);
        report.judge(&self.scenario.thresholds, self.stop.is_cancelled());
        Ok(report)
    }

    /// Sends everything. The records end here: beside a million orders there is no room for them.
    async fn send(&mut self) -> Result<(Report, Vec<Order>, SystemTime), Error> {
        let quantity = self.scenario.quantity.unwrap_or(1);
        let job = Job { quantity, ..Job::new(self.plan.clone(), self.sale.id, self.tokens.clone()) };
        let header = self.header(quantity);
        let run = crate::run(&mut self.clients, &job, &self.watched.progress, &self.stop).await?;
        Ok((Report::of(&run, header), run.orders(), run.started_at))
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

    /// Waits for the drain and looks every order up. `None`: it was interrupted before anything was looked up.
    async fn check(
        &mut self,
        orders: &[Order],
        started_at: SystemTime,
        run_ended_at: SystemTime,
    ) -> Option<VerificationReport> {
        self.watched.step.send_replace(Step::Draining);
        let samples = self.watched.samples.clone();
        let promised = orders.iter().filter(|order| order.promised).count() as u64;
        let drain = samples.drained(promised, self.drain_stall, &self.stop).await;
        match drain {
            Drain::Cancelled => return None,
            Drain::Stalled => (self.say)("the drain has stalled; looking every order up all the same"),
            Drain::Done => {}
        }
        let drained_at = samples.drained_at().filter(|_| drain == Drain::Done);
        self.watched.step.send_replace(Step::Verifying { orders: orders.len() });
        let (checked, recorded) = self.look_up(orders, started_at).await;
        let audit = self.audit().await;
        let aftermath = Aftermath {
            stock: self.sale.stock,
            quantity: self.scenario.quantity.unwrap_or(1),
            recorded,
            audit: audit.as_ref(),
            run_ended_at,
            drained_at,
        };
        Some(VerificationReport::of(&checked, &aftermath))
    }

    /// At once where the admin token is there, otherwise, or where that fails, one by one.
    async fn look_up(
        &mut self,
        orders: &[Order],
        started_at: SystemTime,
    ) -> (Verification, Option<Recorded>) {
        let settings = VerifySettings {
            within: self.drain_stall,
            started_at: Some(started_at),
            looked_up: self.watched.looked_up.clone(),
            ..VerifySettings::default()
        };
        let Self { clients, tokens, stop, admin, sale, say, .. } = self;
        if let Some(admin) = admin {
            match verify_in_bulk(clients, sale.id, admin, orders, tokens, &settings, stop).await {
                Ok((checked, recorded)) => return (checked, Some(recorded)),
                Err(error) => say(&format!("{error}; asking for every order by itself")),
            }
        }
        (verify_each(clients, orders, tokens, settings, stop).await, None)
    }

    /// `None` where the server has no audit, or does not answer.
    async fn audit(&self) -> Option<Audit> {
        let mut shop = Shop::new(&self.clients);
        let began = tokio::time::Instant::now();
        loop {
            let audit = match shop.audit(self.sale.id).await {
                Ok(audit) => audit?,
                Err(error) => {
                    (self.say)(&error.to_string());
                    return None;
                }
            };
            if audit.verdict != "in_flight" || began.elapsed() > AUDIT_WITHIN || self.stop.is_cancelled() {
                return Some(audit);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Scenario {
    /// How long one request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }
}

/// One by one takes as long as there are orders; only orders without an end are given up after a time.
async fn verify_each(
    clients: &mut Clients,
    orders: &[Order],
    tokens: &Tokens,
    settings: VerifySettings,
    stop: &CancellationToken,
) -> Verification {
    // A thousand look-ups a second is slow for any server that could have taken the orders.
    let all = Duration::from_millis(orders.len() as u64);
    let settings = VerifySettings { within: settings.within + all, ..settings };
    verify(clients, orders, tokens, &settings, stop).await
}
