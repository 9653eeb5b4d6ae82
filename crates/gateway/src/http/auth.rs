//! Who is calling: buyers by a signed token whose `sub` is the user id, admins by a shared token. Never by the body.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use seckill_core::UserId;
use seckill_token::Verifier;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::App;
use super::problem::Refusal;

/// What tokens are checked with.
pub(crate) struct Keys {
    buyers: Verifier,
    admin: SecretString,
}

impl Keys {
    pub(crate) fn new(jwt_secret: &SecretString, admin: SecretString) -> Self {
        Self { buyers: Verifier::hs256(jwt_secret.expose_secret()), admin }
    }

    fn buyer(&self, token: &str) -> Result<Buyer, Refusal> {
        let user = self.buyers.user(token).map_err(|error| bad_token(error.to_string()))?;
        Ok(Buyer(UserId(user)))
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

/// A buyer, or somebody who knows the admin token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Viewer {
    Buyer(UserId),
    Admin,
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        if Admin::from_request_parts(parts, app).await.is_ok() {
            return Ok(Self::Admin);
        }
        Buyer::from_request_parts(parts, app).await.map(|Buyer(user)| Self::Buyer(user))
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
