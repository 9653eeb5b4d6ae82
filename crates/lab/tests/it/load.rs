//! Load runs against a real gateway and worker in this process, on the embedded back end.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusBuilder;
use seckill_core::{AuditReport, Backend, DrainRate, Mode, SaleId, Verdict};
use seckill_gateway::Config;
use seckill_lab::load::{
    KeptRun, LoadCommand, LoadConfig, LoadMode, LoadRefusal, LoadRequest, LoadRunner, LoadState, LoadStatus,
};
use seckill_lifecycle::Service;
use seckill_testkit::{eventually, fixtures};
use seckill_token::Signer;
use seckill_worker::Pace;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const JWT_SECRET: &str = "a secret of thirty-two bytes or more";
const ADMIN_TOKEN: &str = "the admin's token";
/// Long enough for a busy machine; only a failing test waits for so long.
const SOON: Duration = Duration::from_secs(60);

/// A gateway of each mode on one back end, a worker, and a load runner.
struct Setup {
    backend: Backend,
    gateway: Server,
    direct: Server,
    pace: Arc<Pace>,
    runner: Arc<LoadRunner>,
    _worker: AbortOnDrop,
    _folder: TempDir,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Server {
    url: String,
    shutdown: CancellationToken,
    run: JoinHandle<()>,
}

impl Server {
    async fn start(backend: &Backend, mode: Mode) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shutdown = CancellationToken::new();
        let config = Config { mode, ..Config::new(JWT_SECRET.into(), ADMIN_TOKEN.into()) };
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        let run = seckill_gateway::run(
            listener,
            backend.clone(),
            Arc::new(Service::new(backend.clone(), None)),
            config,
            Router::new(),
            prometheus,
            shutdown.clone(),
        );
        Self { url, shutdown, run: tokio::spawn(run) }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.run).await.expect("a gateway ends").expect("it does not panic");
    }
}

fn sign(user: u64) -> String {
    Signer::hs256(JWT_SECRET).sign(user, 4_102_444_800)
}

fn runner(target: &str, direct: Option<&str>) -> Arc<LoadRunner> {
    let config = LoadConfig {
        target: target.to_owned(),
        direct: direct.map(str::to_owned),
        admin_token: ADMIN_TOKEN.into(),
        sign: Arc::new(sign),
        kept_in: None,
        transactions: None,
        command: LoadCommand::default(),
    };
    LoadRunner::with_drain_stall(config, Duration::from_secs(2))
}

impl Setup {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = seckill_embedded::open(folder.path()).await.expect("the folder can be opened");
        let gateway = Server::start(&backend, Mode::Queue).await;
        let direct = Server::start(&backend, Mode::Direct).await;
        let pace = Arc::new(Pace::new(DrainRate::Unlimited, seckill_worker::MAX_BATCH));
        let config = seckill_worker::Config::default();
        let worker =
            seckill_worker::run(backend.clone(), config, Arc::clone(&pace), CancellationToken::new());
        let runner = runner(&gateway.url, Some(&direct.url));
        let worker = AbortOnDrop(tokio::spawn(worker));
        Self { backend, gateway, direct, pace, runner, _worker: worker, _folder: folder }
    }

    fn drain_at(&self, rate: u32) {
        self.pace.set(DrainRate::PerSecond(NonZeroU32::new(rate).expect("not 0")));
    }

    async fn audit(&self, sale: u64) -> AuditReport {
        fixtures::audit(&self.backend, SaleId(sale)).await
    }
}

/// A small load: 600 buyers, of whom about 300 get a unit.
fn small(mode: LoadMode) -> LoadRequest {
    let request = json!({
        "preset": "spike", "peak_rate": 400, "buyers": 600, "duplicate_share": 0.1, "stock": 300, "mode": mode,
    });
    serde_json::from_value(request).expect("a request")
}

async fn ended(runner: &LoadRunner) -> LoadStatus {
    eventually(SOON, async || match runner.status() {
        Some(status) if status.has_ended() => Ok(status),
        status => Err(status),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_with_a_clean_verdict() {
    let setup = Setup::new().await;
    assert_eq!(setup.runner.status(), None);
    let started = setup.runner.start(small(LoadMode::Queue)).expect("nothing is under way");
    assert_eq!(
        (started.state, started.planned, started.preset.as_str()),
        (LoadState::Starting, 600, "spike")
    );
    let status = ended(&setup.runner).await;
    assert_eq!((status.state, &status.message), (LoadState::Done, &None), "{status:?}");
    let verdict = status.verdict.as_ref().unwrap_or_else(|| panic!("no verdict: {status:?}"));
    assert!(verdict.pass, "{status:?}");
    assert_eq!((verdict.oversold, verdict.lost, verdict.duplicates, verdict.errors), (0, 0, 0, 0));
    assert_eq!(
        (verdict.accepted, verdict.committed, verdict.conserved),
        (300, 300, Some(true)),
        "{status:?}"
    );
    assert_eq!((status.sent, status.accepted, status.errors), (600, 300, 0), "{status:?}");
    assert!(verdict.p99_ms >= verdict.p50_ms && verdict.p50_ms > 0.0, "{status:?}");
    assert!(verdict.end_to_end_p99_ms.is_some_and(|ms| ms > 0.0), "{status:?}");
    assert!((100..=600).contains(&verdict.peak_arrivals), "{status:?}");
    assert!((50..=300).contains(&verdict.peak_commits), "{status:?}");
    assert!(status.ended_at.is_some_and(|at| at > status.started_at), "{status:?}");
    assert_eq!(
        status.command,
        format!(
            "loadtest run spike --target {} --rate 400 -n 600 --retry-ratio 0.1 --stock 300 --max-connections 512",
            setup.gateway.url
        )
    );
    assert_eq!(setup.audit(1).await.verdict, Verdict::Clean);
    assert!(setup.runner.stop().is_none());
    // The status reads back from JSON, which is how other gateways get it.
    let json_status = serde_json::to_value(&status).expect("plain data");
    assert_eq!(
        (&json_status["state"], &json_status["mode"], &json_status["verdict"]["pass"]),
        (&json!("done"), &json!("queue"), &json!(true))
    );
    assert_eq!(serde_json::from_value::<LoadStatus>(json_status).expect("it reads back"), status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_kept_with_their_curves_and_their_reports() {
    let setup = Setup::new().await;
    setup.runner.start(small(LoadMode::Direct)).expect("nothing is under way");
    let status = ended(&setup.runner).await;
    let verdict = status.verdict.clone().unwrap_or_else(|| panic!("no verdict: {status:?}"));
    assert!(verdict.pass, "{status:?}");
    assert_eq!((verdict.accepted, verdict.committed, verdict.conserved), (300, 300, None), "{status:?}");
    assert_eq!(verdict.transactions, Some(300), "one for each order");
    assert!(status.command.contains(&setup.direct.url), "{status:?}");
    let kept = kept(&setup.runner, 1).await;
    assert_eq!(kept[0].status, status);
    let curve = kept[0].curve.as_ref().expect("a run that was verified has one");
    assert_eq!(curve.columns, ["second", "arrivals", "accepted", "committed", "p99_ms", "errors", "backlog"]);
    let sum = |column: usize| curve.rows.iter().filter_map(|row| row[column]).sum::<f64>();
    assert_eq!((sum(1), sum(2), sum(3), sum(5)), (600.0, 300.0, 300.0, 0.0), "{curve:?}");
    assert!(curve.rows.iter().enumerate().all(|(at, row)| row[0] == Some(at as f64)), "{curve:?}");
    let page = setup.runner.report_page(&status.id).expect("its report");
    assert!(page.contains("plotly.js v") && page.contains("spike"));
    assert!(setup.runner.report_page("another").is_none());
    let sale = setup.backend.ledger.sale(SaleId(1)).await.expect("the ledger answers").expect("a sale");
    assert_eq!((sale.mode, sale.orders), (Mode::Direct, 300));
}

/// The runs that are kept, once there are so many.
async fn kept(runner: &LoadRunner, runs: usize) -> Vec<KeptRun> {
    eventually(SOON, async || match runner.runs() {
        kept if kept.len() == runs => Ok(kept),
        kept => Err(kept.len()),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_process_is_killed_has_failed_at_the_next_start() {
    let setup = Setup::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = LoadConfig {
        target: setup.gateway.url.clone(),
        direct: None,
        admin_token: ADMIN_TOKEN.into(),
        sign: Arc::new(sign),
        kept_in: Some(folder.path().join("runs.json")),
        transactions: None,
        command: LoadCommand::default(),
    };
    let first = LoadRunner::new(config.clone());
    let done = first.start(small(LoadMode::Queue)).expect("nothing is under way");
    assert_eq!(ended(&first).await.state, LoadState::Done);
    kept(&first, 1).await;
    // Ten orders a second: still under way when the process is gone.
    setup.drain_at(10);
    let killed = first.start(small(LoadMode::Queue)).expect("the first run is over");
    eventually(SOON, async || match std::fs::read_to_string(folder.path().join("runs.json")) {
        Ok(kept) if kept.contains(&killed.id) => Ok(()),
        kept => Err(kept.map(|kept| kept.len())),
    })
    .await;
    let next = LoadRunner::new(config);
    let status = next.status().expect("the run is known");
    assert_eq!((&status.id, status.state), (&killed.id, LoadState::Failed), "{status:?}");
    assert_eq!(status.failure.map(|why| why.code), Some("gateway_gone".to_owned()));
    let runs: Vec<_> = next.runs().into_iter().map(|run| run.status.id).collect();
    assert_eq!(runs, [killed.id, done.id.clone()]);
    assert!(next.report_page(&done.id).is_some(), "the report of the first is kept, too");
    first.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_run_at_a_time_and_it_can_be_stopped() {
    let setup = Setup::new().await;
    let soak = || serde_json::from_value(json!({"preset": "soak"})).expect("a request");
    let first = setup.runner.start(soak()).expect("nothing is under way");
    assert!(matches!(setup.runner.start(small(LoadMode::Queue)), Err(LoadRefusal::Busy)));
    eventually(SOON, async || match setup.runner.status() {
        Some(status) if status.accepted > 100 => Ok(()),
        status => Err(status),
    })
    .await;
    let status = setup.runner.stop().expect("one is under way");
    assert_eq!((&status.id, status.has_ended()), (&first.id, false));
    let status = ended(&setup.runner).await;
    assert_eq!((status.state, &status.verdict, &status.message), (LoadState::Stopped, &None, &None));
    assert!(status.sent < status.planned, "{status:?}");
    // Orders that were accepted before are committed all the same.
    eventually(SOON, async || match setup.audit(1).await {
        report if report.verdict == Verdict::Clean && report.committed_orders >= status.accepted => Ok(()),
        report => Err(report),
    })
    .await;
    let next = setup.runner.start(small(LoadMode::Queue)).expect("the first run is over");
    assert_ne!(next.id, first.id);
    setup.runner.close().await;
    assert_eq!(
        setup.runner.status().map(|status| (status.id, status.state)),
        Some((next.id, LoadState::Stopped))
    );
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let runner = runner("http://127.0.0.1:1", None);
    let refused = async |request: serde_json::Value| {
        let request = serde_json::from_value(request).expect("a request");
        match runner.start(request) {
            Err(LoadRefusal::Invalid(errors)) => errors,
            other => panic!("{other:?}"),
        }
    };
    let all = json!({
        "preset": "tsunami", "peak_rate": 0.5, "buyers": 0, "duplicate_share": 1.1, "stock": 2_000_001,
    });
    let errors = refused(all).await;
    let fields: Vec<_> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["preset", "peak_rate", "duplicate_share", "buyers", "stock"]);
    assert!(errors[0].message.contains("spike") && errors[1].message.contains("50000"), "{errors:?}");
    // Every field is allowed by itself, but together they make too many requests.
    let errors = refused(json!({"preset": "soak", "peak_rate": 50_000})).await;
    assert_eq!(errors[0].field, "peak_rate");
    assert!(
        errors[0].message.contains("30000000") && errors[0].message.contains("3333 or less"),
        "{errors:?}"
    );
    assert!(serde_json::from_value::<LoadRequest>(json!({"preset": "spike", "speed": 9})).is_err());
    assert!(matches!(runner.start(small(LoadMode::Direct)), Err(LoadRefusal::Unavailable(_))));
    assert!(!runner.has_direct() && runner.status().is_none());
}

#[tokio::test]
async fn every_preset_can_be_chosen_as_it_is() {
    let presets = LoadRunner::presets();
    let names: Vec<_> = presets.iter().map(|preset| preset.name).collect();
    assert_eq!(names, ["spike", "step", "ramp", "soak", "duplicates", "clickers"]);
    for preset in &presets {
        assert!(
            preset.peak_rate >= 300.0 && preset.buyers >= 1_000 && !preset.description.is_empty(),
            "{preset:?}"
        );
        // No server listens there, so an accepted run ends at once.
        let runner = runner("http://127.0.0.1:1", None);
        let request = serde_json::from_value(json!({"preset": preset.name})).expect("a request");
        let status = runner.start(request).expect("a preset is within the bounds");
        assert_eq!((status.peak_rate, status.buyers), (preset.peak_rate, preset.buyers));
        assert!(status.planned >= status.buyers, "{status:?}");
        runner.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_there_or_goes_away_fails_the_run_and_nothing_else() {
    let setup = Setup::new().await;
    let nowhere = runner("http://127.0.0.1:1", None);
    nowhere.start(small(LoadMode::Queue)).expect("nothing is under way");
    let status = ended(&nowhere).await;
    assert_eq!(status.state, LoadState::Failed);
    assert!(status.message.as_ref().is_some_and(|why| why.contains("127.0.0.1:1")), "{status:?}");

    // So slowly that some orders are not in the ledger yet when the gateway ends.
    setup.drain_at(10);
    setup.runner.start(small(LoadMode::Queue)).expect("nothing is under way");
    eventually(SOON, async || match setup.runner.status() {
        Some(status) if status.accepted > 50 => Ok(()),
        status => Err(status),
    })
    .await;
    setup.gateway.stop().await;
    let status = ended(&setup.runner).await;
    assert_eq!((status.state, &status.verdict), (LoadState::Failed, &None), "{status:?}");
    let why = status.message.as_deref().unwrap_or_default();
    assert!(why.contains("the server did not say what became of"), "{status:?}");
    assert!(status.errors > 0, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_wait_for_paused_workers_are_not_called_lost() {
    let setup = Setup::new().await;
    setup.pace.set(DrainRate::Paused);
    setup.runner.start(small(LoadMode::Queue)).expect("nothing is under way");
    let status = ended(&setup.runner).await;
    assert_eq!((status.state, &status.verdict), (LoadState::Failed, &None), "{status:?}");
    let why = status.message.as_deref().unwrap_or_default();
    assert!(why.contains("still wait for the workers"), "{status:?}");
    assert_eq!(status.failure.map(|why| why.code), Some("workers_silent".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_breaks_down_has_failed() {
    let setup = Setup::new().await;
    let config = LoadConfig {
        target: setup.gateway.url.clone(),
        direct: None,
        admin_token: ADMIN_TOKEN.into(),
        sign: Arc::new(|_| panic!("no token in this test")),
        kept_in: None,
        transactions: None,
        command: LoadCommand::default(),
    };
    let runner = LoadRunner::new(config);
    runner.start(small(LoadMode::Queue)).expect("nothing is under way");
    let status = ended(&runner).await;
    assert_eq!(status.state, LoadState::Failed);
    assert!(status.message.is_some_and(|why| why.contains("broke down")));
}
