//! Sales that are created and changed while replies are lost and gateways die between the steps.

use std::time::Duration;

use seckill_core::{AbortPoint, SaleId, now};
use seckill_testkit::eventually;
use seckill_testkit::proxy::{Direction, FaultProxy, Flow};
use serde_json::{Value, json};

use crate::bed::{Bed, GATEWAY, HEALED, died, turn};
use crate::buyers::Buyers;
use crate::check::{check, ready};
use crate::process::{ADMIN_TOKEN, Role, run, text};

const STOCK: u32 = 60;
const RAISED: u32 = 80;
const USERS: u64 = 80;
const PAUSE: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3_600);

fn body() -> Value {
    json!({
        "name": "test", "stock": STOCK,
        "starts_at": now() - HOUR, "ends_at": now() + HOUR,
    })
}

/// The answer, or `None` where the gateway died before it gave one.
async fn create(gateway: &Role, key: &str, body: &Value) -> Option<(u16, bool, Value)> {
    let request =
        reqwest::Client::new().post(format!("{}/api/v1/sales", gateway.url())).bearer_auth(ADMIN_TOKEN);
    let answer = request.header("idempotency-key", key).json(body).send().await.ok()?;
    let (status, replayed) = (answer.status().as_u16(), answer.headers().contains_key("idempotent-replayed"));
    Some((status, replayed, answer.json().await.unwrap()))
}

async fn sales(gateway: &Role) -> usize {
    gateway.get("/api/v1/sales").await.1["sales"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_to_commit_opens_no_second_sale() {
    let _turn = turn("a_lost_reply_to_commit_opens_no_second_sale").await;
    let bed = Bed::start().await;
    let proxy = FaultProxy::start(&bed.urls.mysql).await;
    let mut urls = bed.urls.clone();
    urls.mysql = proxy.url(&urls.mysql);
    let gateway = urls.gateway(GATEWAY).await;
    ready(&gateway).await;
    let body = body();
    let lose = || proxy.set(Direction::ToServer, Flow::CutReplyTo("COMMIT"));
    lose();
    // A new connection is cut, too, because its session is READ COMMITTED: then nothing was created, and the answer says so.
    let (status, _, problem) = loop {
        let answer = create(&gateway, "one", &body).await.unwrap();
        if answer.2["type"] != "/problems/unavailable" {
            break answer;
        }
    };
    assert_eq!((status, &problem["type"]), (503, &json!("/problems/sale-unknown")), "{problem}");
    proxy.set(Direction::ToServer, Flow::Pass);
    let (status, replayed, sale) = create(&gateway, "one", &body).await.unwrap();
    assert_eq!((status, replayed), (201, true), "{sale}");
    // The command line sends the same again by itself.
    lose();
    let server = gateway.url();
    let command = ["sale", "create", "--name", "by command", "--stock", "5", "--json", "--server", &server];
    let backend = bed.urls.backend();
    let heal = async {
        let both = eventually(HEALED, async || match backend.ledger.sales(3).await.unwrap().len() {
            2 => Ok(()),
            other => Err(other),
        });
        both.await;
        proxy.set(Direction::ToServer, Flow::Pass);
    };
    let (created, ()) = tokio::join!(run(&command), heal);
    assert!(created.status.success(), "{}", text(&created));
    let stderr = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(stderr.contains("trying again with the same key"), "{stderr}");
    let shown: Value = serde_json::from_slice(&created.stdout).unwrap();
    assert_eq!(shown["name"], "by command");
    eventually(HEALED, async || match sales(&gateway).await {
        2 => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Killed between the ledger and the gate: the same key finds the sale, and any gateway fills its gate.
pub(crate) async fn gateway_dies_creating(point: AbortPoint) {
    let bed = Bed::start().await;
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    let _worker = bed.urls.worker(&[]).await;
    let body = body();
    assert!(create(&victim, "one", &body).await.is_none(), "{} was passed", point.name());
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    let (status, replayed, sale) = create(&fresh, "one", &body).await.unwrap();
    assert_eq!((status, replayed), (201, true), "{sale}");
    let sale = sale["id"].as_u64().unwrap();
    eventually(HEALED, async || match fresh.get(&format!("/api/v1/sales/{sale}")).await {
        (200, shown) if shown["epoch"] == 1 => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(sales(&fresh).await, 1);
    let buyers = Buyers::of(sale, &[&fresh]);
    buyers.ordering(1..=USERS, PAUSE).await.unwrap();
    assert_eq!(check(&bed.urls, &fresh, sale, STOCK, &buyers).await, STOCK);
}

/// Killed between the ledger and the gate: another gateway brings the new units to the gate, once.
pub(crate) async fn gateway_dies_changing(point: AbortPoint) {
    let bed = Bed::start().await;
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    let _worker = bed.urls.worker(&[]).await;
    let sale = victim.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&victim]);
    buyers.ordering(1..=USERS, PAUSE).await.unwrap();
    let patch = reqwest::Client::new().patch(format!("{}/api/v1/sales/{sale}", victim.url()));
    let answer = patch.bearer_auth(ADMIN_TOKEN).json(&json!({"stock": RAISED})).send().await;
    assert!(answer.is_err(), "{answer:?}");
    died(&mut victim, point).await;
    let others = [bed.urls.gateway(GATEWAY).await, bed.urls.gateway(GATEWAY).await];
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    eventually(HEALED, async || match backend.gate.level(SaleId(sale)).await.unwrap() {
        Some(level) if level.remaining == RAISED - STOCK => Ok(()),
        level => Err(level),
    })
    .await;
    buyers.send_to(&[&others[0], &others[1]]);
    buyers.ordering(USERS + 1..=2 * USERS, PAUSE).await.unwrap();
    assert_eq!(check(&bed.urls, &others[0], sale, RAISED, &buyers).await, RAISED);
}
