//! The sale, through the public HTTP interface: creates it, reads it and its audit. Sends no order.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::HeaderValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::effects::EffectCheck;
use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::client::{Answer, Client, Clients};
use crate::send::target::Target;
use crate::send::template::Template;

/// The state of a sale whose gate is being rebuilt, and an audit's word for it.
const REBUILDING: &str = "rebuilding";

/// A sale as the server shows it to everybody. Fields that the server leaves out are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SaleView {
    pub id: u64,
    /// Units on sale.
    pub stock: u64,
    #[serde(default)]
    pub orders: u64,
    #[serde(default)]
    pub rejected_orders: u64,
    /// Units that the gate has not reserved.
    pub remaining: Option<u64>,
    pub reserved_orders: Option<u64>,
    /// `upcoming`, `open` or `closed`.
    pub phase: Option<String>,
    /// What the gate can be used for: `open`, `rebuilding` or `closed_out`.
    pub state: Option<String>,
    /// `queue`, or `direct` for a sale without a gate and a queue.
    pub mode: Option<String>,
    /// The first moment of the sale, RFC 3339.
    pub starts_at: Option<String>,
    /// The first moment after the sale, RFC 3339.
    pub ends_at: Option<String>,
    /// When the server read these fields, RFC 3339.
    pub as_of: Option<String>,
    /// The price of one unit, in hundredths.
    pub price_cents: Option<u64>,
    /// How long after its commit an order can be paid, in milliseconds; `None`: the sale has no payments.
    pub payment_window_ms: Option<u64>,
    /// How often the gate has been filled; 0: it takes no orders yet.
    pub epoch: Option<u32>,
}

impl SaleView {
    /// Orders with a final row.
    pub fn recorded(&self) -> u64 {
        self.orders + self.rejected_orders
    }

    /// Whether the sale has a gate: a direct sale has none.
    pub fn has_gate(&self) -> bool {
        self.mode.as_deref() != Some("direct")
    }

    /// Whether the sale's gate is being rebuilt, so that nobody can buy and orders may still be on their way.
    pub fn is_rebuilding(&self) -> bool {
        self.state.as_deref() == Some(REBUILDING)
    }

    /// The payment window of a sale whose orders can be paid.
    ///
    /// # Errors
    /// [`Error::NoPayments`] for a sale without a payment window, or whose units cost nothing.
    pub fn check_payments(&self) -> Result<Duration, Error> {
        let window = self.payment_window_ms.filter(|_| self.price_cents.is_some_and(|price| price > 0));
        window.map(Duration::from_millis).ok_or(Error::NoPayments { sale: self.id })
    }

    /// Whether orders are taken now.
    ///
    /// # Errors
    /// [`Error::NotOpen`] with what to do about it.
    pub fn check_open(&self) -> Result<(), Error> {
        let times = || {
            let time = |time: &Option<String>| {
                time.clone().unwrap_or_else(|| "a time that the server does not report".to_owned())
            };
            (time(&self.starts_at), time(&self.ends_at))
        };
        let reason = match (self.phase.as_deref(), self.epoch) {
            (Some("upcoming"), _) => format!("it opens at {}; wait, or give another --sale", times().0),
            (Some("closed"), _) => format!("it closed at {}; give another --sale", times().1),
            _ if self.is_rebuilding() => "its gate is being rebuilt; wait until it is open again".to_owned(),
            (_, Some(0)) if self.has_gate() => {
                "its gate is not filled yet; check that the server reaches its gate".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Error::NotOpen { sale: self.id, reason })
    }
}

/// The audit of a sale. Serialized, it is what the server sent, with every field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Audit {
    /// Units in the ledger above the stock.
    pub oversold: u64,
    /// Users with two active orders, and order ids with two rows.
    pub duplicates: u64,
    /// Whether every unit is in exactly one place.
    pub conserved: bool,
    /// `clean`, `in_flight`, `gate_missing`, `rebuilding`, `lost` or `violated`.
    pub verdict: String,
    /// What is wrong, in sentences.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Every other field that the server sent, under its name.
    #[serde(flatten)]
    pub others: serde_json::Map<String, Value>,
}

impl Audit {
    /// What the verdict means for promised orders without a final row.
    pub fn state(&self) -> AuditState {
        match self.verdict.as_str() {
            "clean" => AuditState::Clean,
            "in_flight" => AuditState::InFlight,
            REBUILDING => AuditState::Rebuilding,
            "violated" | "lost" => AuditState::Broken,
            _ => AuditState::NotKnown,
        }
    }

    /// Orders in the ledger; `None`: the server did not send the count.
    pub fn committed_orders(&self) -> Option<u64> {
        self.others.get("committed_orders")?.as_u64()
    }

    /// Orders that the ledger has rejected; `None`: the server did not send the count.
    pub fn rejected_orders(&self) -> Option<u64> {
        self.others.get("rejected_orders")?.as_u64()
    }

    /// Units of ended orders that are not on sale again yet; 0 where the server did not send the count.
    pub fn returning_units(&self) -> u64 {
        self.others.get("returning").and_then(Value::as_u64).unwrap_or_default()
    }

    /// The money of the sale; `None`: the server did not send it, because the sale has no payments.
    pub fn money(&self) -> Option<Money> {
        Money::deserialize(self.others.get("money")?).ok()
    }

    /// Units that the gate has reserved and the ledger has not recorded, below 0 where the gate has lost data; `None`: the
    /// server did not send the count.
    pub fn in_flight_units(&self) -> Option<i64> {
        self.others.get("in_flight")?.as_i64()
    }
}

/// The money of a sale, as its audit adds it up. Serialized, it is a part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Money {
    /// Came in for orders of the sale, in hundredths.
    pub charged_cents: u64,
    /// Went back.
    pub refunded_cents: u64,
    /// Amounts of the orders that are paid.
    pub paid_cents: u64,
    /// Amounts of the orders whose money is going back.
    pub refunding_cents: u64,
    /// All entries added up: 0.
    pub entries_sum: i64,
    /// Transfers whose own entries do not add up to zero: 0.
    pub unbalanced: u64,
}

/// An audit's verdict, as far as it concerns orders without a final row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditState {
    /// Nothing is in flight: an order without a row gets none.
    Clean,
    /// Orders are on their way to the ledger.
    InFlight,
    /// The gate is being rebuilt.
    Rebuilding,
    /// The audit has found a broken invariant.
    Broken,
    /// The gate has no data, or the verdict is a word that this version does not know.
    NotKnown,
}

/// The requests about a sale. They have their own connection, so that they never wait behind the buyers.
pub struct Shop {
    client: Client,
    target: Target,
}

impl Shop {
    /// Connects with the first question.
    pub fn new(clients: &Clients) -> Self {
        Self { client: clients.another(), target: clients.target().clone() }
    }

    /// The sale; `None`: there is none with that id.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server gives no answer that can be read.
    pub async fn sale(&mut self, id: u64) -> Result<Option<SaleView>, Error> {
        self.get(&format!("/api/v1/sales/{id}"), "look at the sale").await
    }

    /// The sale's audit; `None`: the server has none.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server gives no answer that can be read.
    pub async fn audit(&mut self, id: u64) -> Result<Option<Audit>, Error> {
        self.get(&format!("/api/v1/sales/{id}/audit"), "audit the sale").await
    }

    /// Makes a sale that is open from now on, for the time given.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server does not make it, or could not fill its gate.
    pub async fn create(
        &mut self,
        admin: &HeaderValue,
        stock: u64,
        per_user_limit: u32,
        lasts: Duration,
    ) -> Result<SaleView, Error> {
        self.make(admin, new_sale(stock, per_user_limit, lasts)).await
    }

    /// Makes such a sale whose orders cost `price_cents` a unit and can be paid within `window` after their commit.
    ///
    /// # Errors
    /// The same as those of [`Self::create`].
    pub async fn create_with_payments(
        &mut self,
        admin: &HeaderValue,
        stock: u64,
        per_user_limit: u32,
        lasts: Duration,
        price_cents: u64,
        window: Duration,
    ) -> Result<SaleView, Error> {
        let mut body = new_sale(stock, per_user_limit, lasts);
        body["price_cents"] = price_cents.into();
        body["payment_window_ms"] = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).into();
        self.make(admin, body).await
    }

    async fn make(&mut self, admin: &HeaderValue, body: Value) -> Result<SaleView, Error> {
        const DOING: &str = "make a sale";
        let uri = self.uri("/api/v1/sales");
        let request = Template::post(&self.target, body.to_string()).request(uri, admin.clone());
        let answer =
            self.client.send(request).await.map_err(|failure| refused(DOING, failure.to_string()))?;
        match answer.status {
            201 | 200 => parse(DOING, &answer),
            401 | 403 => Err(refused(DOING, "the server does not take the admin token".to_owned())),
            _ => Err(refused(DOING, described(&answer))),
        }
    }

    /// Checks that the server accepts the admin token, so that a wrong one is reported before the run.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server refuses it. A server without a list of a sale's orders is not an error.
    pub async fn check_admin(&mut self, admin: &HeaderValue, sale: u64) -> Result<(), Error> {
        let uri = self.uri(&format!("/api/v1/sales/{sale}/audit/orders"));
        let request = Template::head(&self.target).request(uri, admin.clone());
        self.check(request, "look orders up", "the server does not take the admin token").await
    }

    /// Checks that the server accepts the first buyer's token. Otherwise the run would only measure refusals.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server refuses it.
    pub async fn check_buyers(&mut self, tokens: &Tokens, sale: u64) -> Result<(), Error> {
        const REASON: &str = "the server does not take their tokens; give the secret that it signs with, like \
                              --jwt-secret SECRET, or tokens that have not run out";
        let uri = self.uri(&format!("/api/v1/sales/{sale}/orders/mine"));
        let request = Template::head(&self.target).request(uri, tokens.header(0));
        self.check(request, "send buyers", REASON).await
    }

    async fn check(
        &mut self,
        request: Request<Full<Bytes>>,
        doing: &'static str,
        otherwise: &str,
    ) -> Result<(), Error> {
        let answer =
            self.client.send(request).await.map_err(|failure| refused(doing, failure.to_string()))?;
        match answer.status {
            401 | 403 => Err(refused(doing, otherwise.to_owned())),
            _ => Ok(()),
        }
    }

    /// What the refund events of the sale have caused at the server's own subscribers; `None`: the server has no such counts.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server refuses the admin token, or gives no answer that can be read.
    pub async fn effects(
        &mut self,
        admin: &HeaderValue,
        sale: u64,
    ) -> Result<Option<Vec<EffectCheck>>, Error> {
        let uri = self.uri(&format!("/api/v1/sales/{sale}/audit/effects"));
        let request = Template::get(&self.target).request(uri, admin.clone());
        let list: Option<EffectList> = self.ask(request, Self::READING_EFFECTS).await?;
        Ok(list.map(|list| list.effects))
    }

    pub(super) const READING_EFFECTS: &str = "read the effects of the sale's refund events";

    async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        doing: &'static str,
    ) -> Result<Option<T>, Error> {
        let request = Template::get(&self.target).anonymous(self.uri(path));
        self.ask(request, doing).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        request: Request<Full<Bytes>>,
        doing: &'static str,
    ) -> Result<Option<T>, Error> {
        let answer =
            self.client.send(request).await.map_err(|failure| refused(doing, failure.to_string()))?;
        match answer.status {
            200 => parse(doing, &answer).map(Some),
            404 => Ok(None),
            _ => Err(refused(doing, described(&answer))),
        }
    }

    fn uri(&self, path: &str) -> hyper::http::uri::Uri {
        self.target.path(path).try_into().expect("the path of a URL, and a number, make a path")
    }
}

#[derive(Deserialize)]
struct EffectList {
    effects: Vec<EffectCheck>,
}

fn new_sale(stock: u64, per_user_limit: u32, lasts: Duration) -> Value {
    let ends_at = humantime::format_rfc3339_seconds(SystemTime::now() + lasts).to_string();
    serde_json::json!({
        "name": "Load test", "stock": stock, "per_user_limit": per_user_limit, "ends_at": ends_at,
    })
}

/// A bearer token as a header's value.
///
/// # Errors
/// [`Error::AdminToken`] for one that no header can carry.
pub fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok();
    value.filter(|_| !token.is_empty()).ok_or(Error::AdminToken)
}

fn refused(doing: &'static str, reason: String) -> Error {
    Error::Shop { doing, reason }
}

fn parse<T: DeserializeOwned>(doing: &'static str, answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| refused(doing, format!("the server's answer cannot be read: {error}")))
}

/// An answer in one line: the status, and the start of the body.
fn described(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let start: String = text.chars().take(300).collect();
    format!("the server answers {} {start}", answer.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_that_takes_no_orders_has_the_reason() {
        let view = |extra: &str| {
            let json = format!(r#"{{"id":1,"stock":5,"starts_at":"S","ends_at":"E"{extra}}}"#);
            serde_json::from_str::<SaleView>(&json).unwrap().check_open()
        };
        assert!(view("").is_ok() && view(r#","phase":"open","epoch":1"#).is_ok());
        assert!(view(r#","phase":"open","mode":"direct","epoch":0"#).is_ok());
        for (extra, reason) in [
            (r#","phase":"upcoming""#, "opens at S"),
            (r#","phase":"closed""#, "closed at E"),
            (r#","phase":"open","state":"rebuilding""#, "being rebuilt"),
            (r#","phase":"open","epoch":0"#, "gate is not filled"),
        ] {
            assert!(view(extra).unwrap_err().to_string().contains(reason), "{extra}");
        }
    }
}
