//! Redis loses everything, loses the newest second, or refuses to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seckill_testkit::eventually;
use serde_json::Value;

use crate::bed::{Bed, GATEWAY, HEALED, Servers, turn};
use crate::buyers::Buyers;
use crate::check::{check, sell_out, unready};
use crate::process::{Role, Urls};

const STOCK: u32 = 400;
const USERS: u64 = 500;
const PAUSE: Duration = Duration::from_millis(6);

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_under_load() {
    let _turn = turn("redis_flushed_under_load").await;
    let bed = Bed::start().await;
    loses_everything(&bed.urls, async || bed.cluster.flush_redis().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_empty_under_load() {
    let _turn = turn("redis_restarted_empty_under_load").await;
    let servers = Servers::start().await;
    loses_everything(&servers.urls, async || servers.redis.restart_empty().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_with_its_data_under_load() {
    let _turn = turn("redis_restarted_with_its_data_under_load").await;
    let servers = Servers::start().await;
    loses_everything(&servers.urls, async || servers.redis.restart().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_redis_is_trusted_after_a_restart() {
    let _turn = turn("durable_redis_is_trusted_after_a_restart").await;
    let servers = Servers::start().await;
    servers.redis.config_set("appendfsync", "always").await;
    let durable = ["--stranded-after", "1s", "--order-rate-limit", "0", "--gate-durable"];
    let gateway = servers.urls.gateway(&durable).await;
    let _worker = servers.urls.worker(&["--gate-durable"]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    eventually(HEALED, async || {
        let promised = buyers.promised().len();
        if promised >= 150 { Ok(()) } else { Err(promised) }
    })
    .await;
    servers.redis.restart().await;
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    let shown = gateway.sale(sale).await.sale;
    assert_eq!((shown.epoch, buyers.refusals("rebuilding")), (1, 0), "{shown:?}");
}

/// Two gateways and two workers, and a gate that vanishes in the middle: it is rebuilt, and every unit is sold.
async fn loses_everything(urls: &Urls, lose: impl AsyncFnOnce()) {
    let gateways = [urls.gateway(GATEWAY).await, urls.gateway(GATEWAY).await];
    let slow = ["--drain-rate", "200"];
    let _workers = [urls.worker(&slow).await, urls.worker(&slow).await];
    let sale = gateways[0].open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateways[0], &gateways[1]]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    eventually(HEALED, async || {
        let promised = buyers.promised().len();
        if promised >= 150 { Ok(()) } else { Err(promised) }
    })
    .await;
    lose().await;
    let looking = Looking::begin(&buyers, &gateways[1]);
    let path = format!("/api/v1/sales/{sale}");
    let shown = eventually(HEALED, async || {
        let (status, shown) = gateways[0].get(&path).await;
        if shown["state"] == "rebuilding" { Ok(shown) } else { Err((status, shown)) }
    })
    .await;
    assert!(shown["rebuild"]["step"].is_string(), "{shown}");
    let report = unready(&gateways[0]).await;
    assert!(report["sales"].as_str().is_some_and(|text| text.contains("rebuilt")), "{report}");
    load.await.unwrap();
    looking.end().await;
    assert!(buyers.refusals("rebuilding") > 0);
    let (_, shown) = gateways[0].get(&path).await;
    assert_eq!((&shown["state"], shown["epoch"].as_u64() > Some(1)), (&Value::from("open"), true), "{shown}");
    buyers.retry_all().await;
    sell_out(&buyers, USERS + 1).await;
    assert_eq!(check(urls, &gateways[1], sale, STOCK, &buyers).await, STOCK);
}

/// Holders who look their orders up all the time: they are never told that there is none.
struct Looking {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Looking {
    fn begin(buyers: &Arc<Buyers>, gateway: &Role) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (buyers, url, stopped) = (Arc::clone(buyers), gateway.url(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (order, user) in buyers.promised() {
                    let (status, body) = buyers.look_up(&url, user, order).await;
                    assert!(matches!(status, 200 | 503 | 429), "user {user}, order {order}: {status} {body}");
                    looks += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            looks
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_without_the_end_of_its_file() {
    let _turn = turn("redis_restarted_without_the_end_of_its_file").await;
    let servers = Servers::start().await;
    let gateway = servers.urls.gateway(GATEWAY).await;
    let _worker = servers.urls.worker(&["--drain-rate", "50"]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    eventually(HEALED, async || {
        let promised = buyers.promised().len();
        if promised >= 250 { Ok(()) } else { Err(promised) }
    })
    .await;
    servers.redis.kill().await;
    // About half of all orders, of which most wait in the queue.
    servers.redis.cut_append_only_file(servers.redis.append_only_bytes() / 2);
    servers.redis.start_again().await;
    load.await.unwrap();
    buyers.retry_all().await;
    sell_out(&buyers, USERS + 1).await;
    assert_eq!(check(&servers.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    let backend = servers.urls.backend();
    let sale = backend.ledger.sale(seckill_core::SaleId(sale)).await.unwrap().unwrap();
    assert_eq!(sale.rejected_orders, 0, "{sale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_refuses_to_write() {
    let _turn = turn("redis_refuses_to_write").await;
    let servers = Servers::start().await;
    let gateway = servers.urls.gateway(GATEWAY).await;
    let _worker = servers.urls.worker(&[]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=50, PAUSE).await.unwrap();
    for (round, read_only) in [(1, true), (2, false)] {
        if read_only {
            servers.redis.set_read_only(true).await;
        } else {
            servers.redis.set_max_memory(1).await;
        }
        let seen = buyers.refusals("unavailable");
        let load = buyers.ordering(round * 100..=round * 100 + 40, PAUSE);
        let report = unready(&gateway).await;
        assert_eq!(report["dependencies"]["gate"]["status"], "down", "{report}");
        eventually(HEALED, async || {
            let refused = buyers.refusals("unavailable") - seen;
            if refused > 40 { Ok(()) } else { Err(refused) }
        })
        .await;
        if read_only {
            servers.redis.set_read_only(false).await;
        } else {
            servers.redis.set_max_memory(0).await;
        }
        load.await.unwrap();
        buyers.retry_all().await;
    }
    let sold = check(&servers.urls, &gateway, sale, STOCK, &buyers).await;
    assert_eq!(sold, 50 + 41 + 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_databases_share_one_redis() {
    let _turn = turn("two_databases_share_one_redis").await;
    let one = Bed::start().await;
    let other = Bed::start().await;
    let urls = Urls { redis: one.urls.redis.clone(), ..other.urls.clone() };
    let beds = [&one.urls, &urls];
    let mut all = Vec::new();
    for urls in beds {
        let gateway = urls.gateway(GATEWAY).await;
        let worker = urls.worker(&[]).await;
        let sale = gateway.open_sale(100).await;
        let buyers = Buyers::of(sale, &[&gateway]);
        all.push((gateway, worker, sale, buyers));
    }
    assert_eq!(all[0].2, all[1].2, "the same id in both databases");
    let loads: Vec<_> = all.iter().map(|(_, _, _, buyers)| buyers.ordering(1..=130, PAUSE)).collect();
    for load in loads {
        load.await.unwrap();
    }
    for ((gateway, _, sale, buyers), urls) in all.iter().zip(beds) {
        assert_eq!(check(urls, gateway, *sale, 100, buyers).await, 100);
    }
    let ids = |at: usize| all[at].3.promised();
    assert!(ids(0).keys().all(|id| !ids(1).contains_key(id)));
}
