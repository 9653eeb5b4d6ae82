//! Signs webhooks and checks the signatures: HMAC-SHA256 over `timestamp.body`. With the timestamp in it, an old webhook
//! cannot be sent again by somebody who has recorded it.

use ring::hmac;
use thiserror::Error;

/// The header with the whole seconds since 1970 at which the webhook was signed.
pub const TIMESTAMP_HEADER: &str = "bank-timestamp";
/// The header with the signature: `v1=` and 64 hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "bank-signature";
/// Seconds between signing and checking, at the most. The clocks may differ by as much.
pub const MAX_AGE_SECONDS: u64 = 300;

const VERSION: &str = "v1=";

/// Why a webhook is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The timestamp is no number.
    #[error("`Bank-Timestamp` is not a whole number of seconds since 1970")]
    Timestamp,
    /// It was signed too long ago, or in the future.
    #[error("the webhook was signed more than {MAX_AGE_SECONDS} s from now; are the clocks right?")]
    Age,
    /// The signature has another form.
    #[error("`Bank-Signature` is not `v1=` and 64 hexadecimal digits")]
    Malformed,
    /// Signed with another secret, or changed afterwards.
    #[error("the webhook was not signed with this secret")]
    Forged,
}

/// The value of [`SIGNATURE_HEADER`] for a body that is sent at `timestamp`, in seconds since 1970.
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let tag = hmac::sign(&key(secret), &signed(&timestamp.to_string(), body));
    let mut text = String::from(VERSION);
    for byte in tag.as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Checks a webhook that arrived with these two headers at `now`, in seconds since 1970.
///
/// # Errors
/// It was signed with another secret, was changed, or is older than [`MAX_AGE_SECONDS`].
pub fn verify(
    secret: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: i64,
) -> Result<(), SignatureError> {
    let signed_at: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
    if signed_at.abs_diff(now) > MAX_AGE_SECONDS {
        return Err(SignatureError::Age);
    }
    let tag = signature.strip_prefix(VERSION).and_then(unhex).ok_or(SignatureError::Malformed)?;
    // Takes the same time wherever the first wrong byte is.
    hmac::verify(&key(secret), &signed(timestamp, body), &tag).map_err(|_| SignatureError::Forged)
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn signed(timestamp: &str, body: &[u8]) -> Vec<u8> {
    [timestamp.as_bytes(), b".", body].concat()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn verified(timestamp: &str, signature: &str, body: &[u8], now: i64) -> Result<(), SignatureError> {
        verify("a secret", timestamp, signature, body, now)
    }

    #[test]
    fn what_was_signed_is_believed_for_five_minutes() {
        let signature = sign("a secret", NOW, b"{}");
        let timestamp = NOW.to_string();
        for now in [NOW, NOW + 300, NOW - 300] {
            assert_eq!(verified(&timestamp, &signature, b"{}", now), Ok(()));
        }
        for now in [NOW + 301, NOW - 301] {
            assert_eq!(verified(&timestamp, &signature, b"{}", now), Err(SignatureError::Age));
        }
    }

    #[test]
    fn what_was_changed_is_not_believed() {
        let signature = sign("a secret", NOW, b"{}");
        let timestamp = NOW.to_string();
        assert_eq!(verified(&timestamp, &signature, b"{ }", NOW), Err(SignatureError::Forged));
        let later = (NOW + 1).to_string();
        assert_eq!(verified(&later, &signature, b"{}", NOW), Err(SignatureError::Forged));
        let other = sign("another secret", NOW, b"{}");
        assert_eq!(verified(&timestamp, &other, b"{}", NOW), Err(SignatureError::Forged));
    }

    #[test]
    fn headers_of_another_form_are_refused() {
        let good = sign("a secret", NOW, b"{}");
        assert_eq!(verified("soon", &good, b"{}", NOW), Err(SignatureError::Timestamp));
        let timestamp = NOW.to_string();
        for signature in ["", "v1=", "v2=00", &good[3..], &good[..66], &format!("v1={}é", &good[5..])] {
            assert_eq!(verified(&timestamp, signature, b"{}", NOW), Err(SignatureError::Malformed));
        }
    }

    /// The hash that `openssl dgst -sha256 -hmac 'a secret'` gives for `1800000000.{}`.
    #[test]
    fn the_signature_is_plain_hmac_sha256() {
        assert_eq!(
            sign("a secret", NOW, b"{}"),
            "v1=7be0b59ca5343d83f21bb063f489ddbdc0045914b37b2497618ea72e024f5ac4"
        );
    }
}
