//! RabbitMQ loses what it had, or takes nothing more.

use std::time::Duration;

use seckill_client::AuditView;
use seckill_core::{AuditReport, SaleId, Verdict};
use seckill_testkit::{Alarm, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bed::{Bed, GATEWAY, HEALED, QUEUE, Servers, turn};
use crate::buyers::Buyers;
use crate::check::{audit_now, check, ready, unready};
use crate::process::{Role, Urls, run};

const STOCK: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);
/// Orders that wait in the queue when it is lost.
const WAITING: u64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn queue_purged() {
    let _turn = turn("queue_purged").await;
    let bed = Bed::start().await;
    loses_what_waits(&bed.urls, true, async || bed.cluster.vhost().purge_queue(QUEUE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_deleted() {
    let _turn = turn("queue_deleted").await;
    let bed = Bed::start().await;
    loses_what_waits(&bed.urls, false, async || bed.cluster.vhost().delete_queue(QUEUE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_restarted_empty() {
    let _turn = turn("rabbitmq_restarted_empty").await;
    let servers = Servers::start().await;
    loses_what_waits(&servers.urls, false, async || servers.rabbit.restart_empty().await).await;
}

/// Orders that were answered with 202 and are lost with the queue are sent again from the gate; before that the audit calls them
/// lost. With `worker_away` there is no worker when they are sent again: they do not arrive, and the gauge keeps its value.
pub(crate) async fn loses_what_waits(urls: &Urls, worker_away: bool, lose: impl AsyncFnOnce()) {
    let mut first = urls.gateway(GATEWAY).await;
    let sale = first.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&first]);
    buyers.ordering(1..=WAITING, PAUSE).await.unwrap();
    let (code, report) = audit_now(&first, sale).await;
    assert_eq!((code, report.verdict), (Some(0), Verdict::InFlight), "{report:?}");
    lose().await;
    let mut worker = urls.worker(&[]).await;
    // A marker has to come through before anything is known. Then no gateway is there that would send them again at once.
    let backend = urls.backend();
    backend.ledger.id().await.unwrap();
    let progress = async || backend.gate.progress(SaleId(sale)).await.unwrap().unwrap();
    eventually(HEALED, async || {
        let progress = progress().await;
        let passed = progress.marker.is_some_and(|(made, _)| made > progress.last_set_aside_ms);
        if passed && progress.oldest_held_ms.is_none() { Ok(()) } else { Err(progress) }
    })
    .await;
    first.kill().await;
    eventually(HEALED, async || {
        let progress = progress().await;
        if progress.nothing_can_arrive() { Ok(()) } else { Err(progress) }
    })
    .await;
    // Read before the next gateway is there: its first look already sends them again.
    let report = AuditReport::read(&backend, SaleId(sale)).await.unwrap().unwrap();
    assert_eq!((report.verdict, report.lost), (Verdict::Lost, WAITING), "{report:?}");
    assert_eq!(exit_code_of_an_audit(&report).await, Some(3));
    if worker_away {
        worker.kill().await;
    }
    let second = urls.gateway(GATEWAY).await;
    if worker_away {
        lost_orders(&second, WAITING).await;
        worker = urls.worker(&[]).await;
        lost_orders(&second, 0).await;
    }
    buyers.send_to(&[&second]);
    assert_eq!(u64::from(check(urls, &second, sale, STOCK, &buyers).await), WAITING);
    buyers.retry_all().await;
    drop(worker);
}

/// Waits until the gauge of lost orders says so many.
async fn lost_orders(gateway: &Role, expected: u64) {
    let expected = format!("seckill_lost_orders {expected}");
    eventually(HEALED, async || {
        let metrics = gateway.client().metrics().await.unwrap();
        let shown = metrics.lines().find(|line| line.starts_with("seckill_lost_orders ")).map(str::to_owned);
        if shown.as_ref() == Some(&expected) { Ok(()) } else { Err(shown) }
    })
    .await;
}

/// The exit code of `seckill audit` where the gateway's answer is `report`.
async fn exit_code_of_an_audit(report: &AuditReport) -> Option<i32> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let view = AuditView { report: report.clone(), as_of: seckill_core::now() };
    let body = serde_json::to_string(&view).unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let serve = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4_096];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].ends_with(b"\r\n\r\n"), "not a whole request head");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let sale = report.sale_id.to_string();
    let audit = ["audit", &sale, "--server", &server];
    tokio::select! {
        output = run(&audit) => output.status.code(),
        () = serve => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_restarted_with_its_data_under_load() {
    let _turn = turn("rabbitmq_restarted_with_its_data_under_load").await;
    let servers = Servers::start().await;
    let gateway = servers.urls.gateway(GATEWAY).await;
    let _worker = servers.urls.worker(&["--drain-rate", "30"]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=u64::from(STOCK) + 20, 4 * PAUSE);
    eventually(HEALED, async || {
        let promised = buyers.promised().len() as u64;
        if promised >= WAITING { Ok(()) } else { Err(promised) }
    })
    .await;
    servers.rabbit.restart().await;
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}

/// Longer than everything after which an order could be taken for lost.
const NO_WORKER: Duration = Duration::from_secs(80);

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_wait_for_a_worker_are_not_called_lost() {
    let _turn = turn("orders_that_wait_for_a_worker_are_not_called_lost").await;
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=WAITING, PAUSE).await.unwrap();
    let end = tokio::time::Instant::now() + NO_WORKER;
    while tokio::time::Instant::now() < end {
        let (code, report) = audit_now(&gateway, sale).await;
        assert_eq!((code, report.verdict), (Some(0), Verdict::InFlight), "{report:?}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let backend = bed.urls.backend();
    let messages = backend.queue.depth().await.unwrap().ready_batches;
    assert!(messages <= WAITING + 20, "{messages} messages wait, orders and a marker every 5 s");
    let _worker = bed.urls.worker(&[]).await;
    assert_eq!(u64::from(check(&bed.urls, &gateway, sale, STOCK, &buyers).await), WAITING);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_at_its_length_limit() {
    let _turn = turn("queue_at_its_length_limit").await;
    let bed = Bed::start().await;
    let (lanes, batch) = (2, 5);
    let few = ["--lanes", "2", "--intake-batch", "5", "--stranded-after", "10s", "--order-rate-limit", "0"];
    let gateway = bed.urls.gateway(&few).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=10, PAUSE).await.unwrap();
    bed.cluster.vhost().limit_queue(QUEUE, 1).await;
    let load = buyers.ordering(11..=STOCK.into(), PAUSE);
    let report = unready(&gateway).await;
    let reason = &report["dependencies"]["queue"]["reason"];
    assert!(reason.as_str().is_some_and(|reason| reason.contains("limit")), "{report}");
    eventually(HEALED, async || {
        let refused = buyers.refusals("unavailable");
        if refused > 150 { Ok(()) } else { Err(refused) }
    })
    .await;
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    let level = backend.gate.level(SaleId(sale)).await.unwrap().unwrap();
    let unconfirmed = level.orders - buyers.promised().len() as u64;
    assert!(unconfirmed <= lanes * batch, "{level:?}, {} promised", buyers.promised().len());
    bed.cluster.vhost().unlimit_queue(QUEUE).await;
    let _worker = bed.urls.worker(&[]).await;
    load.await.unwrap();
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_raises_alarms_at_the_peak() {
    let _turn = turn("rabbitmq_raises_alarms_at_the_peak").await;
    let servers = Servers::start().await;
    let gateway = servers.urls.gateway(GATEWAY).await;
    let _worker = servers.urls.worker(&[]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    for (round, alarm) in [(0, Alarm::Memory), (1, Alarm::Disk)] {
        let load = buyers.ordering(round * 50 + 1..=round * 50 + 50, 8 * PAUSE);
        eventually(HEALED, async || {
            let promised = buyers.promised().len() as u64;
            if promised >= round * 50 + 5 { Ok(()) } else { Err(promised) }
        })
        .await;
        servers.rabbit.set_alarm(alarm, true).await;
        // RabbitMQ blocks a connection only when it publishes.
        let late = buyers.ordering(1_000 * (round + 1)..=1_000 * (round + 1) + 10, PAUSE);
        let report = unready(&gateway).await;
        assert_eq!(report["dependencies"]["queue"]["status"], "down", "{report}");
        servers.rabbit.set_alarm(alarm, false).await;
        load.await.unwrap();
        late.await.unwrap();
        ready(&gateway).await;
    }
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}
