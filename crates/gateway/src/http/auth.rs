//! Who is calling: buyers by a signed token whose `sub` is the user id, admins by a shared token. Never by the body.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use seckill_core::UserId;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::App;
use super::problem::Refusal;

/// What a buyer's token says (RFC 7519), as far as seckill reads it.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The user id, in decimal.
    sub: String,
    /// The first second at which the token is no longer valid.
    exp: u64,
}

/// Seconds by which the clocks of those who sign tokens and those who check them may differ.
const LEEWAY_SECONDS: u64 = 5;

/// What tokens are checked with.
pub(crate) struct Keys {
    buyers: DecodingKey,
    validation: Validation,
    admin: SecretString,
}

impl Keys {
    pub(crate) fn new(jwt_secret: &SecretString, admin: SecretString) -> Self {
        // HS256 and nothing else: a token that names another algorithm, or none, is refused by its header.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_aud = false;
        Self { buyers: DecodingKey::from_secret(jwt_secret.expose_secret().as_bytes()), validation, admin }
    }

    fn buyer(&self, token: &str) -> Result<Buyer, Refusal> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.buyers, &self.validation)
            .map_err(|error| bad_token(why(error.kind()).to_owned()))?
            .claims;
        let user = claims.sub.parse().map_err(|_| bad_token("The token's `sub` is not a user id.".into()))?;
        Ok(Buyer(UserId(user)))
    }
}

/// Signs a buyer's token.
///
/// # Errors
/// A sentence, when the secret cannot sign.
pub fn sign(jwt_secret: &SecretString, user: UserId, expires_at: u64) -> Result<String, String> {
    let key = EncodingKey::from_secret(jwt_secret.expose_secret().as_bytes());
    let claims = Claims { sub: user.to_string(), exp: expires_at };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|error| error.to_string())
}

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "The token has expired.",
        ErrorKind::InvalidSignature => "The token was not signed with this gateway's secret.",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "The token is not signed with HS256."
        }
        ErrorKind::MissingRequiredClaim(_) => "The token lacks `sub` or `exp`.",
        _ => "The token is not a JSON Web Token with a `sub` and an `exp`.",
    }
}

fn bad_token(detail: String) -> Refusal {
    Refusal::Unauthenticated { detail, token_was_given: true }
}

fn bearer(parts: &Parts) -> Result<&str, Refusal> {
    let missing = || Refusal::Unauthenticated {
        detail: "There is no `Authorization: Bearer` header.".into(),
        token_was_given: false,
    };
    let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

/// A buyer, known by a valid token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buyer(pub(crate) UserId);

impl FromRequestParts<Arc<App>> for Buyer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        app.keys.buyer(bearer(parts)?)
    }
}

/// Somebody who knows the admin token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin;

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let given = bearer(parts)?.as_bytes();
        // In constant time, so that the token cannot be guessed byte by byte.
        if bool::from(given.ct_eq(app.keys.admin.expose_secret().as_bytes())) {
            Ok(Self)
        } else {
            Err(bad_token("This is not the admin token.".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn keys() -> Keys {
        Keys::new(&SECRET.into(), "admin".into())
    }

    fn in_an_hour() -> u64 {
        jsonwebtoken::get_current_timestamp() + 3_600
    }

    #[test]
    fn a_signed_token_names_its_user() {
        let token = sign(&SECRET.into(), UserId(u64::MAX), in_an_hour()).unwrap();
        assert_eq!(keys().buyer(&token).unwrap().0, UserId(u64::MAX));
    }

    #[test]
    fn forged_expired_unsigned_and_nameless_tokens_are_refused() {
        let forged = sign(&"another secret, as long as the first".into(), UserId(1), in_an_hour()).unwrap();
        let expired = sign(&SECRET.into(), UserId(1), in_an_hour() - 7_200).unwrap();
        // {"alg":"none","typ":"JWT"} . {"sub":"1","exp":4102444800} . no signature
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let nameless = Claims { sub: "-1".into(), exp: in_an_hour() };
        let nameless = jsonwebtoken::encode(&Header::default(), &nameless, &key).unwrap();
        let wider = Header::new(Algorithm::HS512);
        let wider =
            jsonwebtoken::encode(&wider, &Claims { sub: "1".into(), exp: in_an_hour() }, &key).unwrap();
        for token in [&forged, &expired, unsigned, &nameless, &wider, "", "a.b.c"] {
            let refusal = keys().buyer(token).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Unauthenticated { token_was_given: true, .. }),
                "{token}: {refusal:?}"
            );
        }
    }
}
