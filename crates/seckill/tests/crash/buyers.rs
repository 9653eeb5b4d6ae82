//! Buyers over HTTP: they try again as the same user until they have an answer that is final, and keep a record of every answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::bed::HEALED;
use crate::process::{Role, token};

/// The longest pause before a buyer tries again, whatever `Retry-After` says.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One answer, as its buyer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 202 or 200 with the order's id.
    Promised(Uuid),
    /// 409 `sold-out`.
    SoldOut,
    /// 503 or 429, with the last part of its type: the buyer tries again.
    Refused(String),
    /// No answer: the connection broke, or it took too long.
    None,
}

/// The buyers of one sale, and what they were answered.
pub(crate) struct Buyers {
    http: reqwest::Client,
    sale: u64,
    gateways: Mutex<Vec<String>>,
    book: Mutex<BTreeMap<u64, Vec<Answer>>>,
}

impl Buyers {
    pub(crate) fn of(sale: u64, gateways: &[&Role]) -> Arc<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let buyers = Self { http, sale, gateways: Mutex::default(), book: Mutex::default() };
        buyers.send_to(gateways);
        Arc::new(buyers)
    }

    /// From now on they send to these gateways, in turn.
    pub(crate) fn send_to(&self, gateways: &[&Role]) {
        *self.gateways.lock().unwrap() = gateways.iter().map(|gateway| gateway.url()).collect();
    }

    /// Each of `users` orders one unit, the next one `pause` after the one before, and goes on until the answer is final.
    pub(crate) async fn order_all(self: Arc<Self>, users: RangeInclusive<u64>, pause: Duration) {
        let mut tasks = JoinSet::new();
        for user in users {
            let buyers = Arc::clone(&self);
            tasks.spawn(async move { buyers.order(user).await });
            sleep(pause).await;
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// The same in the background.
    pub(crate) fn ordering(
        self: &Arc<Self>,
        users: RangeInclusive<u64>,
        pause: Duration,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Arc::clone(self).order_all(users, pause))
    }

    /// Orders one unit until the answer is final; `None`: sold out.
    pub(crate) async fn order(&self, user: u64) -> Option<Uuid> {
        let deadline = Instant::now() + HEALED;
        for attempt in 0.. {
            let (answer, pause) = self.try_once(user, attempt).await;
            match answer {
                Answer::Promised(id) => return Some(id),
                Answer::SoldOut => return None,
                Answer::Refused(_) | Answer::None => {}
            }
            assert!(Instant::now() < deadline, "user {user} has no final answer: {:?}", self.answers(user));
            sleep(pause).await;
        }
        unreachable!("it goes on until the answer is final")
    }

    /// Sends one request, records the answer, and gives it with the pause before the next.
    pub(crate) async fn try_once(&self, user: u64, attempt: u64) -> (Answer, Duration) {
        let gateway = {
            let gateways = self.gateways.lock().unwrap();
            gateways[usize::try_from(user + attempt).unwrap() % gateways.len()].clone()
        };
        let url = format!("{gateway}/api/v1/sales/{}/orders", self.sale);
        let sent = self.http.post(url).bearer_auth(token(user)).send().await;
        let (answer, pause) = match sent {
            Ok(answer) => read(user, answer).await,
            Err(_) => (Answer::None, Duration::from_millis(200)),
        };
        self.record(user, answer.clone());
        (answer, pause)
    }

    fn record(&self, user: u64, answer: Answer) {
        let mut book = self.book.lock().unwrap();
        let answers = book.entry(user).or_default();
        if let Answer::Promised(id) = answer {
            let other = answers.iter().find(|a| matches!(a, Answer::Promised(other) if *other != id));
            assert_eq!(other, None, "user {user} was given another id before {id}");
        }
        answers.push(answer);
    }

    /// Asks for an order as its buyer: the status of the answer.
    pub(crate) async fn look_up(&self, gateway: &str, user: u64, order: Uuid) -> (u16, Value) {
        let answer = self
            .http
            .get(format!("{gateway}/api/v1/orders/{order}"))
            .bearer_auth(token(user))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    fn answers(&self, user: u64) -> Vec<Answer> {
        self.book.lock().unwrap().get(&user).cloned().unwrap_or_default()
    }

    /// Every order that was promised, and its buyer.
    pub(crate) fn promised(&self) -> BTreeMap<Uuid, u64> {
        let book = self.book.lock().unwrap();
        let promised = |(user, answers): (&u64, &Vec<Answer>)| {
            answers.iter().find_map(|answer| match answer {
                Answer::Promised(id) => Some((*id, *user)),
                _ => None,
            })
        };
        book.iter().filter_map(promised).collect()
    }

    /// How many answers were refusals of this type.
    pub(crate) fn refusals(&self, kind: &str) -> usize {
        let book = self.book.lock().unwrap();
        book.values().flatten().filter(|answer| matches!(answer, Answer::Refused(k) if k == kind)).count()
    }

    /// Every buyer with an order sends the request again, and gets the same id.
    pub(crate) async fn retry_all(&self) {
        for (id, user) in self.promised() {
            assert_eq!(self.order(user).await, Some(id), "user {user}");
        }
    }
}

async fn read(user: u64, answer: reqwest::Response) -> (Answer, Duration) {
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
    let pause = after.map_or(LONGEST_PAUSE, Duration::from_secs).min(LONGEST_PAUSE);
    let Ok(text) = answer.text().await else { return (Answer::None, LONGEST_PAUSE) };
    assert!(!text.contains("127.0.0.1"), "an answer to a buyer names a server: {text}");
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let kind = body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/").to_owned();
    let answer = match (status, kind.as_str()) {
        (202 | 200, _) => Answer::Promised(body["order_id"].as_str().unwrap().parse().unwrap()),
        (409, "sold-out") => Answer::SoldOut,
        (503 | 429, _) => Answer::Refused(kind),
        _ => panic!("user {user} was answered {status}: {text}"),
    };
    (answer, pause)
}
