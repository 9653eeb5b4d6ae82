//! The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07), for payments and for new sales.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;

use super::problem::Refusal;

/// Characters of a key.
const LONGEST: usize = 255;

const ALLOWED: &str = "Send it once, as 1 to 255 visible ASCII characters, such as a UUID, with or without double quotes around them.";

/// The key of a request; `None`: it has none.
///
/// The draft wants a string of RFC 9651, in double quotes. Clients of many payment services send the characters as they are, so
/// both are taken, and mean the same key.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(first) = given.next() else { return Ok(None) };
    let parsed = first.to_str().ok().filter(|_| given.next().is_none()).and_then(parse);
    let malformed = || Refusal::Malformed(format!("The header Idempotency-Key cannot be read. {ALLOWED}"));
    parsed.map(Some).ok_or_else(malformed)
}

/// The key of a request that needs one, a payment.
pub(super) fn needed(headers: &HeaderMap) -> Result<String, Refusal> {
    let missing = || {
        let use_it = "Send a new one for each payment, and the same one when you repeat a request.";
        Refusal::Malformed(format!("The header Idempotency-Key is missing. {use_it} {ALLOWED}"))
    };
    key(headers)?.ok_or_else(missing)
}

fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unescape(rest.strip_suffix('"')?)?,
        None => text.to_owned(),
    };
    // No blanks: databases do not tell apart what differs by blanks at the end.
    let plain = (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then_some(key)
}

/// What is between the quotes of a string of RFC 9651; only `"` and `\` are escaped, and always.
fn unescape(quoted: &str) -> Option<String> {
    let mut chars = quoted.chars();
    let mut plain = String::with_capacity(quoted.len());
    while let Some(next) = chars.next() {
        plain.push(match next {
            '\\' => chars.next().filter(|escaped| matches!(escaped, '"' | '\\'))?,
            '"' => return None,
            other => other,
        });
    }
    Some(plain)
}

/// The keys of requests that this gateway is working on.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashSet<String>>>);

impl UnderWay {
    /// Takes a key until the answer is dropped.
    ///
    /// # Errors
    /// Another request under this key has not ended.
    pub(super) fn begin(&self, key: &str) -> Result<Begun, Refusal> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.insert(key.to_owned()) {
            return Err(Refusal::RequestUnderWay);
        }
        Ok(Begun { under_way: self.clone(), key: key.to_owned() })
    }
}

/// A request that is under way under its key.
pub(super) struct Begun {
    under_way: UnderWay,
    key: String,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        for (given, key) in [
            ("8e03978e-40d5-43e8-bc93-6894a57f9324", Some("8e03978e-40d5-43e8-bc93-6894a57f9324")),
            ("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", Some("8e03978e-40d5-43e8-bc93-6894a57f9324")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"open", None),
            ("\"a\"b\"", None),
            (r#""a\n""#, None),
            (r#""a\""#, None),
            ("\"a b\"", None),
            ("\"a\"; expires=1", None),
            ("a b", None),
            ("ключ", None),
        ] {
            assert_eq!(parse(given).as_deref(), key, "{given}");
        }
        assert!(parse(&"k".repeat(LONGEST)).is_some());
        assert!(parse(&"k".repeat(LONGEST + 1)).is_none());
    }

    #[test]
    fn a_key_is_under_way_until_its_request_ends() {
        let under_way = UnderWay::default();
        let begun = under_way.begin("a").unwrap();
        assert!(matches!(under_way.begin("a"), Err(Refusal::RequestUnderWay)));
        assert!(under_way.begin("b").is_ok());
        drop(begun);
        assert!(under_way.begin("a").is_ok());
    }

    proptest! {
        #[test]
        fn whatever_comes_a_key_is_short_and_plain(text in ".{0,300}") {
            if let Some(key) = parse(&text) {
                prop_assert!((1..=LONGEST).contains(&key.len()));
                prop_assert!(key.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn what_is_quoted_reads_back(key in "[!-~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            prop_assert_eq!(parse(&quoted), Some(key));
        }
    }
}
