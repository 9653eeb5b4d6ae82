//! Webhooks: over real HTTP, to a receiver at this machine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use seckill_core::{Backend, EventMessage, SaleId, Waiting, in_trace};
use seckill_events::deliver::{Delivery, End, Sink, Verdict, deliver};
use seckill_events::webhook::{
    self, ATTEMPTS, EVENT_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Timing, Webhook,
};
use seckill_testkit::eventually;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::setup::{SOON, back_end, order, paid};

const SECRET: &str = "0123456789abcdef";
const NAME: &str = "crm";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// One request that has arrived.
#[derive(Clone)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// Answers with what it was told to, one after the other, and then with 204.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<Response>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Breaks the first `broken` connections.
    async fn start(answers: Vec<Response>, broken: usize) -> (Self, Url, AbortOnDropHandle<()>) {
        let receiver = Self { answers: Arc::new(Mutex::new(answers.into())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events?for=crm", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(take).with_state(receiver.clone());
        let serving = tokio::spawn(async move {
            for _ in 0..broken {
                drop(listener.accept().await);
            }
            axum::serve(listener, router).await.unwrap();
        });
        (receiver, url, AbortOnDropHandle::new(serving))
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        self.got().iter().map(|got| got.header(EVENT_ID_HEADER).to_owned()).collect()
    }
}

async fn take(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    receiver.got.lock().unwrap().push(Got { path: uri.to_string(), headers, body });
    let answer = receiver.answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response())
}

fn webhook(url: &Url) -> Webhook {
    Webhook::new(url, SECRET.as_bytes(), true).unwrap().with_timing(Timing {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        answer_within: Duration::from_secs(20),
    })
}

/// Subscribes, publishes events, and delivers until `count` of them are taken or parked.
async fn delivered(backend: &Backend, events: usize, sink: &mut Webhook) -> Vec<EventMessage> {
    let name = NAME.parse().unwrap();
    let patterns = ["order.*".parse().unwrap()];
    drop(backend.events.subscribe(&name, &patterns, 1).await.unwrap());
    let messages: Vec<_> =
        (0..events).map(|user| paid(SaleId(1), vec![order(user as u64)]).message()).collect();
    let mut publisher = backend.events.publisher().await.unwrap();
    for message in &messages {
        publisher.publish(message).await.unwrap();
    }
    deliver_again(backend, events, sink).await;
    messages
}

async fn deliver_again(backend: &Backend, events: usize, sink: &mut Webhook) {
    let name = NAME.parse().unwrap();
    let delivery =
        Delivery { name: &name, patterns: &["order.*".parse().unwrap()], count: Some(events as u64) };
    let ended = deliver(&*backend.events, delivery, sink, CancellationToken::new());
    assert_eq!(tokio::time::timeout(SOON, ended).await.unwrap().unwrap(), End::Counted);
}

async fn assert_waiting(backend: &Backend, expected: Waiting) {
    eventually(SOON, async || {
        let waiting = backend.events.waiting(&NAME.parse().unwrap()).await.unwrap().unwrap();
        if waiting == expected { Ok(()) } else { Err(waiting) }
    })
    .await;
}

fn id(message: &EventMessage) -> String {
    message.id.to_string()
}

#[tokio::test]
async fn an_event_is_posted_again_until_it_is_taken_and_its_signature_proves_it() {
    let (_folder, backend) = back_end().await;
    let answers = vec![
        StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (StatusCode::INTERNAL_SERVER_ERROR, [("connection", "close")]).into_response(),
        // Longer than anybody reads.
        (StatusCode::OK, "x".repeat(1_000_000)).into_response(),
    ];
    let (receiver, url, _serving) = Receiver::start(answers, 2).await;
    let trace = Some(TRACEPARENT.parse().unwrap());
    let messages = in_trace(trace, delivered(&backend, 2, &mut webhook(&url))).await;
    let [first, second] = [id(&messages[0]), id(&messages[1])];
    assert_eq!(receiver.ids(), [first.clone(), first.clone(), first, second]);
    for (got, message) in receiver.got().iter().zip([&messages[0], &messages[0], &messages[0], &messages[1]])
    {
        assert_eq!(got.path, "/events?for=crm");
        assert_eq!(got.header("content-type"), "application/cloudevents+json");
        assert_eq!(got.body, message.text);
        assert_eq!(got.header("traceparent"), TRACEPARENT);
        let timestamp: u64 = got.header(TIMESTAMP_HEADER).parse().unwrap();
        let now = u64::try_from(seckill_core::now().timestamp()).unwrap();
        assert!(timestamp.abs_diff(now) < 60, "{timestamp} at {now}");
        assert!(webhook::verify(SECRET.as_bytes(), timestamp, &got.body, got.header(SIGNATURE_HEADER)));
    }
    assert_waiting(&backend, Waiting::default()).await;
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_parked_and_the_next_one_goes_on() {
    let (_folder, backend) = back_end().await;
    let answers = (0..ATTEMPTS).map(|_| StatusCode::BAD_REQUEST.into_response()).collect();
    let (receiver, url, _serving) = Receiver::start(answers, 0).await;
    let mut sink = webhook(&url);
    let messages = delivered(&backend, 2, &mut sink).await;
    let mut expected = vec![id(&messages[0]); ATTEMPTS as usize];
    expected.push(id(&messages[1]));
    assert_eq!(receiver.ids(), expected);
    assert_waiting(&backend, Waiting { events: 0, parked: 1 }).await;
    // A human has found out why.
    assert_eq!(backend.events.redrive_parked(&NAME.parse().unwrap()).await.unwrap(), 1);
    deliver_again(&backend, 1, &mut sink).await;
    expected.push(id(&messages[0]));
    assert_eq!(receiver.ids(), expected);
    assert_waiting(&backend, Waiting::default()).await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_no_event_twice() {
    let (_folder, backend) = back_end().await;
    let (receiver, url, _serving) =
        Receiver::start(vec![StatusCode::GONE.into_response(), StatusCode::GONE.into_response()], 0).await;
    let messages = delivered(&backend, 2, &mut webhook(&url)).await;
    assert_eq!(receiver.ids(), [id(&messages[0]), id(&messages[1])]);
    assert_waiting(&backend, Waiting { events: 0, parked: 2 }).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = || (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response();
    let (receiver, url, _serving) = Receiver::start((0..ATTEMPTS).map(|_| elsewhere()).collect(), 0).await;
    let verdict = webhook(&url).take(&paid(SaleId(1), vec![order(1)]).message()).await.unwrap();
    let Verdict::Park(reason) = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("307") && reason.contains("/elsewhere"), "{reason}");
    assert_eq!(receiver.got().len(), ATTEMPTS as usize);
    assert!(receiver.got().iter().all(|got| got.path == "/events?for=crm"));
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let timing = Timing {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        answer_within: Duration::from_millis(20),
    };
    // Nobody accepts: the system does, and nothing more comes.
    let verdict = webhook(&url).with_timing(timing).take(&paid(SaleId(1), vec![order(1)]).message()).await;
    let Verdict::Park(reason) = verdict.unwrap() else { panic!("it was taken") };
    assert!(reason.contains("posted 10 times; at last no answer within 20ms"), "{reason}");
}

#[tokio::test]
async fn a_private_address_is_refused_whether_it_is_written_or_resolved() {
    let (receiver, url, _serving) = Receiver::start(Vec::new(), 0).await;
    let refused = Webhook::new(&url, SECRET.as_bytes(), false).err().unwrap();
    assert!(refused.contains("127.0.0.1 is a loopback address"), "{refused}");
    let mut named = url.clone();
    named.set_host(Some("localhost")).unwrap();
    let sink = Webhook::new(&named, SECRET.as_bytes(), false).unwrap();
    let refused = sink.check_address().await.unwrap_err();
    assert!(refused.contains("localhost resolves to") && refused.contains("a loopback address"), "{refused}");
    // The name may have led somewhere else when it was looked at first.
    let mut sink = sink.with_timing(Timing {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(1),
        ..Timing::default()
    });
    let verdict = sink.take(&paid(SaleId(1), vec![order(1)]).message()).await.unwrap();
    let Verdict::Park(reason) = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("localhost resolves to"), "{reason}");
    assert!(receiver.got().is_empty());
    assert!(webhook(&named).check_address().await.is_ok());
}
