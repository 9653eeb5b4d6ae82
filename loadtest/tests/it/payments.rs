//! What comes after the order at the small gateway: payments, cancellations and refunds, and its bank. Honest, or with one lie
//! about money.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::gateway::{App, Lie, unix_ms, user};
use crate::server::problem;

/// An order of a sale with payments.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    user: u64,
    committed_ms: u128,
    /// `committed` until its window is over, or another word.
    status: &'static str,
    payment: Option<Uuid>,
    charges: u64,
    gone_back: bool,
    /// Requests to pay, to cancel, to give back.
    asked: u32,
}

/// The orders of a sale with payments.
#[derive(Debug, Default)]
pub(crate) struct Payments {
    pub(crate) window_ms: u128,
    pub(crate) price_cents: u64,
    accounts: BTreeMap<Uuid, Account>,
    lie: Option<Lie>,
    /// Payments whose two copies came at once under one key.
    pub(crate) repeated: u64,
    /// How often somebody has read what the subscribers have done.
    effects_read: u64,
}

impl Payments {
    pub(crate) fn new(lie: Lie, window_ms: u64, price_cents: u64) -> Self {
        Self { window_ms: window_ms.into(), price_cents, lie: Some(lie), ..Self::default() }
    }

    pub(crate) fn are_on(&self) -> bool {
        self.window_ms > 0
    }

    fn lies(&self, lie: Lie) -> bool {
        self.lie == Some(lie)
    }

    pub(crate) fn open(&mut self, id: Uuid, user: u64, committed_ms: u128) {
        let account = Account {
            user,
            committed_ms,
            status: "committed",
            payment: None,
            charges: 0,
            gone_back: false,
            asked: 0,
        };
        self.accounts.insert(id, account);
    }

    /// An order as it is now: its word, and why it was cancelled.
    pub(crate) fn status(&self, id: Uuid) -> (&'static str, Option<&'static str>) {
        let Some(account) = self.accounts.get(&id) else { return ("committed", None) };
        let window = if self.lies(Lie::ExpiresEarly) { self.window_ms / 4 } else { self.window_ms };
        let over = unix_ms() > account.committed_ms + window;
        match account.status {
            "committed" if over && self.lies(Lie::PaysUnasked) => ("paid", None),
            "committed" if over && !self.lies(Lie::NeverExpires) => ("cancelled", Some("expired")),
            "cancelled" => ("cancelled", Some("buyer")),
            word => (word, None),
        }
    }

    fn is_late(&self, account: &Account) -> bool {
        unix_ms() > account.committed_ms + self.window_ms
    }

    fn pay(&mut self, id: Uuid, key: &str) -> Response {
        assert_eq!(key, id.to_string(), "one key for each order");
        let (status, _) = self.status(id);
        let late = self.accounts.get(&id).is_some_and(|account| self.is_late(account));
        let lie = self.lie;
        let Some(account) = self.accounts.get_mut(&id) else { return problem(404, "not-found", None) };
        account.asked += 1;
        if lie == Some(Lie::Busy) && account.asked < 5 {
            return later(account.asked, id);
        }
        if let Some(payment) = account.payment {
            self.repeated += 1;
            let payment = if lie == Some(Lie::TwoAnswers) { Uuid::now_v7() } else { payment };
            let too_late = account.status == "refunded";
            return if too_late { problem(409, "paid-too-late", Some(id)) } else { paid(id, payment) };
        }
        let payment = Uuid::now_v7();
        match lie {
            // The money comes after the order was cancelled, and goes back.
            Some(Lie::TakesLate | Lie::KeepsLate) if late => {
                (account.payment, account.charges, account.status) = (Some(payment), 1, "refunded");
                account.gone_back = lie == Some(Lie::TakesLate);
                problem(409, "paid-too-late", Some(id))
            }
            Some(Lie::TellsPaid) => paid(id, payment),
            Some(Lie::DeclinesAndCharges) => {
                (account.payment, account.charges, account.status) = (Some(payment), 1, "paid");
                problem(402, "payment-declined", Some(id))
            }
            _ if status != "committed" => problem(409, "order-state", Some(id)),
            _ => {
                account.charges = if lie == Some(Lie::ChargesTwice) { 2 } else { 1 };
                (account.payment, account.status) = (Some(payment), "paid");
                paid(id, payment)
            }
        }
    }

    /// The money of the sale's audit.
    pub(crate) fn money(&self) -> Option<Value> {
        if !self.are_on() || self.lies(Lie::NoMoney) {
            return None;
        }
        let sum = |of: &dyn Fn(&Account) -> bool| {
            self.accounts.values().filter(|account| of(account)).count() as u64 * self.price_cents
        };
        let charged = sum(&|account| account.charges > 0);
        let refunded = sum(&|account| account.status == "refunded");
        let refunding = sum(&|account| account.status == "refund_held");
        let paid = charged - refunded - refunding;
        Some(json!({
            "charged_cents": charged, "refunded_cents": refunded, "refunding_cents": refunding,
            "paid_cents": if self.lies(Lie::WrongSum) { paid + 1 } else { paid },
            "entries_sum": u8::from(self.lies(Lie::Unbalanced)), "unbalanced": u8::from(self.lies(Lie::Unbalanced)),
        }))
    }

    /// What the subscribers have done about the events of refunds, beside what they must have done.
    pub(crate) fn effects(&mut self) -> Vec<Value> {
        self.effects_read += 1;
        let with = |word| self.accounts.keys().filter(|id| self.status(**id).0 == word).count() as i64;
        let (paid, cancelled, held, refunded) =
            (with("paid"), with("cancelled"), with("refund_held"), with("refunded"));
        let if_lie = |lie, by| if self.lies(lie) { by } else { 0 };
        let points = (paid + held) * self.price_cents as i64 / 100;
        let late = if_lie(Lie::EffectsLater, i64::from(self.effects_read == 1));
        let both = "order.cancelled, refund.succeeded";
        [
            ("funnel", "refund.requested", held + refunded, 0),
            ("funnel", "refund.transferred", refunded, if_lie(Lie::CountsTwice, 1)),
            ("funnel", "refund.succeeded", refunded, -late),
            ("notifications", "refund.succeeded", refunded, if_lie(Lie::ForgetsNotice, -1)),
            ("notifications", "refund.held", held, 0),
            ("restock", both, cancelled + refunded, -late),
            ("loyalty", "order.paid, refund.succeeded", points, late + if_lie(Lie::GivesPointsTwice, 2)),
        ]
        .map(|(subscriber, event, expected, by)| {
            json!({"subscriber": subscriber, "event": event, "expected": expected, "actual": expected + by})
        })
        .to_vec()
    }

    pub(crate) fn returning(&self) -> u64 {
        u64::from(self.lies(Lie::NeverReturns))
    }

    fn charges(&self) -> String {
        let mut text = "key,order_id,amount_cents,status,refunded_cents\n".to_owned();
        let mut row = |order: Uuid, refunded: bool| {
            let (key, price) = (Uuid::now_v7(), self.price_cents);
            text += &format!("{key},{order},{price},succeeded,{}\n", if refunded { price } else { 0 });
        };
        for (id, account) in &self.accounts {
            (0..account.charges).for_each(|_| row(*id, account.gone_back));
        }
        if self.lies(Lie::ChargesOthers) && self.accounts.values().any(|account| account.charges > 0) {
            row(Uuid::now_v7(), false);
        }
        text
    }
}

/// The answers after which the same request is to be sent again, one after the other.
fn later(asked: u32, id: Uuid) -> Response {
    let mut response = match asked {
        1 => problem(503, "unavailable", None),
        2 => problem(429, "rate-limited", None),
        3 => problem(409, "payment-under-way", Some(id)),
        _ => (StatusCode::ACCEPTED, Json(json!({"order_id": id, "status": "processing"}))).into_response(),
    };
    // Not a number of seconds that the client may wait for: it falls back to the shortest pause.
    response.headers_mut().insert(header::RETRY_AFTER, "0".parse().unwrap());
    response
}

fn paid(id: Uuid, payment: Uuid) -> Response {
    Json(json!({"order_id": id, "status": "paid", "payment_id": payment})).into_response()
}

/// Of the buyer's own order only.
fn own(app: &App, id: Uuid, headers: &HeaderMap) -> bool {
    let user = user(headers).unwrap();
    app.books.lock().unwrap().payments.accounts.get(&id).is_some_and(|account| account.user == user)
}

pub(crate) async fn pay(
    State(app): State<App>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    assert_eq!(body, json!({"card": "tok_visa"}));
    if !own(&app, id, &headers) {
        return problem(404, "not-found", None);
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    app.books.lock().unwrap().payments.pay(id, &key)
}

pub(crate) async fn cancel(State(app): State<App>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    change(&app, id, &headers, 200, |lie, account| {
        let word = if lie == Some(Lie::TellsCancelled) { "paid" } else { "cancelled" };
        (account.status == "committed").then_some(word)
    })
}

pub(crate) async fn refund(State(app): State<App>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    change(&app, id, &headers, 202, |lie, account| {
        account.gone_back = !matches!(lie, Some(Lie::KeepsRefunds | Lie::HoldsRefunds));
        let word = match lie {
            Some(Lie::HoldsRefunds) => "refund_held",
            _ => "refunded",
        };
        (account.status == "paid").then_some(word)
    })
}

fn change(
    app: &App,
    id: Uuid,
    headers: &HeaderMap,
    done: u16,
    to: impl FnOnce(Option<Lie>, &mut Account) -> Option<&'static str>,
) -> Response {
    if !own(app, id, headers) {
        return problem(404, "not-found", None);
    }
    let mut books = app.books.lock().unwrap();
    let payments = &mut books.payments;
    let (status, _) = payments.status(id);
    let lie = payments.lie;
    let account = payments.accounts.get_mut(&id).unwrap();
    account.asked += 1;
    if lie == Some(Lie::Busy) && account.asked % 2 == 1 {
        return problem(503, "change-unknown", Some(id));
    }
    let told = match to(lie, account).filter(|_| status != "cancelled") {
        Some(word) => word,
        None => return problem(409, "order-state", Some(id)),
    };
    account.status = told;
    let status = if done == 200 { "cancelled" } else { told };
    let body = json!({"order_id": id, "sale_id": 1, "quantity": 1, "status": status});
    (StatusCode::from_u16(done).unwrap(), Json(body)).into_response()
}

pub(crate) async fn charges(State(app): State<App>) -> Response {
    let text = app.books.lock().unwrap().payments.charges();
    ([(header::CONTENT_TYPE, "text/csv")], text).into_response()
}
