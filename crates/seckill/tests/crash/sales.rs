//! Sales that are created and changed while replies are lost and gateways die between the steps.

use std::time::Duration;

use seckill_client::{Error, Made, ProblemKind, SalePatch, SaleView};
use seckill_core::{AbortPoint, NewSale, SaleId, now};
use seckill_testkit::eventually;
use seckill_testkit::proxy::{Direction, FaultProxy, Flow};
use serde_json::{Value, json};

use crate::bed::{Bed, GATEWAY, HEALED, died, turn};
use crate::buyers::Buyers;
use crate::check::{check, ready};
use crate::process::{Role, refusal, run, text};

const STOCK: u32 = 60;
const RAISED: u32 = 80;
const USERS: u64 = 80;
const PAUSE: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3_600);

fn new_sale() -> NewSale {
    let sale = json!({"name": "test", "stock": STOCK, "starts_at": now() - HOUR, "ends_at": now() + HOUR});
    serde_json::from_value(sale).unwrap()
}

/// Sends the request once.
async fn create(gateway: &Role, key: &str, sale: &NewSale) -> Result<Made<SaleView>, Error> {
    gateway.admin().create_sale_once(sale, Some(key)).await
}

async fn sales(gateway: &Role) -> usize {
    gateway.client().sales().await.unwrap().sales.len()
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
    let body = new_sale();
    let lose = || proxy.set(Direction::ToServer, Flow::CutReplyTo("COMMIT"));
    lose();
    // A new connection is cut, too, because its session is READ COMMITTED: then nothing was created, and the answer says so.
    let refused = loop {
        let refused = refusal(create(&gateway, "one", &body).await);
        if refused != ProblemKind::Unavailable {
            break refused;
        }
    };
    assert_eq!(refused, ProblemKind::SaleUnknown);
    proxy.set(Direction::ToServer, Flow::Pass);
    assert!(create(&gateway, "one", &body).await.unwrap().replayed);
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
    let body = new_sale();
    let lost = create(&victim, "one", &body).await;
    assert!(matches!(lost, Err(Error::AnswerLost { .. })), "{} was passed: {lost:?}", point.name());
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    let made = create(&fresh, "one", &body).await.unwrap();
    assert!(made.replayed, "{made:?}");
    let sale = made.value.sale.id.0;
    eventually(HEALED, async || match fresh.sale(sale).await.sale {
        shown if shown.epoch == 1 => Ok(()),
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
    let raise = SalePatch { stock: Some(RAISED), ..SalePatch::default() };
    let answer = victim.admin().change_sale(SaleId(sale), &raise).await;
    assert!(matches!(answer, Err(Error::AnswerLost { .. })), "{answer:?}");
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
