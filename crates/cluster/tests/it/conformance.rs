//! The contract of the ports, which every back end has to keep.

use seckill_cluster::ClusterConfig;
use seckill_testkit::conformance::Subject;

async fn subject() -> Subject {
    let servers = seckill_testkit::cluster().await;
    seckill_cluster::migrate(&servers.mysql_url).await.expect("an empty database can be migrated");
    Subject::open(move || {
        let config = ClusterConfig {
            redis_url: servers.redis_url.clone(),
            amqp_url: servers.amqp_url.clone(),
            mysql_url: servers.mysql_url.clone(),
            redis_pool_size: 8,
            gate_durable: false,
        };
        async move { seckill_cluster::connect(&config).expect("the addresses can be used") }
    })
    .await
}

seckill_testkit::conformance!(subject);
