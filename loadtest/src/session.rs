//! One command from beginning to end: the steps of a run, and the comparison of two. What each step does is elsewhere.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use loadtest::{
    Aftermath, Audit, CancellationToken, Clients, Drain, Header, Job, Order, Plan, PlanReport, Progress,
    Recorded, Report, SCHEMA_VERSION, SaleReport, Samples, Scenario, Shop, Tokens, Verification,
    VerificationReport, VerifySettings,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Failure, RunOptions};
use crate::inputs;
use crate::live::{self, View};

/// The sale's audit is asked again for so long while orders are in flight: it may be a second old.
const AUDIT_WITHIN: Duration = Duration::from_secs(5);

/// `loadtest run`: the report goes to stdout and to files, everything else to stderr.
pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    let (scenario, name) = inputs::scenario(&options)?;
    let plan = scenario.plan()?;
    let admin = options.admin_token.as_deref().map(loadtest::bearer).transpose()?;
    for (file, flag) in [(&options.json, "--json"), (&options.html, "--html")] {
        if let Some(file) = file.as_deref().filter(|file| *file != Path::new("-")) {
            inputs::check_writable(file, flag)?;
        }
    }
    loadtest::Target::parse(&options.target)?;
    let view = View::of(options.quiet);
    view.say(&format!("making {} tokens ready", plan.buyers()));
    let tokens = inputs::tokens(&options, &plan)?;
    let clients = inputs::connect(&options, &scenario).await?;
    let sale =
        inputs::sale(&options, &scenario, &plan, &tokens, admin.as_ref(), &mut Shop::new(&clients)).await?;
    let stop = stop_on_signal()?;
    let mut session = Session { options, scenario, name, plan, admin, view, tokens, clients, sale, stop };
    let report = session.play().await?;
    session.write(&report)?;
    Ok(ExitCode::from(report.verdict.exit_code()))
}

/// A run with everything that it needs.
struct Session {
    options: RunOptions,
    scenario: Scenario,
    name: Option<String>,
    plan: Plan,
    admin: Option<HeaderValue>,
    view: View,
    tokens: Tokens,
    clients: Clients,
    sale: SaleReport,
    /// The first Ctrl-C: what is under way is ended in order, and what there is, is reported.
    stop: CancellationToken,
}

impl Session {
    async fn play(&mut self) -> Result<Report, Failure> {
        let samples = Samples::default();
        let watching = CancellationToken::new();
        let _ends_with_the_session = watching.clone().drop_guard();
        tokio::spawn(samples.clone().watch(Shop::new(&self.clients), self.sale.id, watching.clone()));
        let (mut report, orders, started_at) = self.send(&samples).await?;
        let ended_at = started_at + Duration::from_secs_f64(report.duration_seconds);
        if !self.options.no_verify && !self.stop.is_cancelled() {
            report.verification = self.check(&orders, &samples, started_at, ended_at).await;
        }
        report.place(&samples.all(), started_at);
        report.judge(&self.scenario.thresholds, self.stop.is_cancelled());
        Ok(report)
    }

    /// Sends everything. The records end here: beside a million orders there is no room for them.
    async fn send(&mut self, samples: &Samples) -> Result<(Report, Vec<Order>, SystemTime), Failure> {
        let quantity = self.scenario.quantity.unwrap_or(1);
        let job = Job { quantity, ..Job::new(self.plan.clone(), self.sale.id, self.tokens.clone()) };
        let header = self.header(quantity);
        self.view.say(&format!(
            "{} buyers to sale {} ({}) at {}",
            self.plan.buyers(),
            self.sale.id,
            self.sale.stock.map_or("stock not known".to_owned(), |stock| format!("{stock} units")),
            self.options.target
        ));
        let progress = Progress::shared();
        let shown = self.view.show(live::run(progress.clone(), samples.clone(), inputs::lasts(&self.plan)));
        let sending = loadtest::run(&mut self.clients, &job, &progress, &self.stop);
        let run = tokio::select! {
            run = sending => run?,
            () = shown => unreachable!("the view is shown until it is dropped"),
        };
        Ok((Report::of(&run, header), run.orders(), run.started_at))
    }

    fn header(&self, quantity: u32) -> Header {
        let plan = PlanReport {
            scenario: self.name.clone(),
            quantity,
            connections: self.scenario.connections().into(),
            max_connections: self.clients.most() as u64,
            warmup_seconds: self.scenario.warmup.unwrap_or_default().as_secs_f64(),
            timeout_seconds: self.scenario.timeout.unwrap_or(Duration::from_secs(10)).as_secs_f64(),
            ..PlanReport::of(&self.plan)
        };
        Header { target: self.options.target.clone(), sale: self.sale.clone(), plan }
    }

    /// Waits for the drain and looks every order up. `None`: it was interrupted before anything was looked up.
    async fn check(
        &mut self,
        orders: &[Order],
        samples: &Samples,
        started_at: SystemTime,
        run_ended_at: SystemTime,
    ) -> Option<VerificationReport> {
        let promised = orders.iter().filter(|order| order.promised).count() as u64;
        let drain = tokio::select! {
            drain = samples.drained(promised, self.options.drain_stall, &self.stop) => drain,
            () = self.view.show(live::drain(samples.clone())) => Drain::Cancelled,
        };
        match drain {
            Drain::Cancelled => return None,
            Drain::Stalled => self.view.say("the drain has stalled; looking every order up all the same"),
            Drain::Done => {}
        }
        let drained_at = samples.drained_at().filter(|_| drain == Drain::Done);
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
        let within = self.options.drain_stall;
        let settings = VerifySettings { within, started_at: Some(started_at), ..VerifySettings::default() };
        let shown = self.view.show(live::verification(settings.looked_up.clone(), orders.len()));
        let (view, sale) = (self.view, self.sale.id);
        let Self { clients, tokens, stop, admin, .. } = self;
        let looking = async {
            if let Some(admin) = admin {
                match loadtest::verify_in_bulk(clients, sale, admin, orders, tokens, &settings, stop).await {
                    Ok((checked, recorded)) => return (checked, Some(recorded)),
                    Err(error) => view.say(&format!("{error}; asking for every order by itself")),
                }
            }
            (verify_each(clients, orders, tokens, &settings, stop).await, None)
        };
        tokio::select! {
            checked = looking => checked,
            () = shown => unreachable!("the view is shown until it is dropped"),
        }
    }

    /// `None` where the server has no audit, or does not answer.
    async fn audit(&self) -> Option<Audit> {
        let mut shop = Shop::new(&self.clients);
        let began = tokio::time::Instant::now();
        loop {
            let audit = match shop.audit(self.sale.id).await {
                Ok(audit) => audit?,
                Err(error) => {
                    self.view.say(&error.to_string());
                    return None;
                }
            };
            if audit.verdict != "in_flight" || began.elapsed() > AUDIT_WITHIN || self.stop.is_cancelled() {
                return Some(audit);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn write(&self, report: &Report) -> Result<(), Failure> {
        let failed = |file: &Path, error: std::io::Error| {
            Failure::Fault(format!("cannot write {}: {error}", file.display()))
        };
        let json = || serde_json::to_string_pretty(report).map_err(|error| Failure::Fault(error.to_string()));
        match self.options.json.as_deref() {
            Some(file) if file == Path::new("-") => print(&json()?)?,
            Some(file) => {
                // The numbers are shown before anything that can fail: a full disk must not swallow them.
                print(&report.to_string())?;
                std::fs::write(file, json()?).map_err(|error| failed(file, error))?;
            }
            None => print(&report.to_string())?,
        }
        if let Some(file) = &self.options.html {
            std::fs::write(file, loadtest::html::render(report)).map_err(|error| failed(file, error))?;
        }
        Ok(())
    }
}

/// One by one takes as long as there are orders; only orders without an end are given up after a time.
async fn verify_each(
    clients: &mut Clients,
    orders: &[Order],
    tokens: &Tokens,
    settings: &VerifySettings,
    stop: &CancellationToken,
) -> Verification {
    // A thousand look-ups a second is slow for any server that could have taken the orders.
    let all = Duration::from_millis(orders.len() as u64);
    let settings = VerifySettings { within: settings.within + all, ..settings.clone() };
    loadtest::verify(clients, orders, tokens, &settings, stop).await
}

/// A token that the first SIGINT or SIGTERM cancels; the second one ends the program at once.
fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let cannot = |error: std::io::Error| Failure::Fault(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(130);
            }
            eprintln!("stopping: waiting for requests under way; press Ctrl-C again to stop at once");
            cancel.cancel();
        }
    });
    Ok(stop)
}

/// To stdout. Whoever reads may have read enough, as `head` does: that changes no verdict.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Fault(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// `loadtest compare`: to stdout.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<ExitCode, Failure> {
    print(&loadtest::compare(&read_report(a)?, &read_report(b)?))?;
    Ok(ExitCode::SUCCESS)
}

fn read_report(file: &Path) -> Result<Report, Failure> {
    let named = file.display();
    let hint = "give two files that --json wrote, like compare before.json after.json";
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Fault(format!("cannot read {named}: {error}; {hint}")))?;
    let version = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| json["schema_version"].as_u64());
    if version.is_some_and(|version| version != u64::from(SCHEMA_VERSION)) {
        let version = version.unwrap_or_default();
        return Err(Failure::Fault(format!(
            "{named} has version {version} of the report, and this program reads version {SCHEMA_VERSION}; run it with the \
             program that wrote it"
        )));
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::Fault(format!("{named} is no report: {error}; {hint}")))
}
