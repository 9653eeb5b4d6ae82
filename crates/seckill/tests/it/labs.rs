//! `seckill lab`: the list, runs with a verdict, and what it says to wrong input. That each experiment shows what it says is
//! tested in the crate of the experiments.

use seckill_testkit::eventually;
use serde_json::Value;

use crate::process::{SOON, Urls, end, run, seckill, text};

const NAME: &str = "check-then-act";

async fn json(args: &[&str]) -> Value {
    let output = run(args).await;
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

#[tokio::test]
async fn the_list_has_every_experiment_with_its_question() {
    let list = json(&["lab", "list", "--json"]).await;
    let experiments = list.as_array().unwrap();
    for experiment in experiments {
        for part in ["question", "prediction", "without", "with", "look_at"] {
            let words = |language| experiment[part][language].as_str().unwrap_or_default();
            assert!(words("en").len() > 10 && words("zh").chars().count() > 5, "{part} of {experiment}");
            assert!(words("zh").chars().any(|letter| letter > '\u{4e00}'), "{part} of {experiment}");
        }
    }
    let shown = run(&["lab", "list"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for experiment in experiments {
        assert!(shown.contains(experiment["name"].as_str().unwrap()), "{shown}");
    }
}

#[tokio::test]
async fn a_run_shows_expected_against_actual_a_verdict_and_the_line_of_the_safeguard() {
    let output = run(&["lab", "run", NAME, "--seed", "3"]).await;
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    for part in [
        "expected",
        "without the safeguard",
        "effects",
        "verdict ",
        "crates/events/src/inbox.rs:",
        "docs/labs/check-then-act.md",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
}

#[tokio::test]
async fn on_servers_it_leaves_nothing_behind() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    // In a database of its own: that of the ledger is not touched, and need not be there.
    let lab = [
        ("SECKILL_LAB_MYSQL_URL", urls.mysql.as_str()),
        ("SECKILL_MYSQL_URL", "mysql://root@127.0.0.1:1/none"),
    ];
    let output = end(seckill().args(["lab", "run", NAME, "--json"]).envs(urls.environment()).envs(lab)).await;
    assert!(output.status.success(), "{}", text(&output));
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&reports[0]["store"], &reports[0]["with"]["holds"]), (&"cluster".into(), &true.into()));
    let pool = sqlx::MySqlPool::connect(&cluster.mysql_url).await.unwrap();
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&pool).await.unwrap();
    assert_eq!(tables, 0, "the experiment's own tables are gone");
    // The list of the management interface is a few seconds behind.
    eventually(SOON, async || {
        let queues = cluster.vhost().queues().await;
        if queues.is_empty() { Ok(()) } else { Err(queues) }
    })
    .await;
}

#[tokio::test]
async fn wrong_input_is_refused_with_what_is_allowed() {
    for (args, code, parts) in [
        (
            &["lab", "run", "nonsense"][..],
            2,
            &["there is no experiment \"nonsense\"", "allowed are all, ", NAME][..],
        ),
        (&["lab", "run"], 2, &["<NAME>"]),
        (&["lab", "run", NAME, "--seed", "one"], 2, &["--seed"]),
        (
            &[
                "lab",
                "run",
                NAME,
                "--backend",
                "cluster",
                "--redis-url",
                "redis://127.0.0.1:1",
                "--amqp-url",
                "amqp://127.0.0.1:1",
                "--mysql-url",
                "mysql://root@127.0.0.1:1/x",
            ],
            1,
            &[NAME, "could not be run", "--lab-mysql-url"],
        ),
    ] {
        let output = run(args).await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let said = text(&output);
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
