//! The sale, through the public HTTP interface: creates it, reads it and its audit. Sends no order.

use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use seckill_client::Client;
use seckill_core::{Mode, NewSale, Phase, SaleId, SaleState, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::effects::EffectCheck;
use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::client::Clients;

/// An audit's word for a sale whose gate is being rebuilt.
const REBUILDING: &str = "rebuilding";

/// A sale as the server shows it to everybody, as far as a load test needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleView {
    pub id: u64,
    /// Units on sale.
    pub stock: u64,
    /// Orders in the ledger.
    pub orders: u64,
    pub rejected_orders: u64,
    /// Units that the gate has not reserved.
    pub remaining: Option<u64>,
    pub reserved_orders: Option<u64>,
    pub phase: Phase,
    /// What the gate can be used for.
    pub state: SaleState,
    pub mode: Mode,
    /// The first moment of the sale.
    pub starts_at: Timestamp,
    /// The first moment after the sale.
    pub ends_at: Timestamp,
    /// When the server read these fields.
    pub as_of: SystemTime,
    /// The price of one unit, in hundredths.
    pub price_cents: u64,
    /// How long after its commit an order can be paid, in milliseconds; `None`: the sale has no payments.
    pub payment_window_ms: Option<u64>,
    /// How often the gate has been filled; 0: it takes no orders yet.
    pub epoch: u32,
}

impl From<seckill_client::SaleView> for SaleView {
    fn from(view: seckill_client::SaleView) -> Self {
        let seckill_client::SaleView { sale, phase, as_of, remaining, reserved_orders, .. } = view;
        Self {
            id: sale.id.0,
            stock: sale.stock.into(),
            orders: sale.orders,
            rejected_orders: sale.rejected_orders,
            remaining: remaining.map(u64::from),
            reserved_orders,
            phase,
            state: sale.state,
            mode: sale.mode,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
            as_of: as_of.into(),
            price_cents: sale.price_cents,
            payment_window_ms: sale.payment_window_ms,
            epoch: sale.epoch,
        }
    }
}

impl SaleView {
    /// Orders with a final row.
    pub fn recorded(&self) -> u64 {
        self.orders + self.rejected_orders
    }

    /// Whether the sale has a gate: a direct sale has none.
    pub fn has_gate(&self) -> bool {
        self.mode != Mode::Direct
    }

    /// Whether the sale's gate is being rebuilt, so that nobody can buy and orders may still be on their way.
    pub fn is_rebuilding(&self) -> bool {
        self.state == SaleState::Rebuilding
    }

    /// The payment window of a sale whose orders can be paid.
    ///
    /// # Errors
    /// [`Error::NoPayments`] for a sale without a payment window, or whose units cost nothing.
    pub fn check_payments(&self) -> Result<Duration, Error> {
        let window = self.payment_window_ms.filter(|_| self.price_cents > 0);
        window.map(Duration::from_millis).ok_or(Error::NoPayments { sale: self.id })
    }

    /// Whether orders are taken now.
    ///
    /// # Errors
    /// [`Error::NotOpen`] with what to do about it.
    pub fn check_open(&self) -> Result<(), Error> {
        let time = |at: Timestamp| humantime::format_rfc3339_seconds(at.into());
        let reason = match self.phase {
            Phase::Upcoming => format!("it opens at {}; wait, or give another --sale", time(self.starts_at)),
            Phase::Closed => format!("it closed at {}; give another --sale", time(self.ends_at)),
            Phase::Open if self.is_rebuilding() => {
                "its gate is being rebuilt; wait until it is open again".to_owned()
            }
            Phase::Open if self.epoch == 0 && self.has_gate() => {
                "its gate is not filled yet; check that the server reaches its gate".to_owned()
            }
            Phase::Open => return Ok(()),
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

/// The requests about a sale, by the typed client. It has connections of its own, so that they never wait behind the buyers.
pub struct Shop {
    client: Client,
}

impl Shop {
    /// Connects with the first question.
    pub fn new(clients: &Clients) -> Self {
        Self { client: clients.typed() }
    }

    /// The sale; `None`: there is none with that id.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server gives no answer that can be read.
    pub async fn sale(&mut self, id: u64) -> Result<Option<SaleView>, Error> {
        let sale = found("look at the sale", self.client.sale(SaleId(id)).await)?;
        Ok(sale.map(SaleView::from))
    }

    /// The sale's audit; `None`: the server has none.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server gives no answer that can be read.
    pub async fn audit(&mut self, id: u64) -> Result<Option<Audit>, Error> {
        const DOING: &str = "audit the sale";
        let Some(audit) = found(DOING, self.client.audit(SaleId(id)).await)? else { return Ok(None) };
        let read = serde_json::to_value(audit).and_then(serde_json::from_value);
        read.map(Some).map_err(|error| refused(DOING, error.to_string()))
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
        self.make(admin, new_sale(stock, per_user_limit, lasts)?).await
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
        let payment_window_ms = Some(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let sale = new_sale(stock, per_user_limit, lasts)?;
        self.make(admin, NewSale { price_cents, payment_window_ms, ..sale }).await
    }

    /// Makes this sale. The request is sent once: a load test that does not know whether its sale exists makes another one.
    pub(crate) async fn make(&mut self, admin: &HeaderValue, sale: NewSale) -> Result<SaleView, Error> {
        let admin = self.client.admin(token(admin));
        match admin.create_sale_once(&sale, None).await {
            Ok(made) => Ok(made.value.into()),
            Err(error) if is_unwelcome(&error) => {
                Err(refused(MAKING, "the server does not take the admin token".to_owned()))
            }
            Err(error) => Err(refused(MAKING, described(&error))),
        }
    }

    /// Checks that the server accepts the admin token, so that a wrong one is reported before the run.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server refuses it. A server without a list of a sale's orders is not an error.
    pub async fn check_admin(&mut self, admin: &HeaderValue, sale: u64) -> Result<(), Error> {
        // The list is dropped with its first line.
        let list = self.client.admin(token(admin)).recorded_orders(SaleId(sale)).await;
        accepted("look orders up", "the server does not take the admin token", list)
    }

    /// Checks that the server accepts the first buyer's token. Otherwise the run would only measure refusals.
    ///
    /// # Errors
    /// [`Error::Shop`] when the server refuses it.
    pub async fn check_buyers(&mut self, tokens: &Tokens, sale: u64) -> Result<(), Error> {
        const REASON: &str = "the server does not take their tokens; give the secret that it signs with, like \
                              --jwt-secret-file FILE, or tokens that have not run out";
        let orders = self.client.buyer(token(&tokens.header(0))).orders(SaleId(sale)).await;
        accepted("send buyers", REASON, orders)
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
        let effects = self.client.admin(token(admin)).effects(SaleId(sale)).await;
        let list = found(Self::READING_EFFECTS, effects)?;
        Ok(list.map(|list| list.effects.into_iter().map(EffectCheck::from).collect()))
    }

    pub(super) const READING_EFFECTS: &str = "read the effects of the sale's refund events";
}

const MAKING: &str = "make a sale";

fn new_sale(stock: u64, per_user_limit: u32, lasts: Duration) -> Result<NewSale, Error> {
    let stock = u32::try_from(stock)
        .map_err(|_| refused(MAKING, format!("{stock} units are more than a sale may have")))?;
    let ends_at = humantime::format_rfc3339_seconds(SystemTime::now() + lasts).to_string();
    let sale = serde_json::json!({
        "name": "Load test", "stock": stock, "per_user_limit": per_user_limit, "ends_at": ends_at,
    });
    serde_json::from_value(sale).map_err(|error| refused(MAKING, error.to_string()))
}

/// A bearer token as a header's value.
///
/// # Errors
/// [`Error::AdminToken`] for one that no header can carry.
pub fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok();
    value.filter(|_| !token.is_empty()).ok_or(Error::AdminToken)
}

/// The token of such a value.
pub(crate) fn token(bearer: &HeaderValue) -> SecretString {
    bearer.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().into()
}

fn refused(doing: &'static str, reason: String) -> Error {
    Error::Shop { doing, reason }
}

/// Tells what the server does not have from what it does not tell.
fn found<T>(doing: &'static str, answer: Result<T, seckill_client::Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(refused(doing, described(&error))),
    }
}

/// Whether the server does not take a token.
fn is_unwelcome(error: &seckill_client::Error) -> bool {
    matches!(error.status(), Some(401 | 403))
}

/// That a token is taken; whatever else is wrong shows later.
fn accepted<T>(
    doing: &'static str,
    otherwise: &str,
    answer: Result<T, seckill_client::Error>,
) -> Result<(), Error> {
    match answer {
        Err(error) if is_unwelcome(&error) => Err(refused(doing, otherwise.to_owned())),
        Err(error) if error.status().is_none() => Err(refused(doing, described(&error))),
        _ => Ok(()),
    }
}

/// Why there is no answer, in one line.
fn described(error: &seckill_client::Error) -> String {
    match error.status() {
        Some(status) => format!("the server answers {status} {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_that_takes_no_orders_has_the_reason() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let open = SaleView {
            id: 1,
            stock: 5,
            orders: 0,
            rejected_orders: 0,
            remaining: None,
            reserved_orders: None,
            phase: Phase::Open,
            state: SaleState::Open,
            mode: Mode::Queue,
            starts_at: at(0).into(),
            ends_at: at(60).into(),
            as_of: at(1),
            price_cents: 0,
            payment_window_ms: None,
            epoch: 1,
        };
        assert!(open.check_open().is_ok());
        assert!(SaleView { mode: Mode::Direct, epoch: 0, ..open }.check_open().is_ok());
        for (view, reason) in [
            (SaleView { phase: Phase::Upcoming, ..open }, "opens at 1970-01-01T00:00:00Z"),
            (SaleView { phase: Phase::Closed, ..open }, "closed at 1970-01-01T00:01:00Z"),
            (SaleView { state: SaleState::Rebuilding, ..open }, "being rebuilt"),
            (SaleView { epoch: 0, ..open }, "gate is not filled"),
        ] {
            let refused = view.check_open().unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
