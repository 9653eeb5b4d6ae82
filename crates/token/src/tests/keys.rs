//! Which files and documents give keys, and which are refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use super::{ED_PRIVATE, ED_PUBLIC, RSA_PRIVATE, RSA_PUBLIC, in_an_hour, one, signer, verifier};
use crate::{Algorithm, Key, KeyError, MAX_KEYS};

/// 32 bytes, as a JWK has them.
fn thirty_two() -> String {
    B64.encode([7; 32])
}

fn ed(kid: &str, more: &Value) -> Value {
    let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": thirty_two(), "kid": kid});
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

#[test]
fn a_pem_key_has_the_algorithm_of_its_kind() {
    assert_eq!(one(ED_PUBLIC, None).algorithm(), Algorithm::EdDsa);
    let rsa = one(RSA_PUBLIC, Some("r"));
    assert_eq!((rsa.algorithm(), rsa.id()), (Algorithm::Rs256, Some("r")));
    assert!(!format!("{rsa:?}").contains("material"), "a key shows nothing of itself");
}

#[test]
fn what_is_no_public_key_for_tokens_is_refused_with_its_reason() {
    let secret = |bytes: &[u8]| json!({"kty": "oct", "k": B64.encode(bytes)}).to_string();
    let two = format!("{ED_PUBLIC}{RSA_PUBLIC}");
    for (text, reason) in [
        (ED_PRIVATE, KeyError::Private),
        (RSA_PRIVATE, KeyError::Private),
        (include_str!("keys/rsa-1024.pem"), KeyError::Size),
        (include_str!("keys/p256.pem"), KeyError::Kind),
        (&two, KeyError::Pem),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Pem),
        ("a secret of some length that is no key at all", KeyError::Form),
        ("", KeyError::Form),
        ("{", KeyError::Form),
        ("{}", KeyError::Kind),
        ("{\"keys\": 1}", KeyError::Form),
        ("{\"keys\": []}", KeyError::None),
        (&secret(&[7; 31]), KeyError::Size),
        (&ed("k", &json!({"d": thirty_two()})).to_string(), KeyError::Private),
        (&ed("k", &json!({"x": B64.encode([7; 31])})).to_string(), KeyError::Size),
        (&ed("k", &json!({"crv": "P-256"})).to_string(), KeyError::Kind),
        (&ed("k", &json!({"alg": "HS256"})).to_string(), KeyError::Kind),
        (&ed("k", &json!({"use": "enc"})).to_string(), KeyError::Kind),
        (&ed("k", &json!({"key_ops": ["sign"]})).to_string(), KeyError::Kind),
        (&ed("two words", &json!({})).to_string(), KeyError::Id),
        (&ed("", &json!({})).to_string(), KeyError::Id),
        (&set(&[ed("k", &json!({})), ed("k", &json!({}))]), KeyError::Twice),
    ] {
        assert_eq!(Key::from_file(text, None).unwrap_err(), reason, "{text}");
    }
    assert_eq!(Key::from_file(ED_PUBLIC, Some("two words")).unwrap_err(), KeyError::Id);
    assert!(Key::from_file(&secret(&[7; 32]), None).is_ok());
}

#[test]
fn keys_of_a_set_that_are_for_something_else_are_left_out() {
    let keys = [
        ed("encrypts", &json!({"use": "enc"})),
        ed("signs only", &json!({"key_ops": ["sign"]})),
        ed("other-algorithm", &json!({"alg": "RS512"})),
        json!({"kty": "EC", "crv": "P-256", "x": thirty_two(), "y": thirty_two(), "kid": "ec"}),
        json!({"kty": "RSA", "n": B64.encode([0xff; 128]), "e": "AQAB", "kid": "short"}),
        json!({"kty": "RSA", "n": B64.encode([0xff; 256]), "e": "AQ", "kid": "exponent 1"}),
        json!({"kty": "new", "kid": "unknown"}),
        json!("no key"),
        ed("good", &json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})),
        json!({"kty": "RSA", "n": B64.encode([0xff; 256]), "e": "AQAB", "kid": "rsa", "alg": "RS256"}),
    ];
    let read = Key::from_jwks(&set(&keys)).unwrap();
    assert_eq!(read.iter().map(Key::id).collect::<Vec<_>>(), [Some("good"), Some("rsa")]);
}

#[test]
fn a_set_from_an_address_has_no_secret_no_private_key_and_a_bounded_number() {
    let good = ed("good", &json!({}));
    let with = |key: Value| Key::from_jwks(&set(&[good.clone(), key])).unwrap_err();
    assert_eq!(with(json!({"kty": "oct", "k": thirty_two(), "kid": "s"})), KeyError::SecretFromUrl);
    assert_eq!(with(ed("p", &json!({"d": thirty_two()}))), KeyError::Private);
    assert_eq!(Key::from_jwks(&good.to_string()).unwrap_err(), KeyError::Form, "one key is no set");
    let many = |count: usize| set(&(0..count).map(|at| ed(&at.to_string(), &json!({}))).collect::<Vec<_>>());
    assert_eq!(Key::from_jwks(&many(MAX_KEYS)).unwrap().len(), MAX_KEYS);
    assert_eq!(Key::from_jwks(&many(MAX_KEYS + 1)).unwrap_err(), KeyError::TooMany);
}

#[test]
fn a_made_key_signs_what_its_other_half_believes() {
    let pair = crate::generate_ed25519();
    let token = signer(&pair.private, Some("new")).sign(7, in_an_hour());
    assert_eq!(verifier(vec![one(&pair.public, Some("new"))]).user(&token), Ok(7));
    assert!(crate::Signer::from_file(&pair.public, None).is_err_and(|error| error == KeyError::NotSigning));
    assert_eq!(Key::from_file(&pair.private, Some("new")).unwrap_err(), KeyError::Private);
    assert_ne!(pair.private, crate::generate_ed25519().private);
}
