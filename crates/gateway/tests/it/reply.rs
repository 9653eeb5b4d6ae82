//! What a gateway answered, and what every problem must have.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use seckill_core::OrderId;
use serde_json::Value;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// The body as JSON; `Null` when it is something else.
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status, headers, json, text })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are plain text"))
    }

    /// The seconds of `Retry-After`.
    pub(crate) fn retry_after(&self) -> u64 {
        let seconds = self.header("retry-after").unwrap_or_else(|| panic!("no Retry-After in {self:?}"));
        seconds.parse().expect("Retry-After is in seconds")
    }

    /// The id of the order that this is about.
    #[track_caller]
    pub(crate) fn order_id(&self) -> OrderId {
        let id = self.json["order_id"].as_str().unwrap_or_else(|| panic!("no order id in {self:?}"));
        id.parse().expect("an order id reads back")
    }

    /// Expects this status; gives the reply on.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Expects this problem, and that it has all that RFC 9457 and the project's own rules ask for.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, slug: &str) -> Self {
        let kind = format!("/problems/{slug}");
        assert_eq!((self.status, self.json["type"].as_str()), (status, Some(kind.as_str())), "{self:?}");
        assert_eq!(self.header(CONTENT_TYPE.as_str()), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.json["status"], status, "{self:?}");
        for member in ["title", "detail"] {
            let text = self.json[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "no {member} in {self:?}");
        }
        if matches!(status, 429 | 503) {
            assert!(self.retry_after() > 0, "{self:?}");
        }
        self
    }

    /// The fields that a 422 names, each with its message.
    pub(crate) fn wrong_fields<'a>(&'a self) -> Vec<(&'a str, &'a str)> {
        let errors = self.json["errors"].as_array().unwrap_or_else(|| panic!("no errors in {self:?}"));
        let field_and_message = |error: &'a Value| {
            let text = |member| error[member].as_str().filter(|text| !text.is_empty());
            text("field")
                .zip(text("message"))
                .unwrap_or_else(|| panic!("a field is not explained in {self:?}"))
        };
        errors.iter().map(field_and_message).collect()
    }
}
