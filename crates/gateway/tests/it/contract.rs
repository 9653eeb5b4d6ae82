//! The document about the API, held against every answer that any test of this crate gets: its status, its media type and its
//! body must be described.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::reply::Reply;
use crate::test_bed::TestBed;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&seckill_gateway::http::openapi()).expect("the document is JSON"));

/// Panics where an answer is not described. Pages are not calls, and what nothing is said about is a path that is not served, or not by this method.
pub(crate) fn check(method: &Method, path: &str, reply: &Reply) {
    let Some((template, operation)) = operation(method, path) else {
        // A crowd that asks for what there is not may be refused, too.
        let is_call = path.starts_with("/api/");
        assert!(
            !is_call || matches!(reply.status, 404 | 405 | 429),
            "{method} {path} is served and not described"
        );
        return;
    };
    // With a listener for admins, buyers find nothing at the paths of admins.
    let detail = reply.json["detail"].as_str().unwrap_or_default();
    if reply.status == 405 || detail.starts_with("There is nothing at ") {
        return;
    }
    let name = format!("{method} {template}: {}", reply.status);
    let response = &operation["responses"][reply.status.to_string()];
    assert!(response.is_object(), "{name} is not described; {reply:?}");
    let Some(content) = response["content"].as_object() else {
        assert!(reply.text.is_empty(), "{name} has a body that is not described");
        return;
    };
    let given = reply.header("content-type").unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default();
    let described =
        content.get(media_type).unwrap_or_else(|| panic!("{name} is {given}, which is not described"));
    if media_type.ends_with("json") {
        validate(&name, &described["schema"], &reply.json);
    }
    if media_type == "application/problem+json" {
        let kind = reply.json["type"].as_str().expect("a type");
        let slug = kind.rsplit('/').next().expect("a slug");
        assert!(described["examples"][slug].is_object(), "{name} is {slug}, which is not described");
    }
}

fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let (template, item) = paths.iter().find(|(template, _)| matches(template, path))?;
    // HEAD is answered as GET is, without the body.
    let operation = item.get(method.as_str().to_lowercase())?;
    Some((template, operation))
}

fn matches(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(part), Some(text)) if part.starts_with('{') && !text.is_empty() => {}
            (Some(part), Some(text)) if part == text => {}
            _ => return false,
        }
    }
}

fn validate(name: &str, schema: &Value, body: &Value) {
    static COMPILED: LazyLock<Mutex<BTreeMap<String, jsonschema::Validator>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().expect("no test panics in here");
    let key = schema.to_string();
    let validator = compiled.entry(key).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        jsonschema::validator_for(&whole).expect("the schema is one")
    });
    let wrong: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    drop(compiled);
    assert!(wrong.is_empty(), "{name} does not fit its schema: {wrong:?}; {body}");
}

#[tokio::test]
async fn the_document_and_its_page_are_served_by_the_gateway_alone() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    assert_eq!(gateway.get("/openapi.json").await.expect(200).json, *DOCUMENT);
    let page = gateway.get("/docs/").await.expect(200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    for file in page.text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css")) {
        assert!(!file.contains("//"), "the page asks another host for {file}");
        gateway.get(&format!("/docs/{}", file.trim_start_matches("./"))).await.expect(200);
    }
    gateway.get("/docs/no-such-file").await.expect(404);
}

#[test]
fn every_problem_has_an_example_that_fits_its_schema() {
    let problem = json!({"$ref": "#/components/schemas/Problem"});
    let mut seen = 0;
    for item in DOCUMENT["paths"].as_object().expect("paths").values() {
        for operation in
            item.as_object().expect("operations").values().filter(|it| it["responses"].is_object())
        {
            for response in operation["responses"].as_object().expect("responses").values() {
                let Some(examples) = response["content"]["application/problem+json"]["examples"].as_object()
                else {
                    continue;
                };
                for (slug, example) in examples {
                    validate(slug, &problem, &example["value"]);
                    assert_eq!(example["value"]["type"], format!("/problems/{slug}"));
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 50, "{seen}");
}
