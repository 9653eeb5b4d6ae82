//! The contract of the ports, which every back end has to keep.

use seckill_cluster::{ClusterConfig, QueueKind};
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

async fn subject() -> Subject {
    subject_with(QueueKind::RabbitMq).await
}

/// A subject whose user in Redis may do what the Compose stack allows, and nothing else.
pub(crate) async fn subject_with(queue: QueueKind) -> Subject {
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
            queue,
            queue_redis_url: None,
        };
        async move {
            let backend = seckill_cluster::connect(&config).expect("the addresses can be used");
            if queue == QueueKind::RedisStreams {
                // As every process does at its start: a queue in Redis has to know whose orders it has.
                backend.ledger.id().await.expect("the ledger answers");
            }
            backend
        }
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

#[test]
fn a_stack_that_is_there_gets_the_rights_of_this_version_and_keeps_its_passwords() {
    let folder = tempfile::tempdir().unwrap();
    for reader in ["app", "http", "migrate", "mysql", "rabbitmq", "redis"] {
        std::fs::create_dir(folder.path().join(reader)).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/secrets.sh");
    let up = || {
        let status = std::process::Command::new("sh").arg(script).arg(folder.path()).status().unwrap();
        assert!(status.success(), "{status}");
    };
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    up();
    let files = ["redis/users.acl", "app/redis_url", "app/mysql_url", "app/amqp_url", "http/admin_token"];
    let made = files.map(read);
    // As an older version has left it.
    let acl = folder.path().join("redis/users.acl");
    std::fs::remove_file(&acl).unwrap();
    std::fs::write(&acl, made[0].replace(" +hvals", "")).unwrap();
    up();
    assert_eq!(files.map(read), made);
}
