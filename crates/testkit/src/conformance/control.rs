//! What a [`ControlPlane`](seckill_core::ControlPlane) has to do: send snapshots to everyone, and
//! change settings one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use seckill_core::{
    ActiveFault, CrashOrder, DrainRate, FaultKind, Histogram, ProcessId, Readiness, Role, Settings, Snapshot,
    SnapshotListener, now,
};
use serde_json::json;
use tokio::time::timeout;

use super::support::Subject;

const SOON: Duration = Duration::from_secs(30);

fn snapshot(name: &str) -> Snapshot {
    let histogram = Histogram { buckets: vec![(0.5, 1.0), (10.0, 3.0)], sum: 4.25, count: 4.0 };
    Snapshot {
        process: ProcessId::generate(),
        name: name.to_owned(),
        roles: vec![Role::Gateway, Role::Worker],
        uptime_ms: 1_250,
        series: BTreeMap::from([("seckill_claims_total{outcome=\"accepted\"}".to_owned(), 7.0)]),
        histograms: BTreeMap::from([("seckill_commit_seconds".to_owned(), histogram)]),
        drain_rate: Some("2000".parse().unwrap()),
        drain_told: Some(DrainRate::Auto),
        settings_revision: 3,
        faults: vec![FaultKind::LostConfirms],
        load: Some(serde_json::json!({"id": "1"})),
        readiness: Some(Readiness {
            status: "unready".to_owned(),
            down: BTreeMap::from([("queue".to_owned(), "no answer within 2 s".to_owned())]),
            sales: None,
        }),
    }
}

async fn heard(listener: &mut Box<dyn SnapshotListener>) -> Snapshot {
    timeout(SOON, listener.next()).await.expect("a snapshot is heard").unwrap()
}

/// Of every process, in order, and whole.
pub async fn snapshots_reach_everyone_who_listens(Subject { backend, .. }: Subject) {
    let control = &backend.control;
    // Nobody listens yet, and that is no fault.
    control.exchange(&snapshot("unheard")).await.unwrap();
    let mut listeners = [control.listen().await.unwrap(), control.listen().await.unwrap()];
    let sent = [snapshot("one"), snapshot("two")];
    for snapshot in &sent {
        control.exchange(snapshot).await.unwrap();
    }
    for listener in &mut listeners {
        for snapshot in &sent {
            assert_eq!(heard(listener).await, *snapshot);
        }
    }
}

/// Whoever sends a snapshot gets the settings in the answer; a change comes with the next exchange.
pub async fn settings_come_with_every_exchange(Subject { backend, .. }: Subject) {
    let control = &backend.control;
    assert_eq!(control.exchange(&snapshot("first")).await.unwrap(), Settings::default());
    let fault = ActiveFault { amount: 300, until: now() + chrono::Duration::seconds(60) };
    let settings = Settings {
        revision: 1,
        drain_rate: Some(DrainRate::Unlimited),
        paused: true,
        faults: BTreeMap::from([(FaultKind::SlowCommits, fault)]),
        crash: Some(CrashOrder { process: ProcessId::generate(), revision: 1 }),
        stop_load: Some("7".to_owned()),
    };
    assert!(control.change(&settings).await.unwrap());
    assert_eq!(control.exchange(&snapshot("second")).await.unwrap(), settings);
    assert_eq!(control.settings().await.unwrap(), settings);
}

/// Neither undoes the other without having seen it.
pub async fn of_two_changes_at_once_one_is_made(Subject { backend, .. }: Subject) {
    let control = &backend.control;
    let settings = |revision, paused| Settings { revision, paused, ..Settings::default() };
    let (one, other) = (settings(1, true), settings(1, false));
    let (one, other) = tokio::join!(control.change(&one), control.change(&other));
    assert_ne!(one.unwrap(), other.unwrap());
    assert!(!control.change(&settings(3, true)).await.unwrap(), "a revision is left out");
    assert!(control.change(&settings(2, true)).await.unwrap());
    assert_eq!(control.settings().await.unwrap(), settings(2, true));
}

/// It outlives the process that ran it, so that another one can say what became of it.
pub async fn the_load_run_that_was_kept_last_is_the_one_that_is_kept(Subject { backend, .. }: Subject) {
    let control = &backend.control;
    assert_eq!(control.kept_load().await.unwrap(), None);
    for load in
        [json!({"id": "1", "state": "sending"}), json!({"id": "1", "state": "done", "message": "Grüße"})]
    {
        control.keep_load(&load).await.unwrap();
        assert_eq!(control.kept_load().await.unwrap(), Some(load));
    }
}
