#![allow(warnings)]
use seckill_cluster::*;
use seckill_core::*;
use std::time::{Duration, Instant};
fn claim(user: u64) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(user), quantity: 1, accepted_at: now() }
}
#[tokio::test(flavor = "multi_thread")]
async fn speed() {
    let n = std::env::var("SET").unwrap();
    let mysql = format!("mysql://root@127.0.0.1:1350{n}/speed?ssl-mode=disabled");
    let b = connect(&ClusterConfig {
        redis_url: format!("redis://127.0.0.1:1650{n}"),
        amqp_url: format!("amqp://127.0.0.1:1550{n}"),
        mysql_url: mysql.clone(),
        redis_pool_size: 8,
    })
    .unwrap();
    migrate(&mysql).await.unwrap();
    for (lanes, size) in [(1, 1), (1, 100), (1, 500), (2, 500), (2, 1000)] {
        let sale = b
            .ledger
            .create_sale(&NewSale {
                name: "x".into(),
                product: None,
                stock: 1_000_000,
                price_cents: 1,
                currency: "USD".into(),
                per_user_limit: 1,
                starts_at: now() - Duration::from_secs(9),
                ends_at: now() + Duration::from_secs(9999),
            })
            .await
            .unwrap();
        let t = Instant::now();
        let total = if size == 1 { 500 } else { 50_000 };
        let tasks: Vec<_> = (0..lanes)
            .map(|lane| {
                let b = b.clone();
                let id = sale.id;
                tokio::spawn(async move {
                    let mut w = b.ledger.writer().await.unwrap();
                    for i in 0..total / lanes / size {
                        let orders: Vec<_> = (0..size)
                            .map(|u| Order { sale_id: id, claim: claim(lane * 1_000_000 + i * size + u) })
                            .collect();
                        assert!(w.commit(&orders).await.unwrap().iter().all(|f| *f == Fate::Committed));
                    }
                })
            })
            .collect();
        for l in tasks {
            l.await.unwrap();
        }
        println!("{lanes} lanes x {size}: commit {:.0} orders/s", total as f64 / t.elapsed().as_secs_f64());
    }
}
