//! Requests leave at their time, and the report has the delay where they cannot. A slow machine delays requests: the tests
//! compare counts and order, and what was intended with what was sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use loadtest::{Arrivals, CancellationToken, Clients, Plan, Progress};
use seckill_testkit::eventually;
use tokio::sync::{RwLock, watch};

use crate::server::{ORDERS, job, order, order_id, plan, run, serve, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_buyer_comes_at_their_time_and_the_exact_share_comes_twice() {
    let seen: Arc<Mutex<HashMap<u64, Vec<SystemTime>>>> = Arc::default();
    let noting = seen.clone();
    let answer = async move |headers: HeaderMap| {
        let user = user(&headers);
        noting.lock().unwrap().entry(user).or_default().push(SystemTime::now());
        order(StatusCode::ACCEPTED, order_id(user), "queued")
    };
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let run = run(target, Plan { retry_ratio: 0.1, ..plan(1_000, Duration::from_millis(500)) }).await;

    assert_eq!((run.planned, run.records.len()), (1_100, 1_100));
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen.values().filter(|times| times.len() == 2).count()), (1_000, 100));
    assert_eq!(run.records.iter().filter(|record| record.slot.repeat).count(), 100);
    // The server's clock is this machine's. No request arrives before its time.
    for record in run.records.iter().filter(|record| !record.slot.repeat) {
        let first = seen[&(100 + u64::from(record.slot.buyer))][0];
        let due = run.started_at + record.slot.due();
        assert!(first >= due, "{record:?} arrived {:?} too early", due.duration_since(first));
    }
    // Every request that left late is counted as late, and no other.
    let late =
        run.records.iter().filter(|record| Duration::from_micros(record.lag_us.into()) > run.late_after);
    assert_eq!(run.counts().late, late.count() as u64);
    // The last buyer is due half a millisecond before the end, and the run lasts until the last answer.
    assert!(run.duration >= Duration::from_micros(499_500), "{:?}: too early", run.duration);
    let last = run.records.iter().map(|record| record.ended_us()).max().unwrap();
    assert!(
        run.duration >= Duration::from_micros(last),
        "{:?}, but the last answer came at {last} µs",
        run.duration
    );
    assert_eq!(run.series().iter().map(|bucket| bucket.sent).sum::<u64>(), 1_100);
    assert!(run.series().len() >= 5, "the requests are spread over the time of arrival");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_the_latency_of_all_who_were_due_while_it_lasted() {
    const STALL: Duration = Duration::from_millis(600);
    // The 40th request stops the server for a while; all others wait behind it.
    let (turnstile, count) = (Arc::new(RwLock::new(())), Arc::new(AtomicU64::new(0)));
    let (held, stalled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let held_by_server = held.clone();
    let answer = async move |headers: HeaderMap| {
        if count.fetch_add(1, SeqCst) == 40 {
            let _closed = turnstile.write().await;
            stalled.store(1, SeqCst);
            tokio::time::sleep(STALL).await;
            stalled.store(0, SeqCst);
        }
        held_by_server.fetch_add(stalled.load(SeqCst), SeqCst);
        let _open = turnstile.read().await;
        order(StatusCode::ACCEPTED, order_id(user(&headers)), "queued")
    };
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let run = run(target, plan(400, Duration::from_millis(500))).await;

    // Of 400 buyers, 4 sit in the stall and some 350 are due while every connection is stuck in it.
    let (counts, latency, service) = (run.counts(), run.latency(), run.service());
    assert_eq!(counts.accepted, 400);
    assert!(counts.late >= 200, "{} late", counts.late);
    assert!(
        held.load(SeqCst) <= 4,
        "{} requests stood in the server: there are 4 connections",
        held.load(SeqCst)
    );
    let waited = run.records.iter().filter(|record| record.lag_us >= 200_000).count();
    assert!(waited >= 200, "{waited} requests waited long before they could leave");
    assert!(latency.p50_us >= 200_000, "{latency:?}: half waited long");
    assert!(
        service.p50_us < latency.p50_us,
        "{service:?}, {latency:?}: the server's own time hides the wait"
    );
    assert!(latency.max_us >= 600_000, "{latency:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_early_and_keeps_what_it_has() {
    let answer = async |headers: HeaderMap| order(StatusCode::ACCEPTED, order_id(user(&headers)), "queued");
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let mut clients = Clients::connect(target, 4).await.unwrap();
    let (progress, cancel) = (Progress::shared(), CancellationToken::new());
    let job = job(plan(100_000, Duration::from_secs(3_600)));
    let cancel_soon = async {
        let sent = || progress.counts().sent;
        eventually(Duration::from_secs(30), async || if sent() >= 10 { Ok(()) } else { Err(sent()) }).await;
        cancel.cancel();
    };
    let running =
        async { tokio::join!(loadtest::run(&mut clients, &job, &progress, &cancel), cancel_soon).0 };
    let run = tokio::time::timeout(Duration::from_secs(120), running).await.expect("the run ends").unwrap();

    assert!((10..run.planned).contains(&run.records.len()), "{} sent", run.records.len());
    assert_eq!(run.planned, 100_000);
    assert_eq!(progress.counts(), run.counts());
    assert_eq!(progress.counts().accepted, run.records.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_added_while_requests_are_due_and_all_are_busy() {
    const TOGETHER: u64 = 60;
    // Nobody is answered until 60 requests are under way at once: with two connections the run would never end.
    let under_way = Arc::new(watch::Sender::new(0));
    let answer = async move |headers: HeaderMap| {
        under_way.send_modify(|count| *count += 1);
        under_way.subscribe().wait_for(|count| *count >= TOGETHER).await.unwrap();
        order(StatusCode::ACCEPTED, order_id(user(&headers)), "queued")
    };
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let timeout = Duration::from_secs(60);
    let mut clients = Clients::connect_with(target, 2, timeout).await.unwrap().growing_to(150);
    let job = job(plan(200, Duration::from_millis(1_000)));
    let (progress, cancel) = (Progress::shared(), CancellationToken::new());
    let run = loadtest::run(&mut clients, &job, &progress, &cancel).await.unwrap();
    assert_eq!(run.counts().accepted, 200, "{:?}", run.connection_error);
    assert!((60..=150).contains(&run.connections), "{} connections", run.connections);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_run_sends_as_fast_as_it_is_answered_and_ends_by_number_or_time() {
    let answer = async |headers: HeaderMap| order(StatusCode::ACCEPTED, order_id(user(&headers)), "queued");
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let mut clients = Clients::connect(target, 4).await.unwrap();
    let (progress, cancel) = (Progress::shared(), CancellationToken::new());
    let closed = |lasts| Plan::new(Arrivals::Closed { buyers: 50, lasts }, 100);
    let by_number = job(Plan { requests: Some(120), ..closed(None) });
    let run = loadtest::run(&mut clients, &by_number, &progress, &cancel).await.unwrap();
    assert_eq!((run.records.len(), run.planned), (120, 120));
    assert_eq!(run.records.iter().filter(|record| record.slot.repeat).count(), 70, "50 buyers, then again");
    let run = loadtest::run(&mut clients, &job(closed(Some(SHORT))), &progress, &cancel).await.unwrap();
    assert!(run.duration >= SHORT, "{:?}", run.duration);
    assert!(run.records.iter().all(|record| record.slot.due() < SHORT), "a request left after the end");
    assert!(run.records.len() > 4, "{} requests: no connection was used again", run.records.len());
}

const SHORT: Duration = Duration::from_secs(1);
