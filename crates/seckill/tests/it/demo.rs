//! The demo, and the numbers that scripts read from it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::process::{SOON, Urls, end, run, seckill, text};

const SMALL: [&str; 12] = [
    "demo",
    "--once",
    "--json",
    "--port",
    "0",
    "--buyers",
    "3000",
    "--stock",
    "1000",
    "--drain-rate",
    "1000",
    "--arrival",
];

fn check(verdict: &Value, backend: &str) {
    let count =
        |name: &str| verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is no count: {verdict}"));
    let answers = ["accepted", "replayed", "sold_out", "refused", "unknown"];
    assert_eq!(count("sent"), 3_300, "{verdict}");
    assert_eq!(answers.map(count).iter().sum::<u64>(), 3_300, "{verdict}");
    assert_eq!((count("accepted"), count("committed")), (1_000, 1_000), "{verdict}");
    assert_eq!(
        ["rejected", "oversold", "lost", "duplicates", "unknown", "refused"].map(count),
        [0; 6],
        "{verdict}"
    );
    assert_eq!(verdict["conserved"], true, "{verdict}");
    for name in
        ["arrival_seconds", "drain_seconds", "accept_rate_peak", "commit_rate_peak", "commit_rate_mean"]
    {
        assert!(verdict[name].as_f64() > Some(0.0), "{name}: {verdict}");
    }
    assert_eq!((&verdict["drain_rate"], &verdict["backend"]), (&Value::from(1_000), &Value::from(backend)));
}

#[tokio::test]
async fn the_demo_ends_with_one_json_object_and_a_clean_verdict() {
    let mut args = SMALL.to_vec();
    args.push("500ms");
    let output = run(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    check(&serde_json::from_slice(&output.stdout).expect("stdout is one JSON object"), "embedded");
}

#[tokio::test]
async fn the_demo_runs_on_redis_rabbitmq_and_mysql_too() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    let output = end(seckill().args(SMALL).arg("500ms").envs(urls.environment())).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    check(&serde_json::from_slice(&output.stdout).expect("stdout is one JSON object"), "cluster");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("ERROR"), "an error on a healthy first start:\n{log}");
}

#[tokio::test]
async fn without_json_the_demo_draws_the_curve_and_prints_the_verdict() {
    let mut args = SMALL.to_vec();
    args.retain(|arg| *arg != "--json");
    args.push("500ms");
    let output = run(&args).await;
    let shown = String::from_utf8_lossy(&output.stdout);
    for part in [
        "arrivals, requests/s",
        "commits, orders/s",
        "backlog",
        "oversold 0   lost 0   duplicates 0   conserved yes",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{}", text(&output));
    }
    assert!(shown.contains("every invariant held"), "{shown}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("/shop, to buy by hand").count(), 1, "{told}");
    assert!(!text(&output).contains("Starting when"), "nobody watches, and it waited:\n{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_demo_waits_for_its_first_page_and_counts_down() {
    // `script` of util-linux gives it a terminal, and a shell of the user's choice. Some shells end by Ctrl-C themselves.
    let demo = "demo --port 0 --buyers 300 --stock 100 --arrival 200ms";
    let mut terminal = Command::new("script")
        .args(["-qefc", &format!("exec {} {demo}", env!("CARGO_BIN_EXE_seckill")), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script, of util-linux, can be run");
    let mut keys = terminal.stdin.take().unwrap();
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let mut until = async |part: &str| {
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(part) {
                    return line;
                }
            }
            panic!("it ended without {part:?}")
        };
        tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("no {part:?}"))
    };
    let address = until("Dashboard: ").await;
    let address = address.split_once("Dashboard: ").unwrap().1.trim().to_owned();
    until("Starting when the page is open").await;
    let sale: Value = reqwest::get(format!("{address}api/v1/sales/1")).await.unwrap().json().await.unwrap();
    assert_eq!((&sale["remaining"], &sale["orders"]), (&Value::from(100), &Value::from(0)), "{sale}");
    // A page opens: from now on three seconds.
    let _page = reqwest::get(format!("{address}api/v1/live")).await.unwrap();
    for second in ["3 …", "2 …", "1 …"] {
        until(second).await;
    }
    until("every invariant held").await;
    keys.write_all(b"\x03").await.unwrap();
    let ended = tokio::time::timeout(SOON, terminal.wait()).await.expect("it ends by Ctrl-C").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn with_payments_units_come_back_are_sold_again_and_the_money_adds_up() {
    let args = ["demo", "--lifecycle", "--once", "--json", "--port", "0"];
    let few = ["--buyers", "300", "--stock", "100", "--arrival", "200ms", "--payment-window", "2s"];
    let output = run(&[&args[..], &few].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON object");
    let count = |pointer: &str| verdict.pointer(pointer).and_then(Value::as_u64).expect(pointer);
    for wave in ["first", "again"] {
        let [accepted, committed, paid, cancelled, expired, refunded] =
            ["accepted", "committed", "paid", "cancelled", "expired", "refunded"]
                .map(|name| count(&format!("/{wave}/{name}")));
        assert!(accepted > 0 && committed == accepted, "{verdict}");
        assert_eq!(paid + cancelled + expired, committed, "{verdict}");
        assert!(refunded <= paid, "{verdict}");
    }
    assert!(count("/first/accepted") >= 100 && count("/returned_units") > 0, "{verdict}");
    let paid = count("/first/paid") + count("/again/paid");
    let refunded = count("/first/refunded") + count("/again/refunded");
    assert_eq!(count("/money/charged_cents"), paid * 999, "{verdict}");
    assert_eq!(count("/money/refunded_cents"), refunded * 999, "{verdict}");
    assert_eq!((count("/lost"), &verdict["audit"]["verdict"]), (0, &Value::from("clean")), "{verdict}");
}
