//! A sale as somebody wants to open it, and what makes it one that can be opened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Admission, FieldError, RoomTerms, Timestamp};

/// A sale that somebody wants to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSale {
    /// Its name for people: 1 to 200 characters.
    pub name: String,
    /// What is sold: 1 to 200 characters. Default: the name.
    #[serde(default)]
    pub product: Option<String>,
    /// Units on sale: 1 to 100,000,000.
    pub stock: u32,
    /// The price of one unit in hundredths of `currency`: 0 to 100,000,000,000.
    #[serde(default)]
    pub price_cents: u64,
    /// ISO 4217: three capital letters.
    #[serde(default = "default_currency")]
    pub currency: String,
    /// Units that one user may order: 1 to 1,000.
    #[serde(default = "default_per_user_limit")]
    pub per_user_limit: u32,
    /// The first moment of the sale. Default: now.
    #[serde(default = "crate::now")]
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// The first moment after the sale.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// How long after its commit an order can be paid, in milliseconds: 1,000 to 2,592,000,000, which is 30 days. Default: the
    /// sale has no payments, and a committed order stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_window_ms: Option<u64>,
    /// Whether an order needs a purchase ticket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_ticket: bool,
    /// The first moment at which tickets are handed out. Default: the start of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub tickets_from: Option<Timestamp>,
    /// How long a ticket is valid, in milliseconds: 1,000 to 3,600,000. Default: 120,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_ttl_ms: Option<u64>,
    /// Whether a ticket costs a proof of work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proof_of_work: bool,
    /// The waiting room in front of the tickets. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_room: Option<RoomTerms>,
}

/// Whether `text` can be the name of a sale or of a product.
pub(super) fn is_name(text: &str) -> bool {
    text.chars().count() <= NewSale::MAX_NAME_CHARS && !text.trim().is_empty()
}

pub(super) fn not_a_name(text: &str) -> String {
    let (chars, most) = (text.chars().count(), NewSale::MAX_NAME_CHARS);
    format!("has {chars} characters; allowed are 1 to {most}, not all of them blank")
}

fn default_currency() -> String {
    "USD".to_owned()
}

fn default_per_user_limit() -> u32 {
    1
}

impl NewSale {
    /// The most units one sale may have.
    pub const MAX_STOCK: u32 = 100_000_000;
    /// The most hundredths one unit may cost; times the most units of one order it still fits a signed 64-bit integer.
    pub const MAX_PRICE_CENTS: u64 = 100_000_000_000;
    /// The most units one user may be allowed.
    pub const MAX_PER_USER_LIMIT: u32 = 1_000;
    /// The shortest time to pay, in milliseconds.
    pub const MIN_PAYMENT_WINDOW_MS: u64 = 1_000;
    /// The longest time to pay, in milliseconds: 30 days.
    pub const MAX_PAYMENT_WINDOW_MS: u64 = 30 * 24 * 3_600_000;
    /// The most characters of a name.
    pub const MAX_NAME_CHARS: usize = 200;

    /// What is sold: the product where one was given, otherwise the name.
    pub fn product(&self) -> &str {
        self.product.as_deref().unwrap_or(&self.name)
    }

    /// Who may order.
    pub fn admission(&self) -> Admission {
        Admission {
            require_ticket: self.require_ticket,
            tickets_from: self.tickets_from,
            ticket_ttl_ms: self.ticket_ttl_ms,
            proof_of_work: self.proof_of_work,
            waiting_room: self.waiting_room,
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Every wrong field at once, each with what is allowed.
    pub fn check(&self) -> Result<(), Vec<FieldError>> {
        let mut wrong = Vec::new();
        let mut require = |holds: bool, field, message: String| {
            if !holds {
                wrong.push(FieldError::new(field, message));
            }
        };
        let names = [("name", self.name.as_str()), ("product", self.product())];
        for (field, text) in names.into_iter().take(if self.product.is_some() { 2 } else { 1 }) {
            require(is_name(text), field, not_a_name(text));
        }
        require(
            (1..=Self::MAX_STOCK).contains(&self.stock),
            "stock",
            format!("is {}; allowed are 1 to {} units", self.stock, Self::MAX_STOCK),
        );
        require(
            self.price_cents <= Self::MAX_PRICE_CENTS,
            "price_cents",
            format!("is {}; allowed are 0 to {}", self.price_cents, Self::MAX_PRICE_CENTS),
        );
        require(
            self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_uppercase()),
            "currency",
            format!("is {:?}; allowed are the three capital letters of ISO 4217, such as USD", self.currency),
        );
        require(
            (1..=Self::MAX_PER_USER_LIMIT).contains(&self.per_user_limit),
            "per_user_limit",
            format!("is {}; allowed are 1 to {} units", self.per_user_limit, Self::MAX_PER_USER_LIMIT),
        );
        if let Some(window) = self.payment_window_ms {
            let allowed = Self::MIN_PAYMENT_WINDOW_MS..=Self::MAX_PAYMENT_WINDOW_MS;
            require(
                allowed.contains(&window),
                "payment_window_ms",
                format!("is {window}; allowed are {} to {}", allowed.start(), allowed.end()),
            );
        }
        let years = chrono::Datelike::year(&self.starts_at)..=chrono::Datelike::year(&self.ends_at);
        require(
            self.ends_at > self.starts_at,
            "ends_at",
            format!("is {}, not after starts_at, {}", self.ends_at, self.starts_at),
        );
        require(
            *years.start() >= 2000 && *years.end() < 3000,
            "starts_at",
            "and ends_at must lie between the years 2000 and 2999".to_owned(),
        );
        self.admission().check(self, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
