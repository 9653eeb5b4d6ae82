//! The drain rate and the pause of the workers, without the controls of a demonstration.

use reqwest::Method;
use seckill_core::{DrainRate, ProcessId, Role, Snapshot};
use serde_json::{Value, json};

use crate::gateway::{ADMIN_TOKEN, Gateway, send};
use crate::reply::Reply;
use crate::test_bed::TestBed;

async fn put(gateway: &Gateway, body: &Value) -> Reply {
    send(gateway.request(Method::PUT, "/api/v1/workers").bearer_auth(ADMIN_TOKEN).json(body)).await
}

async fn show(gateway: &Gateway) -> Value {
    send(gateway.request(Method::GET, "/api/v1/workers").bearer_auth(ADMIN_TOKEN)).await.expect(200).json
}

#[tokio::test]
async fn settings_change_field_by_field() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let none = json!({"revision": 0, "drain_rate": null, "paused": false, "workers": []});
    assert_eq!(show(&gateway).await, none);
    for (body, expected) in [
        (
            json!({"drain_rate": 2000}),
            json!({"revision": 1, "drain_rate": "2000", "paused": false, "workers": []}),
        ),
        (
            json!({"paused": true}),
            json!({"revision": 2, "drain_rate": "2000", "paused": true, "workers": []}),
        ),
        (
            json!({"drain_rate": "unlimited", "paused": false}),
            json!({"revision": 3, "drain_rate": "unlimited", "paused": false, "workers": []}),
        ),
        (
            json!({"drain_rate": "auto"}),
            json!({"revision": 4, "drain_rate": "auto", "paused": false, "workers": []}),
        ),
        (
            json!({"drain_rate": null}),
            json!({"revision": 5, "drain_rate": null, "paused": false, "workers": []}),
        ),
    ] {
        assert_eq!(put(&gateway, &body).await.expect(200).json, expected);
        assert_eq!(show(&gateway).await, expected);
    }
    let settings = bed.real.control.settings().await.unwrap();
    assert_eq!((settings.revision, settings.drain_rate, settings.paused), (5, None, false));
}

#[tokio::test]
async fn a_worker_that_reports_is_listed_with_what_it_does() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let snapshot = Snapshot {
        process: ProcessId::generate(),
        name: "worker at here:1".to_owned(),
        roles: vec![Role::Worker],
        uptime_ms: 1,
        series: Default::default(),
        histograms: Default::default(),
        drain_rate: Some(DrainRate::Paused),
        drain_told: None,
        settings_revision: 3,
        faults: Vec::new(),
        load: None,
        readiness: None,
    };
    let reporting = async {
        loop {
            bed.real.control.exchange(&snapshot).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let shown = tokio::select! {
        shown = show(&gateway) => shown,
        () = reporting => unreachable!("it never ends"),
    };
    let worker = json!({"name": "worker at here:1", "drain_rate": "paused", "revision": 3});
    assert_eq!(shown["workers"], json!([worker]));
}

#[tokio::test]
async fn wrong_settings_say_what_is_allowed() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    for (body, field) in [
        (json!({}), "body"),
        (json!({"drain_rate": 0}), "drain_rate"),
        (json!({"drain_rate": 1_000_001}), "drain_rate"),
        (json!({"drain_rate": "paused"}), "drain_rate"),
        (json!({"drain_rate": "fast"}), "drain_rate"),
        (json!({"drain_rate": -1}), "body"),
        (json!({"paused": "yes"}), "body"),
        (json!({"faults": {}}), "body"),
    ] {
        let refused = put(&gateway, &body).await.expect_problem(422, "invalid");
        assert_eq!(refused.wrong_fields()[0].0, field, "{refused:?}");
    }
    assert_eq!(bed.real.control.settings().await.unwrap().revision, 0);
}
