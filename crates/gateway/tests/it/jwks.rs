//! Keys at an address: fetched, rotated, withdrawn; and what happens while it is away, slow, wrong, or while somebody invents key ids.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use seckill_gateway::Config;
use seckill_gateway::buyers::{BuyerKeys, JwksConfig, KeySources};
use seckill_testkit::eventually;
use seckill_token::{KeyPair, generate_ed25519};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::gateway::{Gateway, JWT_SECRET, config};
use crate::key_files::answer;
use crate::test_bed::{SOON, TestBed};

/// An identity provider that publishes what a test tells it to.
struct Provider {
    url: url::Url,
    says: Arc<Says>,
}

#[derive(Default)]
struct Says {
    body: Mutex<String>,
    status: Mutex<StatusCode>,
    cache: Mutex<Option<&'static str>>,
    delay: Mutex<Duration>,
    asked: AtomicUsize,
}

async fn keys(State(says): State<Arc<Says>>) -> Response {
    says.asked.fetch_add(1, Ordering::SeqCst);
    let delay = *says.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let cache = says.cache.lock().unwrap().unwrap_or("public");
    let (status, body) = (*says.status.lock().unwrap(), says.body.lock().unwrap().clone());
    (status, [("cache-control", cache), ("location", "/elsewhere")], body).into_response()
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
        let says = Arc::<Says>::default();
        let router = Router::new().route("/jwks.json", get(keys)).with_state(Arc::clone(&says));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, says }
    }

    fn publish(&self, keys: &[(&str, &KeyPair)]) {
        let keys: Vec<Value> = keys.iter().map(|(kid, pair)| jwk(kid, pair)).collect();
        *self.says.body.lock().unwrap() = json!({ "keys": keys }).to_string();
    }

    fn fail(&self) {
        *self.says.status.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    }

    fn asked(&self) -> usize {
        self.says.asked.load(Ordering::SeqCst)
    }

    async fn asked_more_than(&self, times: usize) {
        eventually(SOON, async || if self.asked() > times { Ok(()) } else { Err(self.asked()) }).await;
    }

    /// Asked every hour unless a test says otherwise, and as soon as it likes.
    fn config(&self) -> JwksConfig {
        let (refresh, pause) = (Duration::from_secs(3_600), Duration::from_millis(1));
        JwksConfig { refresh, pause, ..JwksConfig::new(self.url.clone()) }
    }
}

/// The public half as a JWK; the last 32 bytes of its DER are the key.
fn jwk(kid: &str, pair: &KeyPair) -> Value {
    let base64: String = pair.public.lines().filter(|line| !line.starts_with('-')).collect();
    // 12 bytes before the key are 16 characters of base64.
    let x = base64[16..].trim_end_matches('=').replace('+', "-").replace('/', "_");
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "use": "sig", "alg": "EdDSA"})
}

async fn gateway(bed: &TestBed, jwks: JwksConfig) -> Gateway {
    let secret = Some(SecretString::from(JWT_SECRET));
    let buyers = BuyerKeys::open(KeySources { secret, jwks: Some(jwks), ..KeySources::default() }).unwrap();
    Gateway::with(&bed.backend, Config { buyers, ..config() }).await
}

async fn becomes(gateway: &Gateway, pair: &KeyPair, kid: &str, expected: u16) {
    eventually(SOON, async || {
        let status = answer(gateway, pair, kid).await;
        if status == expected { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_key_is_fetched_at_once_and_a_withdrawn_one_stops_working() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let (old, new) = (generate_ed25519(), generate_ed25519());
    provider.publish(&[("old", &old)]);
    let gateway = gateway(&bed, provider.config()).await;
    becomes(&gateway, &old, "old", 404).await;
    provider.publish(&[("new", &new)]);
    assert_eq!(answer(&gateway, &old, "old").await, 404, "nobody has looked yet");
    assert_eq!(
        answer(&gateway, &new, "new").await,
        404,
        "the refresh that it waited for has brought its key"
    );
    assert_eq!(answer(&gateway, &old, "old").await, 401);
    gateway.get_as(7, "/api/v1/sales/1/orders/mine").await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn keys_are_fetched_again_on_the_interval_and_sooner_where_the_answer_says_so() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let (old, new) = (generate_ed25519(), generate_ed25519());
    provider.publish(&[("old", &old)]);
    *provider.says.cache.lock().unwrap() = Some("public, max-age=1");
    let gateway = gateway(&bed, provider.config()).await;
    becomes(&gateway, &old, "old", 404).await;
    provider.publish(&[("new", &new)]);
    // No token of the new key has come: nobody but the interval brings this about.
    becomes(&gateway, &old, "old", 401).await;
}

#[tokio::test]
async fn invented_key_ids_cause_one_fetch_a_pause_and_known_keys_never_wait() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let (good, other) = (generate_ed25519(), generate_ed25519());
    provider.publish(&[("good", &good)]);
    let config = JwksConfig { pause: Duration::from_secs(3_600), ..provider.config() };
    let gateway = gateway(&bed, config).await;
    becomes(&gateway, &good, "good", 404).await;
    let ids: Vec<_> = (0..200).map(|at| format!("invented-{at}")).collect();
    let answers = join_all(ids.iter().map(|id| answer(&gateway, &other, id))).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert_eq!(provider.asked(), 1, "it was asked at the start and not again");
}

#[tokio::test]
async fn one_fetch_at_a_time_and_tokens_of_known_keys_do_not_wait_for_it() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let (good, other) = (generate_ed25519(), generate_ed25519());
    provider.publish(&[("good", &good)]);
    let gateway = gateway(&bed, provider.config()).await;
    becomes(&gateway, &good, "good", 404).await;
    let before = provider.asked();
    // Longer than a request waits.
    *provider.says.delay.lock().unwrap() = Duration::from_secs(4);
    let ids: Vec<_> = (0..300).map(|at| format!("invented-{at}")).collect();
    let begin = Instant::now();
    let inventors = join_all(ids.iter().map(|id| answer(&gateway, &other, id)));
    let honest = async {
        provider.asked_more_than(before).await;
        let mut answered = 0;
        while provider.asked() == before + 1 && answered < 10 {
            assert_eq!(answer(&gateway, &good, "good").await, 404);
            answered += 1;
        }
        (answered, begin.elapsed())
    };
    let (answers, (answered, took)) = tokio::join!(inventors, honest);
    assert_eq!(answered, 10, "all during one fetch, which took 4 s; they took {took:?}");
    assert!(
        answers.iter().all(|status| *status == 503),
        "nobody knows whether these keys exist: {answers:?}"
    );
    assert_eq!(provider.asked(), before + 1);
}

#[tokio::test]
async fn while_the_address_is_away_its_last_keys_stay_valid_for_a_time() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let (good, other) = (generate_ed25519(), generate_ed25519());
    provider.publish(&[("good", &good)]);
    let (refresh, keep) = (Duration::from_millis(50), Duration::from_secs(4));
    let gateway = gateway(&bed, JwksConfig { refresh, keep, ..provider.config() }).await;
    becomes(&gateway, &good, "good", 404).await;
    provider.fail();
    let asked = provider.asked();
    provider.asked_more_than(asked + 1).await;
    assert_eq!(answer(&gateway, &good, "good").await, 404, "a failed fetch takes no key away");
    assert_eq!(answer(&gateway, &other, "unknown").await, 503, "its key may be there");
    becomes(&gateway, &good, "good", 503).await;
    gateway.get_as(7, "/api/v1/sales/1/orders/mine").await.expect_problem(404, "not-found");
    *provider.says.status.lock().unwrap() = StatusCode::OK;
    becomes(&gateway, &good, "good", 404).await;
}

#[tokio::test]
async fn a_gateway_starts_while_the_address_is_away_and_takes_no_wrong_answer() {
    let (bed, provider) = (TestBed::new().await, Provider::start().await);
    let pair = generate_ed25519();
    let gateway = gateway(&bed, provider.config()).await;
    let secret = json!({"kty": "oct", "kid": "s", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    let good = jwk("good", &pair);
    let too_large = json!({"keys": [good], "padding": "x".repeat(70_000)}).to_string();
    for body in [String::new(), "<html>".to_owned(), json!({"keys": [good, secret]}).to_string(), too_large] {
        *provider.says.body.lock().unwrap() = body;
        let asked = provider.asked();
        provider.asked_more_than(asked + 1).await;
        assert_eq!(answer(&gateway, &pair, "good").await, 503);
    }
    // Somewhere else is not where the operator wanted to have the keys from.
    *provider.says.status.lock().unwrap() = StatusCode::FOUND;
    provider.publish(&[("good", &pair)]);
    let asked = provider.asked();
    provider.asked_more_than(asked + 1).await;
    assert_eq!(answer(&gateway, &pair, "good").await, 503);
    *provider.says.status.lock().unwrap() = StatusCode::OK;
    becomes(&gateway, &pair, "good", 404).await;
}

#[tokio::test]
async fn an_address_that_cannot_be_one_is_refused() {
    for (url, part) in [
        ("ftp://id.example.com/", "no https or http address"),
        ("https://user:hunter2@id.example.com/", "without them"),
    ] {
        let jwks = Some(JwksConfig::new(url.parse().unwrap()));
        let refused = BuyerKeys::open(KeySources { jwks, ..KeySources::default() });
        let message = refused.err().map(|error| error.to_string()).unwrap();
        assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
    }
}
