//! Secrets in files, as containers get them; and the sale that is opened only once.

use std::fs;
use std::process::Output;

use tokio::process::Command;

use crate::process::{ADMIN_TOKEN, JWT_SECRET, Role, Urls, accepted, end, run, seckill, text};

const ROLE: [&str; 5] = ["gateway", "--backend", "cluster", "--listen", "127.0.0.1:0"];

/// Without the secrets that the other tests set.
fn bare(args: &[&str]) -> Command {
    let mut command = seckill();
    command.args(args).env_remove("SECKILL_JWT_SECRET").env_remove("SECKILL_ADMIN_TOKEN");
    command
}

/// The command has ended with exit code 1 and these parts of a message.
#[track_caller]
fn assert_fails(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{}", text(output));
    for part in parts {
        assert!(text(output).contains(part), "{part:?} is missing in {}", text(output));
    }
}

#[tokio::test]
async fn every_secret_is_taken_from_a_file_and_its_last_newline_does_not_count() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{content}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = [
        ("SECKILL_REDIS_URL_FILE", file("redis", &urls.redis)),
        ("SECKILL_AMQP_URL_FILE", file("amqp", &urls.amqp)),
        ("SECKILL_MYSQL_URL_FILE", file("mysql", &urls.mysql)),
        ("SECKILL_JWT_SECRET_FILE", file("jwt", JWT_SECRET)),
        ("SECKILL_ADMIN_TOKEN_FILE", file("admin", ADMIN_TOKEN)),
        // Empty variables, as compose files leave them, count as not set.
        ("SECKILL_JWT_SECRET", String::new()),
        ("SECKILL_ADMIN_TOKEN", String::new()),
        ("SECKILL_MYSQL_URL", String::new()),
        ("SECKILL_BACKEND", "cluster".to_owned()),
    ];
    let output = end(seckill().arg("migrate").envs(files.clone())).await;
    assert!(output.status.success(), "{}", text(&output));
    let environment = files.each_ref().map(|(name, value)| (*name, value.as_str()));
    let gateway = Role::start("gateway", &[], &environment).await;
    let sale = gateway.open_sale(1).await;
    accepted(gateway.order(sale, 1).await);
    let output = end(bare(&["token", "--user", "2"]).envs(files)).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_reported_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    let empty = folder.path().join("empty").to_str().unwrap().to_owned();
    fs::write(&empty, "\n").unwrap();
    for flag in ["--redis-url", "--amqp-url", "--mysql-url"] {
        let with = format!("{flag}-file");
        assert_fails(
            &run(&[&ROLE[..], &[&with, &missing]].concat()).await,
            &["cannot read", &missing, &with],
        );
        assert_fails(&run(&[&ROLE[..], &[&with, &empty]].concat()).await, &[&empty, &with, "is empty"]);
        let both = run(&[&ROLE[..], &[&with, &empty, flag, "hunter2"]].concat()).await;
        assert_fails(&both, &[flag, &with, "are both given"]);
        assert!(!text(&both).contains("hunter2"), "{}", text(&both));
    }
    for flag in ["--jwt-secret", "--admin-token"] {
        let with = format!("{flag}-file");
        // The other secret is in the environment.
        let variable = format!("SECKILL_{}", flag[2..].replace('-', "_").to_uppercase());
        let with_file =
            async |file: &str| end(seckill().args(ROLE).args([&with, file]).env_remove(&variable)).await;
        assert_fails(&with_file(&missing).await, &["cannot read", &missing, &with]);
        assert_fails(&with_file(&empty).await, &[&empty, &with, "is empty"]);
        assert_fails(
            &run(&[&ROLE[..], &[&with, &empty]].concat()).await,
            &[&with, &variable, "are both given"],
        );
    }
    assert_fails(
        &end(&mut bare(&["token", "--jwt-secret-file", &missing])).await,
        &["cannot read", &missing],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_opens_the_sale_once_a_gateway_is_there_and_says_when_none_came() {
    let folder = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = format!("http://{address}");
    let create = ["sale", "create", "--name", "Demo", "--stock", "5", "--server", &server, "--wait"];
    let output = run(&[&create[..], &["1s"]].concat()).await;
    assert_fails(&output, &["no answer from", &server]);
    let args = [&create[..], &["1m"]].concat();
    let listening = ["--data-dir", folder.path().to_str().unwrap(), "--listen", &address];
    let start = Role::start("gateway", &listening, &[]);
    let (output, _gateway) = tokio::join!(run(&args), start);
    assert!(output.status.success() && text(&output).contains("Demo"), "{}", text(&output));
}

#[tokio::test]
async fn if_none_opens_the_first_sale_and_no_second() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", folder.path().to_str().unwrap()], &[]).await;
    let server = gateway.url();
    let create =
        ["sale", "create", "--if-none", "--name", "Demo", "--stock", "5", "--server", &server, "--json"];
    let output = run(&create).await;
    assert!(output.status.success() && text(&output).contains("\"Demo\""), "{}", text(&output));
    let output = run(&create).await;
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
    assert!(text(&output).contains("there is a sale already"), "{}", text(&output));
    let (_, list) = gateway.get("/api/v1/sales").await;
    assert_eq!(list["sales"].as_array().map(Vec::len), Some(1), "{list}");
}
