//! `seckill lab`: experiments with and without a safeguard, on a back end of their own or on servers.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use seckill_cluster::{ClusterConfig, EventsOf, QueueKind};
use seckill_lab::experiment::{self, Arm, Experiment, Needs, Parts, Place, Places, Report, Store, Verdict};
use seckill_lab::experiments;
use tokio::runtime::Handle;

use crate::cli;
use crate::cli::experiments::{LabArgs, LabCommand, RunArgs};
use crate::options::{BackendKind, BackendOptions, ClusterOptions};
use crate::{client, exit};

/// Where the explanation of an experiment is.
const PAGES: &str = "docs/labs";

pub(crate) async fn lab(args: LabArgs) -> Result<ExitCode> {
    match args.command {
        LabCommand::List(args) => {
            list(args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        LabCommand::Run(args) => run(*args).await,
    }
}

fn list(json: bool) -> Result<()> {
    let abouts: Vec<_> = experiments::ALL.iter().map(|experiment| experiment.about()).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&abouts)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["name", "needs", "question"]);
    for about in abouts {
        let needs = match about.needs {
            Needs::Nothing => "nothing",
            Needs::Servers => "servers",
        };
        table.add_row([about.name, needs, about.question.en]);
    }
    println!("{}", client::fitted(table));
    eprintln!("Run one with: seckill lab run NAME. Those that need servers: add --backend cluster.");
    Ok(())
}

async fn run(args: RunArgs) -> Result<ExitCode> {
    let chosen: Vec<&dyn Experiment> = match (args.name.as_str(), args.backend.backend) {
        // All that can run there.
        ("all", BackendKind::Embedded) => {
            experiments::ALL.iter().copied().filter(|one| one.about().needs == Needs::Nothing).collect()
        }
        ("all", BackendKind::Cluster) => experiments::ALL.to_vec(),
        (name, _) => match experiments::find(name) {
            Some(experiment) => vec![experiment],
            None => return Ok(cli::usage_error(&unknown(name))),
        },
    };
    let left_out = experiments::ALL.len() - chosen.len();
    if args.name == "all" && left_out > 0 {
        eprintln!("Left out: {left_out} experiments that need servers; add --backend cluster to run them.");
    }
    let mut reports = Vec::with_capacity(chosen.len());
    for experiment in chosen {
        if !args.json {
            let about = experiment.about();
            eprintln!("{}: {}\nPrediction: {}", about.name, about.question.en, about.prediction.en);
        }
        let played = async {
            let place = open(args.backend.backend, &args.backend.cluster).await?;
            Ok(experiment::play(experiment, &place, args.seed).await?)
        };
        let name = experiment.about().name;
        let report: Result<Report> = played.await;
        let report = report.with_context(|| format!("the experiment {name} could not be run"))?;
        if !args.json {
            print(&report);
        }
        reports.push(report);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    let broken = reports.iter().any(|report| report.verdict == Verdict::Broken);
    Ok(if broken { ExitCode::from(exit::INVARIANT_VIOLATED) } else { ExitCode::SUCCESS })
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = experiments::ALL.iter().map(|experiment| experiment.about().name).collect();
    format!("there is no experiment {name:?}; allowed are all, {}", names.join(", "))
}

/// Where the experiments of a gateway run: on the servers that it uses, or in a folder of their own.
pub(crate) fn places(options: &BackendOptions) -> Places {
    let (kind, cluster) = (options.backend, options.cluster.clone());
    let open = move || {
        let cluster = cluster.clone();
        Box::pin(async move { open(kind, &cluster).await.map_err(|error| format!("{error:#}")) }) as _
    };
    Places { store: store(kind), open: Arc::new(open) }
}

fn store(kind: BackendKind) -> Store {
    match kind {
        BackendKind::Embedded => Store::Embedded,
        BackendKind::Cluster => Store::Cluster,
    }
}

/// A place of one experiment's own.
async fn open(kind: BackendKind, cluster: &ClusterOptions) -> Result<Place> {
    let parts = match kind {
        BackendKind::Embedded => {
            let folder = tempfile::Builder::new().prefix("seckill-lab-").tempdir();
            let folder = folder.context("cannot make a folder")?;
            let (path, runtime) = (folder.path().to_owned(), Handle::current());
            // On a thread of its own: opening is no future that may move between threads.
            let opened = move || runtime.block_on(seckill_embedded::open(&path));
            let backend = tokio::task::spawn_blocking(opened).await??;
            Parts {
                store: store(kind),
                sql_url: format!("sqlite://{}?mode=rwc", folder.path().join("lab.db").display()),
                bus: Arc::clone(&backend.events),
                gate: Arc::clone(&backend.gate),
                redis_url: None,
                streams: None,
                keep: Box::new((backend, folder)),
            }
        }
        BackendKind::Cluster => {
            let config = cluster.config()?;
            let streams =
                ClusterConfig { queue: QueueKind::RedisStreams, queue_redis_url: None, ..config.clone() };
            let events = seckill_cluster::connect_events(&config.amqp_url, EventsOf::Ledger(Place::LEDGER));
            Parts {
                store: store(kind),
                bus: events.await?,
                gate: seckill_cluster::connect_gate(&config, Place::LEDGER)?,
                streams: Some(seckill_cluster::connect_queue(&streams, Place::LEDGER)?),
                redis_url: Some(config.redis_url),
                sql_url: cluster.lab_mysql_url()?.unwrap_or(config.mysql_url),
                keep: Box::new(()),
            }
        }
    };
    Ok(Place::open(parts).await?)
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let columns =
        report.columns.map_or(["without the safeguard", "with it"], |columns| columns.map(|text| text.en));
    table.set_header(["", "expected", columns[0], columns[1]]);
    let (without, with) = (&report.without, &report.with);
    for (one, other) in without.counts.iter().zip(&with.counts) {
        let sign = |holds: bool, actual: u64| format!("{actual}{}", if holds { "" } else { "  ✗" });
        table.add_row([
            one.what.en.to_owned(),
            other.expected.to_string(),
            sign(one.holds, one.actual),
            sign(other.holds, other.actual),
        ]);
    }
    for (one, other) in without.measures.iter().zip(&with.measures) {
        let shown =
            |value: f64| format!("{value:.1} {}", one.unit).trim_end().trim_end_matches(".0").to_owned();
        table.add_row([one.what.en.to_owned(), String::new(), shown(one.value), shown(other.value)]);
    }
    let seconds = |arm: &Arm| format!("{:.1} s", arm.seconds);
    table.add_row(["took".to_owned(), String::new(), seconds(without), seconds(with)]);
    let table = client::fitted(table);
    println!("{table}\nverdict    {}", report.verdict);
    if let Some(line) = &report.safeguard {
        println!("safeguard  {}:{}", line.file, line.line);
    }
    println!("read       {PAGES}/{}.md\n", report.name);
}
