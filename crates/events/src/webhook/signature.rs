//! What proves to a receiver who has sent a webhook, and when: HMAC-SHA256 over `timestamp.body`.

use ring::hmac;

/// The header with the whole seconds since 1970 at which the webhook was sent.
pub const TIMESTAMP_HEADER: &str = "seckill-timestamp";
/// The header with the id of the event, which is also in the body.
pub const EVENT_ID_HEADER: &str = "seckill-event-id";
/// The header with the signature: `v1=` and 64 hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "seckill-signature";
/// Bytes of the secret, at the least.
pub const MIN_SECRET: usize = 16;

const VERSION: &str = "v1=";

/// The value of [`SIGNATURE_HEADER`] for a body that is sent at `timestamp`.
pub fn sign(secret: &[u8], timestamp: u64, body: &[u8]) -> String {
    sign_with(&key(secret), timestamp, body)
}

/// Whether a body was sent at `timestamp` by somebody who knows the secret.
///
/// A receiver takes the body as it came, before any parsing; computes the HMAC of the timestamp's text, a full stop and the body;
/// compares in constant time, as this function does, so that nobody learns the signature byte by byte; and refuses a timestamp
/// that is more than five minutes away from its own clock, so that nobody can send an old webhook again. It takes an event id
/// once, whatever comes how often.
pub fn verify(secret: &[u8], timestamp: u64, body: &[u8], signature: &str) -> bool {
    let Some(tag) = signature.strip_prefix(VERSION).and_then(unhex) else { return false };
    hmac::verify(&key(secret), &signed(timestamp, body), &tag).is_ok()
}

pub(super) fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

pub(super) fn sign_with(key: &hmac::Key, timestamp: u64, body: &[u8]) -> String {
    let tag = hmac::sign(key, &signed(timestamp, body));
    let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    VERSION.chars().chain(digits).collect()
}

fn signed(timestamp: u64, body: &[u8]) -> Vec<u8> {
    [timestamp.to_string().as_bytes(), b".", body].concat()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";
    const AT: u64 = 1_800_000_000;

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let signature = sign(SECRET, AT, b"{}");
        assert!(verify(SECRET, AT, b"{}", &signature));
        assert!(!verify(SECRET, AT, b"{ }", &signature), "another body");
        assert!(!verify(SECRET, AT + 1, b"{}", &signature), "another time");
        assert!(!verify(b"fedcba9876543210", AT, b"{}", &signature), "another secret");
        let upper = signature[3..].to_uppercase();
        assert!(verify(SECRET, AT, b"{}", &format!("v1={upper}")), "hexadecimal is hexadecimal");
    }

    #[test]
    fn a_signature_of_another_form_is_none() {
        let good = sign(SECRET, AT, b"{}");
        for wrong in ["", "v1=", "v1=0", "v1=xy", "v2=00", &good[3..], &good[..65], &format!("{good}00")] {
            assert!(!verify(SECRET, AT, b"{}", wrong), "{wrong}");
        }
    }

    /// The hash that `printf '1800000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef` gives.
    #[test]
    fn the_signature_is_plain_hmac_sha256() {
        assert_eq!(
            sign(SECRET, AT, b"{}"),
            "v1=1313ae9c874eb1a0868ad0b65f841c4243c23fdcfad69a3ada227726fad9960e"
        );
    }
}
