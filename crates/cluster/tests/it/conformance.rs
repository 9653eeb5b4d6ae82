//! The contract of the ports, which every back end has to keep.

use seckill_cluster::ClusterConfig;
use seckill_testkit::conformance::Subject;

/// The rights in Redis that the Compose stack gives to the program.
fn rights() -> &'static str {
    let line = include_str!("../../../../deploy/secrets.sh")
        .lines()
        .find_map(|line| line.strip_prefix("user app on "));
    let (_password, rights) =
        line.and_then(|line| line.split_once(' ')).expect("the script makes a user app");
    rights
}

/// A subject whose user in Redis may do what the Compose stack allows, and nothing else.
async fn subject() -> Subject {
    let servers = seckill_testkit::cluster().await;
    let redis_url = servers.redis_url_with(rights()).await;
    seckill_cluster::migrate(&servers.mysql_url).await.expect("an empty database can be migrated");
    Subject::open(move || {
        let config = ClusterConfig {
            redis_url: redis_url.clone(),
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

/// Commands that the client sends by itself.
const CLIENTS: &[&str] = &[
    "ping",
    "hello",
    "select",
    "client|setinfo",
    "client|setname",
    "unwatch",
    "script|load",
    "eval",
    "subscribe",
    "unsubscribe",
    "psubscribe",
    "punsubscribe",
];

#[test]
fn the_compose_stack_gives_no_right_that_nothing_uses() {
    let mut sources = String::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let commands = rights().split_whitespace().filter_map(|word| word.strip_prefix('+'));
    let unused: Vec<_> = commands
        .filter(|command| !CLIENTS.contains(command))
        .filter(|command| {
            let command = command.to_uppercase();
            !sources.contains(&format!("'{command}'")) && !sources.contains(&format!("\"{command}\""))
        })
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
}
