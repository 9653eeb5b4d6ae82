//! The queue on Redis Streams, in a Redis of its own: processes die between the queue and the gate or the ledger, and the queue loses
//! what it has.

use seckill_core::AbortPoint;
use tokio::task::{JoinSet, LocalSet};

use crate::abort_points::{
    BUSY, gateway_dies_reconciling, gateway_dies_under_load, rebuild_owner_dies, recoverer_dies,
    worker_dies_before_it_releases, worker_dies_under_load,
};
use crate::bed::{Bed, turn};
use crate::queue::loses_what_waits;

/// Beside a call of the queue: after a message is published, before and after one is acknowledged, and where one is sent again.
const POINTS: [AbortPoint; 8] = [
    AbortPoint::PublishAfter,
    AbortPoint::RecoverPublished,
    AbortPoint::LedgerCommitted,
    AbortPoint::AckBefore,
    AbortPoint::AckAfter,
    AbortPoint::ReleaseBefore,
    AbortPoint::RebuildDrained,
    AbortPoint::ReconcileSent,
];

#[tokio::test(flavor = "multi_thread")]
async fn abort_points_on_redis_streams() {
    let _turn = turn("abort_points_on_redis_streams").await;
    let all = async {
        let mut tasks = JoinSet::new();
        for point in POINTS {
            tasks.spawn_local(exercise(point));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(all).await;
}

async fn exercise(point: AbortPoint) {
    use AbortPoint as P;
    let _busy = BUSY.acquire().await;
    let bed = Bed::on_streams().await;
    match point {
        P::PublishAfter => gateway_dies_under_load(bed, point).await,
        P::RecoverPublished => recoverer_dies(bed, point).await,
        P::ReleaseBefore => worker_dies_before_it_releases(bed, point).await,
        P::RebuildDrained => rebuild_owner_dies(bed, point).await,
        P::ReconcileSent => gateway_dies_reconciling(bed, point).await,
        _ => worker_dies_under_load(bed, point).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_of_the_queue_restarted_empty() {
    let _turn = turn("redis_of_the_queue_restarted_empty").await;
    let bed = Bed::on_streams().await;
    loses_what_waits(&bed.urls, false, async || bed.lose_queue().await).await;
}
