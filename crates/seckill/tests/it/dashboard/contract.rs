//! The calls of the page, of its controls and of the bank, held against the document about the API.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use crate::process::Role;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&seckill_gateway::http::openapi()).expect("the document is JSON"));

/// Panics where the document does not say that this call may end with this status.
pub(crate) fn check(method: &Method, path: &str, status: u16) {
    let path = path.split('?').next().unwrap_or_default();
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let described = paths.iter().find(|(template, _)| matches(template, path)).map(|(_, item)| item);
    let described = described.unwrap_or_else(|| panic!("{path} is served and not described"));
    let operation = &described[method.as_str().to_lowercase()];
    assert!(operation.is_object(), "{method} {path} is served and not described");
    assert!(
        operation["responses"][status.to_string()].is_object(),
        "{method} {path}: {status} is not described"
    );
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
}

/// A gateway with all that others put beside its calls.
async fn gateway() -> (Role, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let variables = [
        ("SECKILL_DEMO", "1"),
        ("SECKILL_BANK_URL", "http://127.0.0.1:9"),
        ("SECKILL_BANK_SECRET", "what the bank signs with, for the tests"),
    ];
    (Role::start("gateway", &["--data-dir", &data], &variables).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_document_that_others_serve_is_there() {
    let (gateway, _folder) = gateway().await;
    let home = gateway.url();
    let mut seen = 0;
    for (template, item) in DOCUMENT["paths"].as_object().expect("paths") {
        if !["/api/v1/bank/", "/api/v1/control", "/api/v1/live"].iter().any(|of| template.starts_with(of)) {
            continue;
        }
        for method in
            item.as_object().expect("operations").keys().filter(|name| item[*name]["responses"].is_object())
        {
            let method: Method = method.to_uppercase().parse().unwrap();
            let path = template.replace("{name}", "no-such-name").replace("{id}", "no-such-id");
            // From a page of another site, so that nothing is changed.
            let request = reqwest::Client::new().request(method.clone(), format!("{home}{path}"));
            let request = request
                .header("origin", "https://elsewhere.example")
                .header("content-type", "application/json");
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            // The feed goes on for ever. What is not there has a problem, which says so.
            let text = if status == 404 { answer.text().await.unwrap() } else { String::new() };
            assert!(
                status != 405 && !text.contains("There is nothing at"),
                "{method} {template} is described and not served: {status} {text}"
            );
            check(&method, &path, status);
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_ended_with_every_call() {
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (gateway, _folder) = gateway().await;
    let address = gateway.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    for path in ["/api/v1/bank/news", "/api/v1/control/load"] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1_024];
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut answer)).await;
        let read = read.unwrap_or_else(|_| panic!("{path} waits for ever")).unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
}
