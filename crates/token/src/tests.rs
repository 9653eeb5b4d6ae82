//! What holds for tokens, keys and admins; each test is about one promise.

mod admins;
mod fuzz;
mod keys;
mod tokens;

use serde_json::{Value, json};

use crate::{Key, Rules, Signer, Verifier};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA_PRIVATE: &str = include_str!("tests/keys/rsa.key");
const RSA_PUBLIC: &str = include_str!("tests/keys/rsa.pem");
const ED_PRIVATE: &str = include_str!("tests/keys/ed25519.key");
const ED_PUBLIC: &str = include_str!("tests/keys/ed25519.pem");

fn in_an_hour() -> u64 {
    jsonwebtoken::get_current_timestamp() + 3_600
}

fn one(text: &str, id: Option<&str>) -> Key {
    Key::from_file(text, id).unwrap().remove(0)
}

fn signer(text: &str, id: Option<&str>) -> Signer {
    Signer::from_file(text, id).unwrap()
}

fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier::new(keys, &Rules::default())
}

/// A token with this header and these claims, signed with a secret by HS256 whatever the header says.
fn hand_made(header: &Value, claims: &Value, secret: &[u8]) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
    let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = B64.encode(ring::hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

/// Claims of user 7 that are good for an hour.
fn claims() -> Value {
    json!({"sub": "7", "exp": in_an_hour()})
}
