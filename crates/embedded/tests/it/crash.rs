//! A process that is killed in the midst of its work.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use seckill_core::{OrderId, Verdict};
use seckill_embedded::OpenError;

use crate::harness::*;

const VICTIM: &str = "SECKILL_TEST_VICTIM_DIR";
const STOCK: u32 = 20_000;

/// The test starts itself a second time, as the process that is to be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_that_was_accepted_survives_a_kill() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return sell_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::everything_that_was_accepted_survives_a_kill", "--nocapture"])
        .env(VICTIM, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut accepted: Vec<OrderId> = lines.by_ref().filter_map(|line| line.parse().ok()).take(1).collect();
    let refused = seckill_embedded::open(dir.path()).await.err().expect("the other process has it");
    accepted.extend(lines.by_ref().filter_map(|line| line.parse::<OrderId>().ok()).take(3_000));
    victim.kill().unwrap();
    victim.wait().unwrap();
    // What it had said before it was killed counts as well.
    accepted.extend(lines.filter_map(|line| line.parse::<OrderId>().ok()));
    assert!(accepted.len() > 3_000, "it ended too early, after {} orders", accepted.len());
    assert!(matches!(&refused, OpenError::InUse { holder, .. } if holder.contains(&victim.id().to_string())));

    let backend = open(dir.path()).await;
    let sale = backend.ledger.sales(1).await.unwrap().remove(0);
    let report = audit(&backend, sale.id).await;
    assert_ne!(report.verdict, Verdict::Violated, "{report:?}");
    drain(&backend).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
    for id in &accepted {
        assert!(backend.ledger.order(*id).await.unwrap().is_some(), "order {id} was accepted and is lost");
    }

    // The rest of the stock sells to the last unit and no further.
    let claims: Vec<_> = (1_000_000..1_000_000 + u64::from(STOCK)).map(claim).collect();
    let mut sold: HashSet<_> = accepted.into_iter().collect();
    for claims in claims.chunks(256) {
        sold.extend(accept(&backend, &sale, claims).await.iter().map(|claim| claim.order_id));
    }
    drain(&backend).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.sold), (Verdict::Clean, u64::from(STOCK)), "{report:?}");
    assert!(sold.len() <= STOCK as usize);
}

/// Four lanes and a worker; every order that may be called accepted is said on stdout.
async fn sell_until_killed(dir: &Path) {
    let backend = Arc::new(open(dir).await);
    let sale = Arc::new(opened_sale(&backend, STOCK).await);
    for lane in 0..4_u64 {
        let (backend, sale) = (Arc::clone(&backend), Arc::clone(&sale));
        tokio::spawn(async move {
            for first in (0..).step_by(8) {
                let claims: Vec<_> = (first..first + 8).map(|n| claim(n * 4 + lane)).collect();
                for order in accept(&backend, &sale, &claims).await {
                    println!("{}", order.order_id);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let mut writer = backend.ledger.writer().await.expect("a writer");
    let mut consumer = backend.queue.consumer(10).await.expect("a consumer");
    loop {
        // Slower than the lanes, so that the kill finds orders in the queue.
        let delivery = next(&mut consumer).await;
        let orders: Vec<_> = delivery.batch.into_orders().collect();
        writer.commit(&orders).await.expect("the ledger takes it");
        consumer.ack(delivery.tag).await.expect("the queue takes it");
    }
}
