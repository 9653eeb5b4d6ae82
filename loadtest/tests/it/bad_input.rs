//! Wrong inputs are reported before the first request, with an example of the right form.

use axum::Router;
use axum::routing::any;

use crate::command::output;
use crate::gateway::{ADMIN, Lie, SECRET, gateway};
use crate::server::serve;

/// The exit code, and what is printed to stderr.
async fn outcome(flags: &str) -> (i32, String) {
    let output = output(flags.split_whitespace().map(str::to_owned).collect()).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_flags_exit_2_with_an_example_and_without_a_request() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = asked.clone();
    let count = any(async move || counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_string());
    let target = serve(Router::new().fallback(count)).await;
    let with = format!("run --target {target} --jwt-secret {SECRET} --sale 1");
    for (flags, sentence) in [
        ("--rate 5000 --stages 5s:200", "--rate 5000 -z 10s"),
        ("--stages 5s:200 -z 10s", "without -z"),
        ("--stages 5s", "5s:200,2s:20000"),
        ("--stages 5s:lots", "5s:200,2s:20000"),
        ("--rate fast", "like 5000"),
        ("--rate -5", "allowed are 0 to 10000000 a second"),
        ("-z 10", "500ms, 1.5s or 2m"),
        ("-z 10s", "-c 64 -z 10s"),
        ("-n 0 -c 5", "1..=10000000"),
        ("--rate 0 -z 10s", "allowed is 1 to 10000000"),
        ("--rate 1000000 -z 1h", "allowed is 1 to 10000000"),
        ("--threshold p99 spike", "p99<200ms"),
        ("--threshold p99<200 spike", "p99<200ms"),
        ("--threshold p42<2ms spike", "p99<200ms"),
        ("--rate 5 --bots 7", "a share from 0 to 1"),
        ("--rate 5 --users 7", "--users 5000"),
        ("--rate 5 --warmup 1m", "--warmup 5s"),
        ("-c 5 --copies 3", "--rate 1000 --copies 3"),
        ("--stock 5 spike", "give one of them"),
        ("spyke", "spike, step, ramp, soak, duplicates, clickers, lifecycle, waiting-room, bots, polling"),
        ("--rate 5 --json /no/such/folder/report.json", "cannot write /no/such/folder/report.json"),
        ("--rate 5 --html /no/such/folder/report.html", "in a folder that exists"),
        ("--rate 5 --json - --html -", "give one of them a file"),
        ("--rate 5 --tokens /no/such/file", "cannot read the tokens from /no/such/file"),
        ("--rate 5 --target 127.0.0.1", "like http://127.0.0.1:8080"),
        ("--rate 5 --frobnicate", "--frobnicate"),
    ] {
        // clap refuses two targets, so a target in the flags replaces the common one.
        let common = if flags.contains("--target") {
            format!("run --jwt-secret {SECRET} --sale 1")
        } else {
            with.clone()
        };
        let (code, text) = outcome(&format!("{common} {flags}")).await;
        assert_eq!(code, 2, "{flags}: {text}");
        assert!(text.contains(sentence), "{flags}: {text}");
    }
    let (code, text) = outcome(&format!("run --target {target} --sale 1 --rate 5")).await;
    assert!(code == 2 && text.contains("--jwt-secret"), "{text}");
    let run = format!("run --target {target} --sale 1 --rate 5");
    for (flags, sentence) in [
        ("--jwt-secret-file /no/such/file", "cannot read /no/such/file, which --jwt-secret-file names"),
        ("--jwt-secret-file /dev/null", "/dev/null, which --jwt-secret-file names, is empty"),
        ("--jwt-secret-file /dev/null --jwt-secret s", "(SECKILL_JWT_SECRET_FILE) are both given"),
        ("--jwt-secret s --admin-token-file /no/such/file", "which --admin-token-file names"),
    ] {
        let (code, text) = outcome(&format!("{run} {flags}")).await;
        assert!(code == 2 && text.contains(sentence), "{flags}: {text}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_or_sale_that_does_not_exist_or_is_not_open_exits_1_with_the_reason() {
    let target = gateway(Lie::Nothing).await;
    let upcoming = gateway(Lie::Upcoming).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (flags, sentence) in [
        (format!("--target http://{nobody} --sale 1"), "check that the server runs and listens there"),
        (
            format!("--target {target} --sale 9"),
            "has no sale 9; give the id of one that it has, like --sale 1",
        ),
        (format!("--target {upcoming} --sale 1"), "sale 1 is not open: it opens at 2100-01-01T00:00:00Z"),
        (
            format!("--target {target} --admin-token wrong"),
            "cannot make a sale: the server does not take the admin token",
        ),
        (
            format!("--target {target} --sale 1 --admin-token wrong"),
            "cannot look orders up: the server does not take the admin token",
        ),
        (
            format!("--target {target} --sale 1 --jwt-secret wrong"),
            "cannot send buyers: the server does not take their tokens; give the secret",
        ),
    ] {
        let secret =
            if flags.contains("--jwt-secret") { String::new() } else { format!("--jwt-secret {SECRET}") };
        let (code, text) = outcome(&format!("run --rate 5 {secret} {flags}")).await;
        assert_eq!(code, 1, "{flags}: {text}");
        assert!(text.contains(sentence), "{flags}: {text}");
    }
    let (code, text) = outcome(&format!("run --rate 5 --jwt-secret {SECRET} --target {target}")).await;
    assert!(code == 2 && text.contains("name a sale, like --sale 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_a_scenario_or_not_a_list_of_tokens_exits_2_with_the_reason() {
    let (target, folder) = (gateway(Lie::Nothing).await, tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let scenario = file("mine.toml", "rate = 5\nduraton = \"1s\"\n");
    let (code, text) =
        outcome(&format!("run {scenario} --target {target} --sale 1 --jwt-secret {SECRET}")).await;
    assert!(
        code == 2 && text.contains("duraton") && text.contains("mine.toml") && text.contains("line 2"),
        "{text}"
    );
    for (tokens, sentence) in
        [("one\ntwo\n", "there are 2 tokens for 50 buyers"), ("one\n\nthree\n", "one token a line")]
    {
        let tokens = file("tokens", tokens);
        let (code, text) =
            outcome(&format!("run --rate 5 --target {target} --sale 1 --tokens {tokens}")).await;
        assert!(code == 2 && text.contains(sentence), "{text}");
    }
    let (code, text) =
        outcome(&format!("run --rate 5 -z 1s --target {target} --jwt-secret {SECRET} --admin-token {ADMIN}"))
            .await;
    assert_eq!(code, 0, "{text}");
}
