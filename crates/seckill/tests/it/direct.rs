//! A gateway in direct mode on the real database: every order a transaction of its own, nothing oversold, and no other
//! server needed.

use std::collections::HashMap;
use std::time::Duration;

use loadtest::Kind;
use seckill_client::{DependencyStatus, ProblemKind, Readiness};
use seckill_core::{Mode, Verdict};

use crate::fleet::{promised, send};
use crate::process::{Urls, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_gateway_sells_out_without_redis_rabbitmq_and_a_worker() {
    const STOCK: u64 = 300;
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    // No server listens there.
    let nowhere = Urls {
        redis: "redis://127.0.0.1:1/0".to_owned(),
        amqp: "amqp://guest:guest@127.0.0.1:1/%2f".to_owned(),
        ..urls.clone()
    };
    let gateway = nowhere.gateway(&["--mode", "direct"]).await;
    let sale = serde_json::json!({"name": "test", "stock": STOCK, "ends_at": "2999-01-01T00:00:00Z"});
    let sale = serde_json::from_value(sale).unwrap();
    let sale = gateway.admin().create_sale_once(&sale, None).await.unwrap().value.sale;
    assert_eq!(sale.mode, Mode::Direct, "{sale:?}");
    let id = sale.id.0;
    // A gateway in queue mode, which does not sell the sales of direct gateways.
    let other = urls.gateway(&[]).await;

    let run = send(&gateway.url(), id, 1, 1_000, Duration::from_secs(1)).await;
    let mut kinds: HashMap<Kind, usize> = HashMap::new();
    for record in &run.records {
        *kinds.entry(record.outcome.kind()).or_default() += 1;
    }
    assert_eq!(kinds.get(&Kind::Accepted), Some(&(STOCK as usize)), "{kinds:?}");
    let odd = kinds.keys().any(|kind| !matches!(kind, Kind::Accepted | Kind::Replayed | Kind::SoldOut));
    assert!(!odd, "{kinds:?}");

    let promised = promised(&[run]);
    assert_eq!(promised.len() as u64, STOCK);
    assert_eq!(refusal(other.order(id, 5_000).await), ProblemKind::Unavailable);
    for gateway in [&gateway, &other] {
        let report = gateway.audit_at_rest(id).await;
        assert_eq!(
            (report.verdict, report.sold, report.duplicates),
            (Verdict::GateMissing, STOCK, 0),
            "{report:?}"
        );
        assert!(report.findings.is_empty(), "{report:?}");
    }
    let ledger = urls.backend().ledger;
    for order in promised {
        let found = ledger.order(seckill_core::OrderId(order)).await.unwrap();
        assert!(found.is_some_and(|order| order.rejected.is_none()), "order {order} has no row");
    }
    let ready = gateway.client().readiness().await.unwrap();
    assert!(matches!(ready.status, Readiness::Ready | Readiness::Degraded), "{ready:?}");
    assert_eq!(ready.dependencies["ledger"].status, DependencyStatus::Up, "{ready:?}");
}
