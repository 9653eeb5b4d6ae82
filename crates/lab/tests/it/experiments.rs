//! Every experiment, on every back end that it can run on: without the safeguard a number is off for one of the seeds at least,
//! and up to that seed every number is as expected with it.

use std::sync::Arc;
use std::time::Duration;

use seckill_cluster::{ClusterConfig, EventsOf, QueueKind};
use seckill_lab::experiment::{Needs, Parts, Place, Store, Trouble, Verdict, play};
use seckill_lab::experiments::{ALL, find};
use seckill_testkit::{TestCluster, cluster, eventually};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

async fn embedded() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let backend = seckill_embedded::open(folder.path()).await.unwrap();
    let parts = Parts {
        store: Store::Embedded,
        sql_url: format!("sqlite://{}?mode=rwc", folder.path().join("lab.db").display()),
        bus: Arc::clone(&backend.events),
        gate: Arc::clone(&backend.gate),
        redis_url: None,
        streams: None,
        keep: Box::new((backend, folder)),
    };
    Place::open(parts).await.unwrap()
}

async fn try_on(servers: &TestCluster) -> Result<Place, Trouble> {
    let config = ClusterConfig {
        redis_url: servers.redis_url.clone(),
        amqp_url: servers.amqp_url.clone(),
        mysql_url: servers.mysql_url.clone(),
        redis_pool_size: 8,
        gate_durable: false,
        queue: QueueKind::default(),
        queue_redis_url: None,
    };
    let streams = ClusterConfig { queue: QueueKind::RedisStreams, ..config.clone() };
    let events = seckill_cluster::connect_events(&config.amqp_url, EventsOf::Ledger(Place::LEDGER)).await;
    let parts = Parts {
        store: Store::Cluster,
        bus: events.unwrap(),
        gate: seckill_cluster::connect_gate(&config, Place::LEDGER).unwrap(),
        streams: Some(seckill_cluster::connect_queue(&streams, Place::LEDGER).unwrap()),
        redis_url: Some(config.redis_url),
        sql_url: config.mysql_url,
        keep: Box::new(()),
    };
    Place::open(parts).await
}

async fn on(servers: &TestCluster) -> Place {
    try_on(servers).await.unwrap()
}

/// Plays an experiment with the seeds until it is shown; asserts that the safeguard holds for each.
async fn show(name: &str, place: &Place) {
    let experiment = find(name).unwrap_or_else(|| panic!("there is no experiment {name}"));
    for seed in SEEDS {
        let report =
            play(experiment, place, seed).await.unwrap_or_else(|trouble| panic!("{name}: {trouble}"));
        assert!(report.with.holds, "{name}, seed {seed}: {:#?}", report.with);
        let whats = |arm: &seckill_lab::experiment::Arm| {
            arm.counts.iter().map(|count| count.what.en).collect::<Vec<_>>()
        };
        assert_eq!(whats(&report.without), whats(&report.with), "{name} counts the same on both sides");
        if matches!(report.verdict, Verdict::AsPredicted | Verdict::Compared) {
            return;
        }
    }
    panic!("{name}: without the safeguard nothing was off with the seeds {SEEDS:?}");
}

macro_rules! shown {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn is_shown_on_the_embedded_back_end() {
                let experiment = find($name).unwrap();
                if experiment.about().needs == Needs::Nothing {
                    return show($name, &embedded().await).await;
                }
                let refused = play(experiment, &embedded().await, 1).await.unwrap_err().to_string();
                assert!(refused.contains("--backend cluster"), "{refused}");
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_shown_on_servers() {
                let servers = cluster().await;
                show($name, &on(&servers).await).await;
            }
        })*
    };
}

shown! {
    peak_shaving: "peak-shaving",
    decoupling: "decoupling",
    async_chain: "async-chain",
    which_broker: "which-broker",
    check_then_act: "check-then-act",
    redis_dedup: "redis-dedup",
    duplicates_producer: "duplicates-producer",
    duplicates_broker: "duplicates-broker",
    duplicates_consumer: "duplicates-consumer",
    surely_sent: "surely-sent",
    timeout_is_unknown: "timeout-is-unknown",
    early_ack: "early-ack",
    at_least_once: "at-least-once",
    hot_row: "hot-row",
    gate_without_pending_log: "gate-without-pending-log",
    local_sold_out_cache: "local-sold-out-cache",
    retry_storm: "retry-storm",
}

#[test]
fn every_experiment_is_tested_and_names_a_line_and_two_pages() {
    let names: Vec<&str> = ALL.iter().map(|experiment| experiment.about().name).collect();
    assert_eq!(names, TESTED);
    for experiment in ALL {
        let about = experiment.about();
        let line = about.safeguard.line();
        assert!(
            line.is_some(),
            "{}: {:?} is not in {}",
            about.name,
            about.safeguard.code,
            about.safeguard.file
        );
        for page in ["", ".zh-CN"] {
            let page = format!("{}/../../docs/labs/{}{page}.md", env!("CARGO_MANIFEST_DIR"), about.name);
            assert!(std::path::Path::new(&page).is_file(), "there is no {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_experiment_at_a_time_and_what_a_killed_one_left_is_removed() {
    let servers = cluster().await;
    let place = on(&servers).await;
    let refused = try_on(&servers).await.err().map(|trouble| trouble.to_string());
    assert!(
        refused.as_deref().is_some_and(|refused| refused.contains("another experiment is running")),
        "{refused:?}"
    );
    // What is left when one is killed in the middle: it is aborted, and clears nothing.
    let experiment = find("check-then-act").unwrap();
    let killed = tokio::time::timeout(Duration::from_millis(1_500), play(experiment, &place, 1)).await;
    assert!(killed.is_err(), "it has ended before it could be killed");
    drop(place);
    let place = eventually(Duration::from_secs(10), async || try_on(&servers).await).await;
    show("check-then-act", &place).await;
}
