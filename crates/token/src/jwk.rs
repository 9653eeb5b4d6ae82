//! Keys in JSON: a JWK or a JWKS (RFC 7517).

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use serde_json::Value;

use crate::key::{Algorithm, Key, KeyError, MAX_KEYS};

/// Who could have read the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whoever may read the file.
    File,
    /// Anybody.
    Url,
}

/// The keys of a document that tokens can be checked with. In a JWKS, keys for something else are left out, as RFC 7517 asks for.
pub(crate) fn read(text: &str, origin: Origin) -> Result<Vec<Key>, KeyError> {
    let document: Value = serde_json::from_str(text).map_err(|_| KeyError::Form)?;
    let keys = match document.get("keys") {
        Some(Value::Array(keys)) if keys.len() > MAX_KEYS => return Err(KeyError::TooMany),
        Some(Value::Array(keys)) => usable(keys, origin)?,
        Some(_) => return Err(KeyError::Form),
        None if origin == Origin::File => vec![key(&document, origin)?],
        None => return Err(KeyError::Form),
    };
    let twice = |(at, key): (usize, &Key)| keys[..at].iter().any(|other| other.is_named_like(key));
    if keys.iter().enumerate().any(twice) { Err(KeyError::Twice) } else { Ok(keys) }
}

fn usable(values: &[Value], origin: Origin) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    for value in values {
        match key(value, origin) {
            Ok(key) => keys.push(key),
            // Whoever publishes these has lost them: nothing in such a document is to be trusted.
            Err(error @ (KeyError::Private | KeyError::SecretFromUrl)) => return Err(error),
            Err(_) => {}
        }
    }
    if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
}

fn key(value: &Value, origin: Origin) -> Result<Key, KeyError> {
    if value.get("d").is_some() {
        return Err(KeyError::Private);
    }
    if value.get("kty").is_some_and(|kind| kind == "oct") && origin == Origin::Url {
        return Err(KeyError::SecretFromUrl);
    }
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| KeyError::Kind)?;
    let algorithm = algorithm_of(&jwk).ok_or(KeyError::Kind)?;
    let material = DecodingKey::from_jwk(&jwk).map_err(|_| KeyError::Kind)?;
    Key::of(jwk.common.key_id.as_deref(), algorithm, material)
}

/// The one algorithm of a key; `None`: the key is for something else.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, own_name) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => (Algorithm::Hs256, KeyAlgorithm::HS256),
        AlgorithmParameters::RSA(_) => (Algorithm::Rs256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDsa, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let verifies =
        common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let named = common.key_algorithm.is_none_or(|given| given == own_name);
    (for_signatures && verifies && named).then_some(algorithm)
}
