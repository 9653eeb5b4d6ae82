//! The feed: what a page gets when it connects, comes back, and loses its gateway.

use reqwest::header::{ACCEPT_ENCODING, ETAG, IF_NONE_MATCH};
use serde_json::json;

use super::demonstration::{Demonstration, On, Stream};
use crate::process::{Role, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_back_gets_what_it_missed_and_another_one_everything() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let url = demonstration.gateway.url();
    let mut stream = Stream::open(&url, None).await;
    let first = stream.next().await.unwrap();
    assert_eq!((first.name.as_str(), &first.data["complete"]), ("history", &json!(true)));
    assert_eq!(first.data["controls"], true);
    // Entries of the log come in between.
    let frame = loop {
        let event = stream.next().await.unwrap();
        if event.name == "frame" {
            break event;
        }
    };
    drop(stream);
    demonstration.frame(|later| later.number("t") > frame.data["row"][0].as_f64().map(|t| t + 0.9)).await;
    let back = Stream::open(&url, Some(&frame.id)).await.next().await.unwrap();
    assert_eq!(back.data["complete"], false);
    let rows = back.data["rows"].as_array().unwrap();
    assert!(!rows.is_empty(), "no row was missed");
    let t = |row: &serde_json::Value| row[0].as_f64().unwrap();
    assert!(t(&rows[0]) > frame.data["row"][0].as_f64().unwrap(), "a row was sent twice");
    assert!(rows.windows(2).all(|pair| t(&pair[0]) < t(&pair[1])));
    for id in ["another-5", "5", "-", "9999999"] {
        let history = Stream::open(&url, Some(id)).await.next().await.unwrap();
        assert_eq!(history.data["complete"], true, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_with_bye_and_does_not_hold_up_the_shutdown() {
    let mut demonstration = Demonstration::new(On::Embedded).await;
    let mut stream = Stream::open(&demonstration.gateway.url(), None).await;
    stream.next().await.unwrap();
    demonstration.gateway.terminate().await;
    let mut last = String::new();
    while let Some(event) = stream.next().await {
        last = event.name;
    }
    assert_eq!(last, "bye");
    assert!(demonstration.gateway.ended(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_demonstration_there_is_a_page_and_no_control() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let gateway = Role::start("gateway", &["--data-dir", &data], &[]).await;
    let history = Stream::open(&gateway.url(), None).await.next().await.unwrap();
    assert_eq!(history.data["controls"], false);
    let client = reqwest::Client::new();
    for path in ["", "/drain-rate", "/workers", "/faults/slow_commits", "/crash", "/sales", "/load", "/runs"]
    {
        let address = format!("{}/api/v1/control{path}", gateway.url());
        for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::PUT] {
            let answer = client.request(method.clone(), &address).json(&json!({})).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_files_are_compressed_tagged_and_fenced_in() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let client = reqwest::Client::new();
    let get = |path: &str| client.get(format!("{}{path}", demonstration.gateway.url()));
    for path in ["/", "/assets/app.js", "/assets/style.css", "/assets/plotly.js", "/assets/favicon.svg"] {
        let plain = get(path).send().await.unwrap();
        assert_eq!(plain.status(), 200, "{path}");
        let policy = plain.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert_eq!(plain.headers()["x-content-type-options"], "nosniff");
        let etag = plain.headers()[ETAG].clone();
        let size = plain.bytes().await.unwrap().len();
        let known = get(path).header(IF_NONE_MATCH, etag).send().await.unwrap();
        assert_eq!((known.status().as_u16(), known.bytes().await.unwrap().len()), (304, 0));
        let gzip = get(path).header(ACCEPT_ENCODING, "br, gzip").send().await.unwrap();
        assert_eq!(gzip.headers()["content-encoding"], "gzip", "{path}");
        let compressed = gzip.bytes().await.unwrap();
        assert!(compressed.starts_with(&[0x1f, 0x8b]) && compressed.len() < size, "{path}");
    }
    assert_eq!(get("/assets/nothing.js").send().await.unwrap().status(), 404);
}
