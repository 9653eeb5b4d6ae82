//! Buyers' tokens: JSON Web Tokens (RFC 7519) whose `sub` is the user id. Signing and checking, and nothing else.
//!
//! [`Verifier`] decides who may buy; [`Signer`] makes tokens for demonstrations, load tests and tests. The cryptography is
//! that of `ring`, which the TLS connections need anyway: see [`provider`].

pub mod challenge;
pub mod provider;
pub mod ticket;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a token says, as far as seckill reads it.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The user id, in decimal.
    sub: String,
    /// The first second since 1970 at which the token is no longer valid.
    exp: u64,
}

/// Seconds by which the clocks of those who sign tokens and those who check them may differ.
const LEEWAY_SECONDS: u64 = 5;

/// Why a token is not believed, as a sentence for the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Its time is over.
    #[error("The token has expired.")]
    Expired,
    /// Signed with another secret, or changed afterwards.
    #[error("The token was not signed with this gateway's secret.")]
    Forged,
    /// Signed with another algorithm than the one that is allowed, or not signed.
    #[error("The token is not signed with HS256.")]
    Algorithm,
    /// A claim that is needed is not there.
    #[error("The token lacks `sub` or `exp`.")]
    Incomplete,
    /// `sub` is not an unsigned 64-bit number.
    #[error("The token's `sub` is not a user id.")]
    NoUser,
    /// Not a JSON Web Token.
    #[error("The token is not a JSON Web Token with a `sub` and an `exp`.")]
    Malformed,
}

/// Checks buyers' tokens.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    /// Believes tokens that are signed with `secret` by HS256. A token that names another algorithm, or none, is refused.
    pub fn hs256(secret: &str) -> Self {
        provider::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_aud = false;
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// The user whom a token names.
    ///
    /// # Errors
    /// The token is not to be believed.
    pub fn user(&self, token: &str) -> Result<u64, TokenError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| why(error.kind()))?
            .claims;
        claims.sub.parse().map_err(|_| TokenError::NoUser)
    }
}

fn why(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::InvalidSignature => TokenError::Forged,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        ErrorKind::MissingRequiredClaim(_) => TokenError::Incomplete,
        _ => TokenError::Malformed,
    }
}

/// Signs buyers' tokens by HS256.
pub struct Signer {
    key: EncodingKey,
    header: Header,
}

impl Signer {
    /// Signs with `secret`.
    pub fn hs256(secret: &str) -> Self {
        provider::install();
        Self { key: EncodingKey::from_secret(secret.as_bytes()), header: Header::new(Algorithm::HS256) }
    }

    /// A token of `user` that is valid before the second `expires_at` since 1970.
    pub fn sign(&self, user: u64, expires_at: u64) -> String {
        let claims = Claims { sub: user.to_string(), exp: expires_at };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .expect("two plain fields are always JSON, and HMAC takes any secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn in_an_hour() -> u64 {
        jsonwebtoken::get_current_timestamp() + 3_600
    }

    #[test]
    fn a_signed_token_names_its_user() {
        let token = Signer::hs256(SECRET).sign(u64::MAX, in_an_hour());
        assert_eq!(Verifier::hs256(SECRET).user(&token), Ok(u64::MAX));
    }

    #[test]
    fn every_other_token_is_refused_with_its_reason() {
        let verifier = Verifier::hs256(SECRET);
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let claims = |sub: &str| Claims { sub: sub.to_owned(), exp: in_an_hour() };
        let encode = |algorithm, claims: &serde_json::Value| {
            jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
        };
        let json = |claims: Claims| serde_json::to_value(claims).unwrap();
        let forged = Signer::hs256("another secret, as long as the first").sign(1, in_an_hour());
        let expired = Signer::hs256(SECRET).sign(1, in_an_hour() - 7_200);
        // {"alg":"none","typ":"JWT"} . {"sub":"1","exp":4102444800} . no signature
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
        let tokens = [
            (forged, TokenError::Forged),
            (expired, TokenError::Expired),
            (unsigned.to_owned(), TokenError::Malformed),
            (encode(Algorithm::HS256, &json(claims("-1"))), TokenError::NoUser),
            (encode(Algorithm::HS512, &json(claims("1"))), TokenError::Algorithm),
            (encode(Algorithm::HS256, &serde_json::json!({"exp": in_an_hour()})), TokenError::Malformed),
            (String::new(), TokenError::Malformed),
            ("a.b.c".to_owned(), TokenError::Malformed),
        ];
        for (token, reason) in tokens {
            assert_eq!(verifier.user(&token), Err(reason), "{token}");
        }
    }
}
