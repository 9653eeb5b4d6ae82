//! The documents say what the events are: `docs/events.md` for people, `docs/asyncapi.yaml` for programs.

use std::collections::BTreeSet;
use std::path::Path;

use cloudevents::{AttributesReader, Data};
use seckill_core::{CancelReason, Event, EventBody, Orders, Refund, SaleId};
use serde_json::{Map, Value, json};

use crate::setup::{event, order};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Events of every type, with and without what may be left out.
fn every() -> Vec<Event> {
    let orders =
        |reason, count| Orders { sale_id: SaleId(3), reason, orders: (0..count).map(order).collect() };
    let refund = |whole: bool, way: Option<&str>| Refund {
        sale_id: SaleId(3),
        order: order(7),
        returns_units: whole,
        reason: whole.then(|| "too small".to_owned()),
        way: way.map(str::to_owned),
    };
    let mut bodies = vec![
        EventBody::OrderCommitted(orders(None, 1)),
        EventBody::OrderCommitted(orders(None, 100)),
        EventBody::OrderPaid(orders(None, 1)),
    ];
    for reason in [CancelReason::Expired, CancelReason::Buyer] {
        bodies.push(EventBody::OrderCancelled(orders(Some(reason), 2)));
    }
    for whole in [false, true] {
        bodies.extend([
            EventBody::RefundRequested(refund(whole, None)),
            EventBody::RefundHeld(refund(whole, None)),
            EventBody::RefundApproved(refund(whole, None)),
            EventBody::RefundDenied(refund(whole, None)),
            EventBody::RefundSucceeded(refund(whole, None)),
        ]);
        bodies.extend(
            ["card", "balance", "coupon"].map(|way| EventBody::RefundTransferred(refund(whole, Some(way)))),
        );
    }
    let mut events: Vec<_> = bodies.into_iter().map(event).collect();
    let mut traced = events[0].clone();
    traced.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    events.push(traced);
    events
}

fn kinds() -> BTreeSet<&'static str> {
    EventBody::KINDS.into()
}

fn described() -> Value {
    serde_norway::from_str(&document("asyncapi.yaml")).unwrap()
}

/// The schema of one message, such that no field may be there which it does not name. Readers get it without that, so that
/// newer events have room.
fn schema(described: &Value, payload: &Value) -> jsonschema::Validator {
    let mut components = described["components"].clone();
    for schema in components["schemas"].as_object_mut().unwrap().values_mut() {
        let schema: &mut Map<String, Value> = schema.as_object_mut().unwrap();
        if schema.contains_key("properties") || schema.contains_key("allOf") {
            schema.insert("unevaluatedProperties".to_owned(), false.into());
        }
    }
    let whole = json!({"$ref": payload["$ref"], "components": components});
    jsonschema::draft202012::options().should_validate_formats(true).build(&whole).unwrap()
}

/// The message of the document that describes events of this type.
fn message<'a>(described: &'a Value, kind: &str) -> &'a Value {
    let messages = described["components"]["messages"].as_object().unwrap();
    messages.values().find(|message| message["name"] == kind).unwrap_or_else(|| panic!("{kind}"))
}

#[test]
fn the_types_are_the_same_everywhere() {
    assert_eq!(every().iter().map(|event| event.body.kind()).collect::<BTreeSet<_>>(), kinds());
    let described = described();
    let messages = described["components"]["messages"].as_object().unwrap();
    let names: BTreeSet<_> = messages.values().map(|message| message["name"].as_str().unwrap()).collect();
    assert_eq!(names, kinds());
    let in_channel = described["channels"]["events"]["messages"].as_object().unwrap();
    assert!(in_channel.keys().eq(messages.keys()), "every message is in the channel");
    // The first column of the table.
    let text = document("events.md");
    let rows: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(first, _)| first)
        .filter(|first| first.starts_with("order.") || first.starts_with("refund."))
        .collect();
    assert_eq!(rows, EventBody::KINDS);
}

#[test]
fn every_event_is_as_it_is_described() {
    let described = described();
    for event in every() {
        let kind = event.body.kind();
        let schema = schema(&described, &message(&described, kind)["payload"]);
        let value: Value = serde_json::from_str(&event.message().text).unwrap();
        let wrong: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{kind}: {wrong:?} in {value}");
        // And no event of another type.
        for other in kinds().into_iter().filter(|other| *other != kind) {
            let mut renamed = value.clone();
            renamed["type"] = other.into();
            assert!(!schema.is_valid(&renamed), "{kind} as {other}");
        }
    }
}

/// Every path to a field.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = format!("{path}/{name}");
                fields(inner, &path, found);
                found.push(path);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                fields(inner, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// What this program cannot do without is required by the description, and nothing else is, beside what an event of that type
/// always has.
#[test]
fn what_is_required_is_what_a_reader_needs() {
    let described = described();
    for event in every() {
        let kind = event.body.kind();
        let schema = schema(&described, &message(&described, kind)["payload"]);
        let value: Value = serde_json::from_str(&event.message().text).unwrap();
        let mut paths = Vec::new();
        fields(&value, "", &mut paths);
        for path in paths {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let mut without = value.clone();
            without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
            let always = [("order.cancelled", "/data/reason"), ("refund.transferred", "/data/way")]
                .contains(&(kind, &path));
            let readable = serde_json::from_value::<Event>(without.clone()).is_ok() && !always;
            assert_eq!(schema.is_valid(&without), readable, "{kind} without {path}");
        }
    }
}

#[test]
fn every_example_is_an_event() {
    let described = described();
    for kind in EventBody::KINDS {
        let message = message(&described, kind);
        let schema = schema(&described, &message["payload"]);
        for example in message["examples"].as_array().unwrap() {
            let payload = &example["payload"];
            assert!(schema.is_valid(payload), "{kind}: {payload}");
            let event: Event = serde_json::from_value(payload.clone()).unwrap();
            assert_eq!((event.body.kind(), &serde_json::to_value(&event).unwrap()), (kind, payload));
        }
    }
    let text = document("events.md");
    let examples: Vec<_> =
        text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let event: Event = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(serde_json::to_value(&event).unwrap(), serde_json::from_str::<Value>(example).unwrap());
    }
}

/// The library of those who made CloudEvents reads what is published.
#[test]
fn the_cloud_events_library_reads_every_event() {
    for event in every() {
        let text = event.message().text;
        let read: cloudevents::Event = serde_json::from_str(&text).unwrap();
        assert_eq!((read.id(), read.ty()), (event.id.to_string().as_str(), event.body.kind()));
        assert_eq!(read.source(), &event.source);
        assert_eq!((read.subject(), read.time()), (Some(event.subject.as_str()), Some(&event.time)));
        assert_eq!(read.datacontenttype(), Some("application/json"));
        let Some(Data::Json(data)) = read.data() else { panic!("{text}") };
        assert_eq!(data, &serde_json::from_str::<Value>(&text).unwrap()["data"]);
    }
}
