//! The queue on Redis Streams, in a Redis of its own: the gate loses everything while orders wait in the queue.

use std::time::Duration;

use seckill_client::ProblemKind;
use seckill_core::Verdict;
use seckill_testkit::eventually;

use crate::process::{Urls, accepted, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_gate_is_rebuilt_from_a_queue_on_another_redis() {
    let (cluster, redis) = tokio::join!(seckill_testkit::cluster(), seckill_testkit::redis());
    let urls = Urls { queue_redis: Some(redis.url.clone()), ..Urls::from(&cluster) };
    urls.migrate().await;
    let gateway = urls.gateway(&[]).await;
    let sale = gateway.open_sale(100).await;
    for user in 1..=20 {
        accepted(gateway.order(sale, user).await);
    }
    // No worker has taken them yet: they are in the queue alone.
    cluster.flush_redis().await;
    assert_eq!(refusal(gateway.order(sale, 21).await), ProblemKind::Rebuilding);
    let _worker = urls.worker(&[]).await;
    eventually(Duration::from_secs(90), async || gateway.order(sale, 21).await).await;
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
    for user in 1..=21 {
        assert!(gateway.order(sale, user).await.unwrap().replayed, "user {user} has an order");
    }
    assert!(!gateway.log().contains("gate and queue are on one Redis"));
}
