//! `seckill demo`: the whole system in one process, a sale, its buyers over real HTTP, and the verdict.

mod chart;
mod samples;
mod verdict;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use loadtest::{Clients, Job, Plan, Progress, Run, Target, Tokens, Verification, VerifySettings};
use seckill_core::{Backend, NewSale, SaleId, UserId, now};
use seckill_worker::{DrainRate, Pace};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::demo::{DemoArgs, DemoBackend};
use crate::client::{self, Api};
use crate::gateway_process::GatewayProcess;
use crate::lab::Lab;
use crate::options::{BackendKind, BackendOptions};
use crate::secrets::{self, Secrets};
use crate::{backend, exit, roles, telemetry};
use samples::{Sample, Samples};
use verdict::Outcome;

/// Connections that the buyers share.
const CONNECTIONS: usize = 256;
/// Tokens must outlive the longest demo.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);
/// When nothing has moved for this long, the rest is taken for lost.
const STALLED: Duration = Duration::from_secs(60);

/// `seckill demo`
pub(crate) async fn run(args: DemoArgs, log_json: bool) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown_on_signal()?;
    let once = args.once || !std::io::stdout().is_terminal();
    let stage = Stage::open(&args, log_json, shutdown.clone()).await?;
    eprintln!("Dashboard: {}", stage.server);
    if args.open
        && let Err(error) = open::that_detached(stage.server.as_str())
    {
        eprintln!("No browser could be started ({error}); open the address above by hand.");
    }
    // Interrupted: what is under way is ended in order, and there is no verdict.
    let outcome = shutdown.run_until_cancelled(stage.play(&args)).await;
    let ended = match outcome {
        None => Ok(ExitCode::from(130)),
        Some(Err(error)) => Err(error),
        Some(Ok(outcome)) => {
            outcome.print(args.json)?;
            if !once {
                eprintln!("\nServing on until Ctrl-C; fire load and cause trouble at {}", stage.server);
                shutdown.cancelled().await;
            }
            let violated = !outcome.holds();
            Ok(if violated { ExitCode::from(exit::INVARIANT_VIOLATED) } else { ExitCode::SUCCESS })
        }
    };
    stage.close().await?;
    ended
}

/// A gateway and a worker in this process, and what they stand on.
struct Stage {
    server: Url,
    jwt_secret: secrecy::SecretString,
    admin_token: secrecy::SecretString,
    backend_name: &'static str,
    house: JoinHandle<Result<()>>,
    stop: CancellationToken,
    /// Removed at the end; `None` on the cluster back end.
    _data_dir: Option<TempDir>,
}

impl Stage {
    async fn open(args: &DemoArgs, log_json: bool, shutdown: CancellationToken) -> Result<Self> {
        let prometheus = telemetry::metrics()?;
        let listener = roles::listen(&format!("127.0.0.1:{}", args.port), "--port").await?;
        let server = Url::parse(&format!("http://{}", listener.local_addr()?))?;
        let (options, data_dir) = back_end_options(args)?;
        let backend = back_end(&options).await?;
        let backend_name = backend.name;
        let Secrets { jwt_secret, admin_token } = Secrets::random();
        let config = seckill_gateway::Config::new(jwt_secret.clone(), admin_token.clone());
        let pace = Pace::new(args.drain_rate, seckill_worker::MAX_BATCH);
        let lab = match Lab::of(true) {
            Some(lab) => Some(lab.with_direct_gateway(&options, &config, log_json).await),
            None => None,
        };
        let worker = Some((seckill_worker::Config::default(), pace));
        let house = GatewayProcess { listener, backend, config, worker, lab, prometheus };
        let stop = shutdown.child_token();
        let house = tokio::spawn(house.run(stop.clone()));
        Ok(Self { server, jwt_secret, admin_token, backend_name, house, stop, _data_dir: data_dir })
    }

    /// Opens the sale, sends the buyers, waits for the drain, and asks for every order.
    async fn play(&self, args: &DemoArgs) -> Result<Outcome> {
        let api = Arc::new(Api::new(self.server.clone())?);
        let sale = self.open_sale(&api, args).await?;
        let everyone = Plan::spread(u64::from(args.buyers), 1, args.arrival);
        let plan = Plan { retry_ratio: args.retry_ratio, seed: sale.0, ..everyone };
        let sign = |user| secrets::sign(&self.jwt_secret, UserId(user), TOKEN_TTL).unwrap_or_default();
        let tokens = Tokens::sign(&plan, sign)?;
        let mut clients = Clients::connect(Target::parse(self.server.as_str())?, CONNECTIONS).await?;
        eprintln!(
            "Sale {sale}: {} units, {} buyers within {}, drained at {} orders/s ({} back end, {})",
            args.stock,
            args.buyers,
            humantime::format_duration(args.arrival),
            args.drain_rate,
            self.backend_name,
            self.server
        );
        let cancel = CancellationToken::new();
        let _cancel_at_the_end = cancel.clone().drop_guard();
        let progress = Progress::shared();
        let view = Live::start(progress.clone());
        let began = Instant::now();
        let watch = tokio::spawn(watch(api.clone(), sale, began, view, cancel.clone()));
        let job = Job::new(plan, sale.0, tokens.clone());
        let run = loadtest::run(&mut clients, &job, &progress, &cancel).await?;
        let samples = drained(watch).await?;
        let verification = verify(&mut clients, &run, &tokens, &cancel).await;
        let audit = client::rest(&api, sale.0, Duration::from_secs(10)).await?;
        Ok(Outcome::weigh(args, self.backend_name, &run, &verification, &samples, audit))
    }

    async fn open_sale(&self, api: &Api, args: &DemoArgs) -> Result<SaleId> {
        #[derive(Deserialize)]
        struct Created {
            id: SaleId,
            epoch: u32,
        }
        let starts_at = now();
        let sale = NewSale {
            name: "Demo".to_owned(),
            product: None,
            stock: args.stock,
            price_cents: 99_900,
            currency: "USD".to_owned(),
            per_user_limit: 1,
            starts_at,
            ends_at: starts_at + chrono::Duration::days(1),
        };
        let created: Created = api.create_sale(&sale, &self.admin_token).await?;
        if created.epoch == 0 {
            bail!("the gate could not be filled for the sale; is Redis there? see the log above");
        }
        Ok(created.id)
    }

    async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.house.await.context("the gateway panicked")?
    }
}

/// The demo brings its own folder.
fn back_end_options(args: &DemoArgs) -> Result<(BackendOptions, Option<TempDir>)> {
    let DemoBackend { backend, cluster } = args.backend.clone();
    let folder = match backend {
        BackendKind::Embedded => {
            let folder = tempfile::Builder::new().prefix("seckill-demo-").tempdir();
            Some(folder.context("cannot make a folder")?)
        }
        BackendKind::Cluster => None,
    };
    let data_dir = folder.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default();
    Ok((BackendOptions { backend, data_dir, cluster }, folder))
}

async fn back_end(options: &BackendOptions) -> Result<Backend> {
    match options.backend {
        BackendKind::Embedded => Ok(seckill_embedded::open(&options.data_dir).await?),
        BackendKind::Cluster => {
            backend::migrate(&options.cluster).await?;
            backend::cluster(&options.cluster).await
        }
    }
}

/// Reads the sale ten times a second until everything that the gate has set aside is in the ledger, and the buyers have
/// all been answered; or until nothing moves any more.
async fn watch(
    api: Arc<Api>,
    sale: SaleId,
    began: Instant,
    mut view: Live,
    cancel: CancellationToken,
) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut moved = Instant::now();
    while !cancel.is_cancelled() {
        let sample = Sample::read(&api, sale, began).await?;
        let before = samples.push(sample);
        if before
            .is_none_or(|before| before.reserved != sample.reserved || before.recorded() != sample.recorded())
        {
            moved = Instant::now();
        }
        view.show(&sample);
        let answered = view.all_answered();
        if (answered && sample.recorded() >= sample.reserved) || moved.elapsed() > STALLED {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    view.finish();
    Ok(samples)
}

async fn drained(watch: JoinHandle<Result<Samples>>) -> Result<Samples> {
    watch.await.context("watching the sale failed")?
}

/// Asks for every order that any answer named, once the queue is empty: none may be missing then, so the time is short.
async fn verify(
    clients: &mut Clients,
    run: &Run,
    tokens: &Tokens,
    cancel: &CancellationToken,
) -> Verification {
    let settings = VerifySettings { within: Duration::from_secs(30), ..VerifySettings::default() };
    loadtest::verify(clients, &run.orders(), tokens, &settings, cancel).await
}

/// The live line on stderr: one that changes on a terminal, one a second elsewhere.
struct Live {
    bar: ProgressBar,
    progress: Arc<Progress>,
    terminal: bool,
    /// Whole seconds that have been reported.
    seconds: f64,
}

impl Live {
    fn start(progress: Arc<Progress>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}").expect("the template is right"),
        );
        Self { bar, progress, terminal, seconds: 0.0 }
    }

    fn all_answered(&self) -> bool {
        let counts = self.progress.counts();
        counts.planned > 0 && counts.ended() == counts.planned
    }

    fn show(&mut self, sample: &Sample) {
        let counts = self.progress.counts();
        let line = format!(
            "sent {} of {}   accepted {}   sold out {}   backlog {}   committed {}",
            counts.sent,
            counts.planned,
            counts.accepted,
            counts.sold_out,
            sample.backlog(),
            sample.committed
        );
        if self.terminal {
            self.bar.set_message(line);
            self.bar.tick();
        } else if sample.at >= self.seconds {
            self.seconds = sample.at.floor() + 1.0;
            eprintln!("{:>5.1} s  {line}", sample.at);
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The drain rate as a number; `None` when it is not limited.
fn limit(rate: DrainRate) -> Option<u32> {
    match rate {
        DrainRate::PerSecond(rate) => Some(rate.get()),
        DrainRate::Unlimited | DrainRate::Paused => None,
    }
}
