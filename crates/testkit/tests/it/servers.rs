//! Real servers, started the way the other crates' tests start them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seckill_testkit::{PrivateMySql, PrivateRabbit, PrivateRedis, eventually};

const DEADLINE: Duration = Duration::from_secs(60);

/// What [`hold_servers`] prints before each folder.
const MARK: &str = "holding ";

#[tokio::test]
async fn every_test_has_a_place_of_its_own() {
    let one = seckill_testkit::cluster().await;
    let two = seckill_testkit::cluster().await;
    assert_ne!(one.redis_url, two.redis_url);
    assert_ne!(one.amqp_url, two.amqp_url);
    assert_ne!(one.mysql_url, two.mysql_url);
    one.flush_redis().await;
    one.delete_vhost().await;
    one.drop_database().await;
}

#[tokio::test]
async fn redis_starts_again_where_it_stopped() {
    let server = PrivateRedis::start().await;
    let url = server.url();
    server.kill().await;
    refuses(&url);
    server.start_again().await;
    server.stop().await;
    refuses(&url);
    server.start_again().await;
    assert_eq!(server.url(), url);
}

#[tokio::test]
async fn mysql_starts_again_where_it_stopped() {
    let server = PrivateMySql::start().await;
    server.kill().await;
    refuses(&server.url());
    server.start_again().await;
    server.stop().await;
    refuses(&server.url());
    server.start_again().await;
}

#[tokio::test]
async fn rabbitmq_starts_again_where_it_stopped() {
    let server = PrivateRabbit::start().await;
    server.kill().await;
    refuses(&server.url());
    server.start_again().await;
    server.stop().await;
    refuses(&server.url());
    server.start_again().await;
    server.freeze().await;
    server.thaw().await;
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing() {
    let server = PrivateRedis::start().await;
    let folder = server.folder().to_owned();
    drop(server);
    nothing_is_left(&folder).await;
}

#[tokio::test]
async fn a_killed_test_process_leaves_nothing() {
    let (mut process, folders) = start_holder("forever");
    process.kill().unwrap();
    process.wait().unwrap();
    for folder in folders {
        nothing_is_left(&folder).await;
    }
}

#[tokio::test]
async fn a_failed_test_process_leaves_nothing() {
    let (mut process, folders) = start_holder("panic");
    assert!(!process.wait().unwrap().success());
    for folder in folders {
        nothing_is_left(&folder).await;
    }
}

/// Not a test: the process that the two tests above start from this binary, to see it end.
#[tokio::test]
#[ignore = "no test by itself: the two above run it, as a process that they see end"]
async fn hold_servers() {
    let (redis, rabbit, mysql) =
        tokio::join!(PrivateRedis::start(), PrivateRabbit::start(), PrivateMySql::start());
    for folder in [redis.folder(), rabbit.folder(), mysql.folder()] {
        println!("\n{MARK}{}", folder.display());
    }
    // As for the servers that tests share: no destructor runs.
    std::mem::forget((redis, rabbit, mysql));
    assert_ne!(std::env::var("SECKILL_TESTKIT_HOLD").unwrap(), "panic", "this process is to fail");
    std::future::pending::<()>().await;
}

fn start_holder(how: &str) -> (Child, Vec<PathBuf>) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::hold_servers", "--ignored", "--nocapture"])
        .env("SECKILL_TESTKIT_HOLD", how)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let folders: Vec<_> =
        lines.filter_map(|line| line.strip_prefix(MARK).map(PathBuf::from)).take(3).collect();
    assert_eq!(folders.len(), 3, "the process started no servers");
    (process, folders)
}

/// Waits until the folder is gone, and every process that has its name in its command line or environment.
async fn nothing_is_left(folder: &Path) {
    eventually(DEADLINE, async || {
        let processes = processes_of(folder);
        if folder.exists() || !processes.is_empty() { Err((folder.exists(), processes)) } else { Ok(()) }
    })
    .await;
}

/// Empty where there is no `/proc`.
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let command = |process: PathBuf| {
        let read = |file| {
            String::from_utf8_lossy(&std::fs::read(process.join(file)).unwrap_or_default()).into_owned()
        };
        let (command, environment) = (read("cmdline"), read("environ"));
        (command.contains(name) || environment.contains(name)).then_some(command)
    };
    processes.filter_map(|process| command(process.ok()?.path())).collect()
}

fn refuses(url: &str) {
    let (host, _) = url.rsplit_once('/').unwrap();
    let address = host.rsplit(['/', '@']).next().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err(), "{address} still listens");
}
