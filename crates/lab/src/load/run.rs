//! One run from its request to its verdict: its steps, and the ways in which it can end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use loadtest::{
    CancellationToken, Clients, Report, SaleReport, Session, Shop, Step, Target, Tokens, Verdict, Watched,
};
use secrecy::ExposeSecret;
use tokio::time::timeout;
use uuid::Uuid;

use super::request::{MAX_CONNECTIONS, MAX_SECONDS, PlannedRun};
use super::status::{commits, errors, unix_seconds};
use super::{Failure, LoadConfig, LoadMode, LoadState, LoadStatus, LoadVerdict};

/// How long a run's sale stays open after the last request: longer than any drain.
const SPARE: Duration = Duration::from_secs(24 * 3_600);
/// How much longer than the longest schedule the sending may take, if a slow gateway holds requests up.
const LATE: Duration = Duration::from_secs(30);
/// A run opens at most one in so many of the files that this process may open: both ends of its connections may be here.
const SHARE_OF_FILES: u64 = 4;

pub(super) struct Run {
    id: String,
    planned: PlannedRun,
    target: String,
    /// What does the same in a terminal.
    command: String,
    drain_stall: Duration,
    watched: Watched,
    stop: CancellationToken,
    /// Held only to read and change; never across an await.
    phase: Mutex<Phase>,
}

#[derive(Debug, Clone)]
struct Phase {
    started_at: SystemTime,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Starting,
    Playing,
    Ended { when: SystemTime, end: End },
}

#[derive(Debug, Clone)]
enum End {
    Done { verdict: LoadVerdict, broken: Option<String> },
    Failed(Failure),
    Stopped,
}

impl Run {
    pub(super) fn new(planned: PlannedRun, target: String, command: String, drain_stall: Duration) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            planned,
            target,
            command,
            drain_stall,
            watched: Watched::default(),
            stop: CancellationToken::new(),
            phase: Mutex::new(Phase { started_at: SystemTime::now(), at: At::Starting }),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Records that its task was aborted.
    pub(super) fn stopped(&self) {
        self.end(End::Stopped);
    }

    pub(super) fn fail(&self, why: Failure) {
        self.end(End::Failed(why));
    }

    pub(super) fn status(&self) -> LoadStatus {
        let Phase { started_at, at } = self.phase().clone();
        let counts = self.watched.progress.counts();
        let (state, ended_at, verdict, message, failure) = match at {
            At::Starting => (LoadState::Starting, None, None, None, None),
            At::Playing => (playing(self.watched.step()), None, None, None, None),
            At::Ended { when, end } => {
                let (state, verdict, message, failure) = match end {
                    End::Done { verdict, broken } => (LoadState::Done, Some(verdict), broken, None),
                    End::Failed(why) => (LoadState::Failed, None, Some(why.message.clone()), Some(why)),
                    End::Stopped => (LoadState::Stopped, None, None, None),
                };
                (state, Some(unix_seconds(when)), verdict, message, failure)
            }
        };
        let PlannedRun { preset, mode, peak_rate, plan, stock, .. } = &self.planned;
        LoadStatus {
            id: self.id.clone(),
            state,
            mode: *mode,
            preset: preset.clone(),
            peak_rate: *peak_rate,
            buyers: plan.comers(),
            stock: *stock,
            duplicate_share: plan.retry_ratio,
            sent: counts.sent,
            planned: plan.total().unwrap_or(counts.planned),
            accepted: counts.accepted,
            sold_out: counts.sold_out,
            errors: errors(&counts),
            committed: self.watched.samples.last().map_or(0, |sample| sample.committed),
            started_at: unix_seconds(started_at),
            ended_at,
            verdict,
            message,
            failure,
            command: self.command.clone(),
        }
    }

    /// Plays it to its end; returns the report, if it got so far.
    pub(super) async fn play(self: Arc<Self>, config: LoadConfig) -> Option<Report> {
        let prepared = self.stop.run_until_cancelled(self.prepare(&config)).await;
        let (end, report) = match prepared {
            None => (End::Stopped, None),
            Some(Err(error)) => (End::Failed(Failure::refused(sentence(&error))), None),
            Some(Ok(session)) => {
                let started_at = SystemTime::now();
                *self.phase() = Phase { started_at, at: At::Playing };
                let before = config.transactions.as_ref().map(|count| count());
                match self.send(session).await {
                    Ok(report) => {
                        let after = config.transactions.as_ref().map(|count| count());
                        let counted = after.zip(before).map(|(after, before)| after.saturating_sub(before));
                        (self.conclude(&report, started_at, counted), Some(report))
                    }
                    Err(end) => (end, None),
                }
            }
        };
        self.end(end);
        report
    }

    /// Makes the buyers' tokens, connects, opens the sale. A failure leaves at the most a sale without orders.
    async fn prepare(&self, config: &LoadConfig) -> Result<Session, loadtest::Error> {
        let PlannedRun { scenario, plan, stock, preset, .. } = &self.planned;
        let admin = loadtest::bearer(config.admin_token.expose_secret())?;
        let (sign, signed) = (Arc::clone(&config.sign), plan.clone());
        // Signing keeps a thread busy for long, and the threads of this runtime answer buyers.
        let signing = tokio::task::spawn_blocking(move || Tokens::sign(&signed, |user| sign(user)));
        let tokens = signing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        let clients = connect(&self.target, &self.planned).await?;
        let mut shop = Shop::new(&clients);
        let view = shop.create(&admin, *stock, 1, plan.lasts() + SPARE).await?;
        view.check_open()?;
        shop.check_buyers(&tokens, view.id).await?;
        let sale = SaleReport { id: view.id, stock: Some(view.stock), created: true };
        Ok(Session {
            target: self.target.clone(),
            scenario: scenario.clone(),
            name: Some(preset.clone()),
            admin: Some(admin),
            drain_stall: self.drain_stall,
            stop: self.stop.clone(),
            watched: self.watched.clone(),
            say: Box::new(|text| tracing::warn!(text, "a load run met an obstacle and goes on")),
            ..Session::new(plan.clone(), clients, tokens, sale)
        })
    }

    /// Sends the requests, waits for the drain, looks the orders up. Sending that takes too long is cut off.
    async fn send(&self, mut session: Session) -> Result<Report, End> {
        let at_most = Duration::from_secs(MAX_SECONDS) + LATE;
        let mut steps = self.watched.steps();
        let sent = steps.wait_for(|step| *step != Step::Sending);
        // The token of the session, not that of the run: a run that is cut off has failed, and was not stopped.
        let cut = CancellationToken::new();
        session.stop = self.stop.child_token();
        let stop = session.stop.clone();
        let cut_off = async {
            if timeout(at_most, sent).await.is_err() {
                cut.cancel();
                stop.cancel();
            }
            std::future::pending::<()>().await;
        };
        let report = tokio::select! {
            report = session.play() => report.map_err(|error| End::Failed(Failure::refused(sentence(&error))))?,
            () = cut_off => unreachable!("it waits for ever"),
        };
        if cut.is_cancelled() {
            return Err(End::Failed(Failure::too_long(at_most.as_secs())));
        }
        if self.stop.is_cancelled() { Err(End::Stopped) } else { Ok(report) }
    }

    /// `counted` are the transactions of the workers while it lasted. In direct mode each order has one of its own.
    fn conclude(&self, report: &Report, started_at: SystemTime, counted: Option<u64>) -> End {
        let Some(checked) = &report.verification else { return End::Failed(Failure::not_looked_up()) };
        if checked.in_flight > 0 && !checked.rebuilding && report.verdict == Verdict::Unclear {
            return End::Failed(Failure::workers_silent(checked.in_flight, self.drain_stall.as_secs()));
        }
        if report.verdict == Verdict::Unclear {
            return End::Failed(Failure::unclear(unclear(report)));
        }
        let commits = commits(&self.watched.samples, started_at, report.series.len());
        let transactions = match self.planned.mode {
            LoadMode::Queue => counted,
            LoadMode::Direct => Some(checked.committed + checked.unknown.committed),
        };
        let verdict = LoadVerdict::of(report, checked, &commits, transactions);
        let broken = (!verdict.pass).then(|| report.reasons.join("; "));
        End::Done { verdict, broken }
    }

    fn end(&self, end: End) {
        let mut phase = self.phase();
        if !matches!(phase.at, At::Ended { .. }) {
            phase.at = At::Ended { when: SystemTime::now(), end };
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn playing(step: Step) -> LoadState {
    match step {
        Step::Sending => LoadState::Sending,
        Step::Settling | Step::Draining => LoadState::Draining,
        Step::Verifying { .. } => LoadState::Verifying,
    }
}

async fn connect(target: &str, planned: &PlannedRun) -> Result<Clients, loadtest::Error> {
    let target = Target::parse(target)?;
    let room = loadtest::open_files().map_or(u64::MAX, |files| files / SHARE_OF_FILES);
    let most = room.clamp(1, u64::from(MAX_CONNECTIONS)) as usize;
    let first = usize::from(planned.scenario.connections()).min(most);
    let clients = Clients::connect_with(target, first, planned.scenario.timeout()).await?;
    Ok(clients.growing_to(most))
}

/// Why the result is not known, with the first connection error.
fn unclear(report: &Report) -> String {
    let mut why = report.reasons.join("; ");
    if let Some(error) = &report.connection_error {
        why.push_str(&format!("; the first connection that broke: {error}"));
    }
    why
}

/// The error without the hints for users of the command line.
fn sentence(error: &loadtest::Error) -> String {
    match error {
        loadtest::Error::Connect { target, reason } => format!("cannot connect to {target}: {reason}"),
        error => error.to_string(),
    }
}
