//! Receiving events, and what an operator may do about those that wait.

use std::fs;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use seckill_events::webhook::{self, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use seckill_testkit::eventually;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::process::{Role, SOON, Urls, accepted, end, run, seckill, text};

/// A gateway on a folder, with a sale whose orders have events.
struct Shop {
    folder: TempDir,
    gateway: Role,
    sale: u64,
    buyers: Arc<AtomicU64>,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Role::start("gateway", &["--data-dir", folder.path().to_str().unwrap()], &[]).await;
        let create =
            ["sale", "create", "--name", "test", "--stock", "100", "--payment-window", "1h", "--json"];
        let output = run(&[&create[..], &["--server", &gateway.url()]].concat()).await;
        assert!(output.status.success(), "{}", text(&output));
        let sale: Value = serde_json::from_slice(&output.stdout).unwrap();
        Self { folder, gateway, sale: sale["id"].as_u64().unwrap(), buyers: Arc::default() }
    }

    async fn order(&self) {
        let user = self.buyers.fetch_add(1, Ordering::Relaxed) + 1;
        accepted(self.gateway.order(self.sale, user).await);
    }

    /// A command beside the gateway.
    fn beside(&self, args: &[&str]) -> Command {
        let mut command = seckill();
        command.args(args).arg("--data-dir").arg(self.folder.path());
        command
    }

    /// A command that asks the gateway.
    async fn ask(&self, args: &[&str]) -> Output {
        end(self.beside(args).args(["--server", &self.gateway.url()])).await
    }

    async fn asked(&self, args: &[&str]) -> Value {
        let output = self.ask(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn assert_refused(&self, args: &[&str], parts: &[&str]) {
        let output = self.ask(args).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        for part in parts {
            assert!(text(&output).contains(part), "{part:?} is missing in {}", text(&output));
        }
    }
}

fn types(lines: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_subscriber_gets_what_happened_while_it_was_away_and_is_removed() {
    let shop = Shop::open().await;
    shop.assert_refused(
        &["subscriber", "show", "crm"],
        &["There is no subscriber crm", "`seckill subscribe`"],
    )
    .await;
    let subscribe = ["subscribe", "--name", "crm", "--on", "order.*", "--count", "1"];
    let first = shop.beside(&subscribe).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(SOON, async || {
        let shown = shop.ask(&["subscriber", "show", "crm"]).await;
        if shown.status.success() { Ok(()) } else { Err(text(&shown)) }
    })
    .await;
    shop.order().await;
    let first = first.wait_with_output().await.unwrap();
    assert!(first.status.success(), "{}", text(&first));
    assert_eq!(types(&first.stdout), ["order.committed"]);
    // Nobody receives now.
    shop.order().await;
    eventually(SOON, async || {
        let shown = shop.asked(&["subscriber", "show", "crm"]).await;
        if shown["waiting_events"] == 1 { Ok(()) } else { Err(shown) }
    })
    .await;
    let second = end(&mut shop.beside(&subscribe)).await;
    assert_eq!(types(&second.stdout), ["order.committed"]);
    assert_ne!(first.stdout, second.stdout);
    let shown = shop.asked(&["subscriber", "show", "crm"]).await;
    assert_eq!((&shown["waiting_events"], &shown["parked_events"]), (&0.into(), &0.into()));
    assert_eq!(shop.asked(&["subscriber", "redrive", "crm"]).await["events"], 0);
    let removed = shop.ask(&["subscriber", "remove", "crm"]).await;
    assert!(removed.status.success(), "{}", text(&removed));
    shop.assert_refused(&["subscriber", "remove", "crm"], &["There is no subscriber crm"]).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_subscriber_quietly() {
    let shop = Shop::open().await;
    let mut child = shop.beside(&["subscribe", "--name", "crm", "--on", "*"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = eventually(SOON, async || {
        shop.order().await;
        let line = tokio::time::timeout(std::time::Duration::from_secs(1), lines.next_line()).await;
        line.map(|line| line.unwrap().unwrap()).map_err(|_| "no line")
    });
    assert_eq!(types(line.await.as_bytes()), ["order.committed"]);
    drop(lines);
    let status = eventually(SOON, async || {
        shop.order().await;
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), child.wait()).await;
        ended.map(Result::unwrap).map_err(|_| "it goes on")
    });
    assert_eq!(status.await.code(), Some(0));
    let log = child.wait_with_output().await.unwrap().stderr;
    assert!(!String::from_utf8_lossy(&log).contains("ERROR"), "{}", String::from_utf8_lossy(&log));
}

#[tokio::test]
async fn a_tail_leaves_nothing_behind() {
    let shop = Shop::open().await;
    let tail = shop.beside(&["events", "tail", "--count", "2"]).env("SECKILL_LOG", "info").output();
    let tail = tokio::spawn(tail);
    let orders = async {
        loop {
            shop.order().await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let tail = tokio::select! {
        tail = tail => tail.unwrap().unwrap(),
        () = orders => unreachable!("orders go on"),
        () = tokio::time::sleep(SOON) => panic!("no two events came"),
    };
    assert!(tail.status.success(), "{}", text(&tail));
    assert_eq!(types(&tail.stdout), ["order.committed", "order.committed"]);
    let name =
        text(&tail).split_whitespace().find_map(|word| word.strip_prefix("subscriber=").map(str::to_owned));
    let name = name.unwrap_or_else(|| panic!("{}", text(&tail)));
    assert!(name.starts_with("tail-"), "{name}");
    shop.assert_refused(&["subscriber", "show", &name], &["There is no subscriber"]).await;
}

#[tokio::test]
async fn a_tail_that_is_told_to_end_leaves_nothing_behind() {
    let shop = Shop::open().await;
    for signal in ["-INT", "-TERM"] {
        let mut tail = shop.beside(&["events", "tail"]);
        let mut tail = tail.env("SECKILL_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(tail.stderr.take().unwrap()).lines();
        let name = loop {
            let line = tokio::time::timeout(SOON, log.next_line()).await.unwrap().unwrap().unwrap();
            let name = line.split_whitespace().find_map(|word| word.strip_prefix("subscriber="));
            if let Some(name) = name {
                break name.to_owned();
            }
        };
        let shown = shop.ask(&["subscriber", "show", &name]).await;
        assert!(shown.status.success(), "{}", text(&shown));
        let pid = tail.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let ended = tokio::time::timeout(SOON, tail.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(0), "{signal}");
        shop.assert_refused(&["subscriber", "show", &name], &["There is no subscriber"]).await;
    }
}

#[tokio::test]
async fn a_webhook_is_signed_with_the_secret_of_the_file() {
    const SECRET: &str = "0123456789abcdef";
    let shop = Shop::open().await;
    let (sender, mut got) = tokio::sync::mpsc::channel(100);
    let take = async move |headers: HeaderMap, body: Bytes| {
        sender.send((headers, body)).await.unwrap();
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let router = Router::new().route("/events", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let secret = shop.folder.path().join("webhook.secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let subscribe = ["subscribe", "--name", "mail", "--on", "order.*", "--webhook", &url];
    let mut subscribe = shop.beside(&subscribe);
    subscribe.args(["--allow-private-addresses", "--webhook-secret-file"]).arg(&secret);
    let mut child = subscribe.spawn().unwrap();
    let (headers, body) = eventually(SOON, async || {
        shop.order().await;
        let next = tokio::time::timeout(std::time::Duration::from_secs(1), got.recv()).await;
        next.map(Option::unwrap).map_err(|_| "nothing was posted")
    })
    .await;
    assert_eq!(types(&body), ["order.committed"]);
    let header = |name: &str| headers[name].to_str().unwrap();
    let timestamp = header(TIMESTAMP_HEADER).parse().unwrap();
    assert!(webhook::verify(SECRET.as_bytes(), timestamp, &body, header(SIGNATURE_HEADER)));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn an_operator_sees_the_outbox_and_sends_an_event_again() {
    let shop = Shop::open().await;
    shop.order().await;
    let sent = eventually(SOON, async || {
        let list = shop.asked(&["outbox", "list", "--state", "sent"]).await;
        if list["events"].as_array().unwrap().is_empty() { Err(list) } else { Ok(list) }
    })
    .await;
    let id = sent["events"][0]["id"].as_str().unwrap();
    let shown = shop.ask(&["outbox", "show", id]).await;
    assert!(
        text(&shown).contains("order.committed") && text(&shown).contains("specversion"),
        "{}",
        text(&shown)
    );
    assert_eq!(shop.asked(&["outbox", "show", id]).await["event"]["id"], id);
    let again = shop.ask(&["outbox", "redrive", id]).await;
    assert!(again.status.success(), "{}", text(&again));
    let parked = shop.ask(&["outbox", "list"]).await;
    assert!(parked.status.success() && text(&parked).contains("no event is parked"), "{}", text(&parked));
    // Only what is parked can be thrown away.
    shop.assert_refused(&["outbox", "discard", id], &[id, "`seckill outbox list`"]).await;
    let other = "01a21a7f-fed2-771c-85bf-a914b6af2a2f";
    shop.assert_refused(&["outbox", "show", other], &[other]).await;
}

#[tokio::test]
async fn a_folder_without_events_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let output = run(&["events", "tail", "--count", "1", "--data-dir", data_dir]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(data_dir), "{}", text(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is created");
}

#[tokio::test]
async fn on_a_cluster_a_subscriber_needs_no_database_where_the_ledger_is_named() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let (gateway, _worker) = (urls.gateway(&[]).await, urls.worker(&[]).await);
    let create = ["sale", "create", "--name", "test", "--stock", "100", "--payment-window", "1h", "--json"];
    let output = run(&[&create[..], &["--server", &gateway.url()]].concat()).await;
    assert!(output.status.success(), "{}", text(&output));
    let sale: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut buyers = 0;
    let mut subscribed = async |args: &[&str], mysql: &str| {
        let mut command = seckill();
        command.args(["subscribe", "--name", "crm", "--on", "order.*", "--count", "1"]).args(args);
        command.args(["--backend", "cluster", "--amqp-url", &urls.amqp, "--mysql-url", mysql]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut waiting = tokio::spawn(child.wait_with_output());
        let output = eventually(SOON, async || {
            buyers += 1;
            accepted(gateway.order(sale["id"].as_u64().unwrap(), buyers).await);
            let ended = tokio::time::timeout(std::time::Duration::from_secs(1), &mut waiting).await;
            ended.map(|output| output.unwrap().unwrap()).map_err(|_| "no event")
        })
        .await;
        assert_eq!(types(&output.stdout), ["order.committed"], "{}", text(&output));
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        event["source"].as_str().unwrap().trim_start_matches("/seckill/").to_owned()
    };
    let ledger = subscribed(&[], &urls.mysql).await;
    // Nobody listens on the discard port.
    assert_eq!(subscribed(&["--ledger-id", &ledger], "mysql://root@127.0.0.1:9/none").await, ledger);
}
