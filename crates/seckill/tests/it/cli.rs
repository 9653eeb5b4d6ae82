//! The messages of the command line for what it cannot do.

use std::process::Output;

use tokio::net::TcpListener;

use crate::process::{Role, Urls, end, run, seckill, text};

/// The command has ended with this exit code, these parts of a message on stderr, and nothing on stdout.
#[track_caller]
fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    assert!(output.stdout.is_empty(), "{}", text(output));
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is missing in {}", text(output));
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let output = run(&["gateway", "--listen", &address.to_string(), "--data-dir", data_dir]).await;
    assert_fails(&output, 1, &["cannot listen on", "choose an address with --listen"]);
    let output = run(&["demo", "--once", "--port", &address.port().to_string()]).await;
    assert_fails(&output, 1, &["cannot listen on", "--port"]);
}

#[tokio::test]
async fn a_bank_with_wrong_flags_is_refused_with_what_is_allowed() {
    for (flags, part) in [
        (&["--timeout-before", "1.5"][..], "give a share from 0 to 1"),
        (&["--timeout-before", "0.6", "--errors", "0.6"], "more than 1 together"),
        (&["--slow", "2m"], "--slow is longer than 1m"),
        (&["--webhook", "https://127.0.0.1/bank"], "https is not spoken"),
        (&["--webhook", "http://127.0.0.1/bank"], "--webhook needs a secret"),
    ] {
        let output = run(&[&["bank", "--listen", "127.0.0.1:0"][..], flags].concat()).await;
        assert_fails(&output, 2, &[part]);
    }
}

#[tokio::test]
async fn a_wrong_url_is_reported_with_the_right_form_and_without_the_password() {
    for (flag, url, name) in [
        ("--redis-url", "http://:hunter2@host", "the redis url"),
        ("--amqp-url", "hunter2", "the amqp url"),
        ("--mysql-url", "mysql://root:hunter2@host", "the mysql url names no database"),
    ] {
        for role in ["gateway", "worker"] {
            let output = run(&[role, "--backend", "cluster", "--listen", "127.0.0.1:0", flag, url]).await;
            assert_fails(&output, 1, &[name, "the right form is"]);
            assert!(!text(&output).contains("hunter2"), "{}", text(&output));
        }
    }
}

#[tokio::test]
async fn a_database_without_schema_is_reported_with_the_command_that_makes_it() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    for role in ["gateway", "worker"] {
        let mut command = seckill();
        command.args([role, "--listen", "127.0.0.1:0"]).envs(urls.environment());
        assert_fails(&end(&mut command).await, 1, &["run `seckill migrate`"]);
    }
    urls.migrate().await;
    urls.migrate().await;
}

#[tokio::test]
async fn a_server_that_refuses_the_login_ends_the_start_and_the_password_is_not_shown() {
    let cluster = seckill_testkit::cluster().await;
    let good = Urls::from(&cluster);
    good.migrate().await;
    let with_wrong_login = |url: &str| {
        let mut url = url::Url::parse(url).unwrap();
        url.set_username("mallory").unwrap();
        url.set_password(Some("hunter2")).unwrap();
        url.to_string()
    };
    for (wrong, part) in [
        (Urls { redis: with_wrong_login(&good.redis), ..good.clone() }, "in the redis url"),
        (Urls { amqp: with_wrong_login(&good.amqp), ..good.clone() }, "in the amqp url"),
        (Urls { mysql: with_wrong_login(&good.mysql), ..good.clone() }, "in the mysql url"),
    ] {
        for role in ["gateway", "worker"] {
            let mut command = seckill();
            let output = end(command.args([role, "--listen", "127.0.0.1:0"]).envs(wrong.environment())).await;
            assert_fails(&output, 1, &[part]);
            assert!(!text(&output).contains("hunter2"), "{}", text(&output));
        }
    }
}

#[tokio::test]
async fn a_cluster_gateway_without_secrets_reports_how_to_make_them() {
    let mut command = seckill();
    command
        .args(["gateway", "--backend", "cluster", "--listen", "127.0.0.1:0"])
        .env_remove("SECKILL_JWT_SECRET");
    assert_fails(&end(&mut command).await, 1, &["SECKILL_JWT_SECRET", "openssl rand -hex 32"]);
    let output =
        run(&["gateway", "--backend", "cluster", "--listen", "127.0.0.1:0", "--jwt-secret", "short"]).await;
    assert_fails(&output, 1, &["--jwt-secret", "has 5 characters; give 32 or more"]);
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    for (args, part) in [
        (&["worker"][..], "run `seckill gateway`"),
        (&["demo", "--drain-rate", "fast"], "such as 2000"),
        (&["demo", "--retry-ratio", "2"], "a share from 0 to 1"),
        (&["demo", "--buyers", "0"], "0 is not in 1..="),
        (&["gatewya"], "gateway"),
        (&["rebuild", "x"], "`seckill sale list` shows the newest"),
        (&["reconcile", "0"], "a whole number from 1"),
        (&["sale", "pause", "x"], "`seckill sale list` shows the newest"),
        (&["sale", "set", "1"], "--ends-at"),
        (&["sale", "raise-stock", "1", "--to", "-5"], "--to"),
        (&["sale", "raise"], "raise-stock"),
        (&["sale", "clsoe", "1"], "close"),
        (&["drain", "set", "--rate", "0"], "such as 2000"),
        (&["drain", "set", "--rate", "paused"], "`seckill drain pause`"),
        (&["audit", "1", "--wait", "soon"], "such as 500ms, 30s"),
        (&["audit", "1", "--server", "localhost"], "such as http://127.0.0.1:8080"),
        (&["audit", "1", "--server", "localhost:http"], "such as http://127.0.0.1:8080"),
        (&["audit", "1", "--server", "localhost:8080/x"], "without the path /x"),
        (&["audit", "1", "--server", "ftp://localhost:8080"], "such as http://127.0.0.1:8080"),
        (&["gateway", "--listen", "localhost"], "give a host and a port, such as 127.0.0.1:8080"),
        (&["gateway", "--listen", ":8080"], "0.0.0.0:8080 for everybody"),
        (&["gateway", "--listen", "99999"], "give a host and a port"),
        (&["gateway", "--listen", "127.0.0.1:99999"], "a number from 0 to 65535"),
        (&["gateway", "--admin-listen", "http://127.0.0.1:8082"], "without http://"),
        (&["worker", "--listen", "127.0.0.1:metrics"], "a number from 0 to 65535"),
        (&["bank", "--listen", "8090x"], "give a host and a port"),
        (&["completions", "tcsh"], "bash"),
        (&["audit", "1", "--server", "http://localhost:8080/x"], "without the path /x"),
        (&["parked", "discard", "../sales"], "`seckill parked list` shows the ids"),
        (&["parked", "redrive", ""], "letters, digits and hyphens"),
        (&["subscribe", "--name", "CRM", "--on", "*"], "a-z, 0-9 and -"),
        (&["subscribe", "--name", "restock", "--on", "*"], "such as my-restock"),
        (&["subscribe", "--name", "risk-control", "--on", "*"], "such as my-risk-control"),
        (&["subscribe", "--name", "crm", "--on", "order.paid,refund.#"], "order.paid, refund.* or *"),
        (&["subscribe", "--name", "crm", "--on", "*", "--count", "0"], "0 is not in 1.."),
        (
            &["subscribe", "--name", "crm", "--on", "*", "--webhook", "example.com"],
            "https://example.com/events",
        ),
        (
            &["subscribe", "--name", "crm", "--on", "*", "--webhook", "ftp://example.com"],
            "https or http only",
        ),
        (
            &["subscribe", "--name", "crm", "--on", "*", "--webhook", "https://example.com"],
            "16 characters or more",
        ),
        (&["subscribe", "--name", "crm", "--on", "*", "--ledger-id", "7"], "every event's `source`"),
        (&["events", "tail", "--on", "paid"], "order.paid, refund.* or *"),
        (&["outbox", "list", "--state", "lost"], "parked, pending, sent"),
        (&["outbox", "show", "../sales"], "`seckill outbox list` shows the ids"),
        (&["subscriber", "show", "a.b"], "1 to 40 of the characters"),
        (&["subscriber", "remove", "restock"], "seckill itself receives"),
    ] {
        assert_fails(&run(args).await, 2, &[part]);
    }
    let webhook = |url, secret| {
        let args = ["subscribe", "--name", "crm", "--on", "*", "--webhook", url, "--webhook-secret", secret];
        async move { run(&args).await }
    };
    for url in ["http://127.0.0.1:9/", "http://[::1]/", "http://169.254.169.254/", "http://localhost:9/"] {
        let output = webhook(url, "0123456789abcdef").await;
        assert_fails(&output, 2, &["address", "--allow-private-addresses"]);
    }
    assert_fails(&webhook("http://127.0.0.1:9/", "short").await, 2, &["16 characters or more"]);
}

#[tokio::test]
async fn an_embedded_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", data_dir], &[]).await;
    let output = run(&["gateway", "--listen", "127.0.0.1:0", "--data-dir", data_dir]).await;
    assert_fails(&output, 1, &[data_dir, "in use"]);
    let sale = gateway.open_sale(1).await;
    let server = gateway.url();
    let output = run(&["sale", "list", "--server", &server]).await;
    assert!(output.status.success() && text(&output).contains("test"), "{}", text(&output));
    let output = run(&["sale", "show", &sale.to_string(), "--server", &server, "--json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["stock"], &shown["remaining"]), (&1.into(), &1.into()), "{shown}");
    let sales = "`seckill sale list`";
    assert_fails(
        &run(&["sale", "show", "999", "--server", &server]).await,
        1,
        &["There is no sale 999", sales],
    );
    let admin = ["--server", &server, "--data-dir", data_dir];
    for command in ["rebuild", "reconcile"] {
        let output = run(&[&[command, "999"][..], &admin].concat()).await;
        assert_fails(&output, 1, &["There is no sale 999", sales]);
    }
    for command in ["show", "redrive", "discard"] {
        let output = run(&[&["parked", command, "abc"][..], &admin].concat()).await;
        assert_fails(&output, 1, &["o message abc is parked", "`seckill parked list`"]);
    }
    let output = run(&[&["parked", "list"][..], &admin].concat()).await;
    assert!(output.status.success() && text(&output).contains("no message is parked"), "{}", text(&output));
    let output = run(&[&["rebuild", "1", "--admin-token", "not the token of it"][..], &admin].concat()).await;
    assert_fails(&output, 1, &["not the admin token", "SECKILL_ADMIN_TOKEN"]);
    let output = run(&["audit", &sale.to_string(), "--server", &server]).await;
    assert!(output.status.success() && text(&output).contains("clean"), "{}", text(&output));
    let output = run(&["healthcheck", "--server", &server]).await;
    assert!(output.status.success() && text(&output).contains("ready"), "{}", text(&output));
}

#[tokio::test]
async fn a_demonstration_makes_its_own_secrets_and_token_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let bare = |args: &[&str]| {
        let mut command = seckill();
        command.args(args).env_remove("SECKILL_JWT_SECRET").env_remove("SECKILL_ADMIN_TOKEN");
        command
    };
    assert_fails(&end(&mut bare(&["token", "--data-dir", data_dir])).await, 1, &["SECKILL_JWT_SECRET"]);
    let gateway = {
        // Empty variables, as compose files leave them, count as not set.
        let none = [("SECKILL_JWT_SECRET", ""), ("SECKILL_ADMIN_TOKEN", "")];
        Role::start("gateway", &["--data-dir", data_dir, "--demo-controls"], &none).await
    };
    let tokens = end(&mut bare(&["token", "--data-dir", data_dir, "--user", "5", "--users", "3"])).await;
    let tokens: Vec<_> = String::from_utf8(tokens.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(tokens.len(), 3);
    let url = format!("{}/api/v1/sales/1/orders/mine", gateway.url());
    for token in &tokens {
        let answer = reqwest::Client::new().get(&url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 404, "the token is good and the sale is not there");
    }
}

#[tokio::test]
async fn an_address_without_a_server_is_reported() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = format!("http://{free}");
    for args in [&["sale", "list"][..], &["audit", "1"], &["healthcheck"]] {
        let output = run(&[args, &["--server", &server]].concat()).await;
        assert_fails(&output, 1, &["no answer from", &server]);
    }
}
