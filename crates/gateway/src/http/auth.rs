//! Who is calling: buyers by a signed token whose `sub` is the user id, admins by a token with scopes. Never by the body.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use seckill_core::UserId;
use seckill_token::admin::{Acting, AdminTokens, Scope};

use super::App;
use super::problem::Refusal;
use crate::buyers::{BuyerKeys, NotBelieved};

/// What tokens are checked with.
pub(crate) struct Keys {
    buyers: Arc<BuyerKeys>,
    admins: AdminTokens,
}

impl Keys {
    pub(crate) fn new(buyers: Arc<BuyerKeys>, admins: AdminTokens) -> Self {
        Self { buyers, admins }
    }

    async fn buyer(&self, token: &str) -> Result<Buyer, Refusal> {
        let user = self.buyers.user(token).await.map_err(|why| match why {
            NotBelieved::Token(error) => bad_token(error.to_string()),
            NotBelieved::KeysAway => {
                Refusal::Unavailable("the keys of buyers' tokens cannot be fetched".into())
            }
        })?;
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
        app.keys.buyer(bearer(parts)?).await
    }
}

/// A buyer, or an admin who may look orders up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Viewer {
    Buyer(UserId),
    Admin,
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        match Admin::<Audit>::from_request_parts(parts, app).await {
            Ok(_) => Ok(Self::Admin),
            Err(missing @ Refusal::MissingScope { .. }) => Err(missing),
            Err(_) => Buyer::from_request_parts(parts, app).await.map(|Buyer(user)| Self::Buyer(user)),
        }
    }
}

/// A scope as a type, so that each handler names the one that it needs.
pub(crate) trait Needs {
    const SCOPE: Scope;
}

/// Opens and changes sales.
pub(crate) struct Sales;
/// Reads what is not for everyone.
pub(crate) struct Audit;
/// Repairs, decides, gives money.
pub(crate) struct Operate;

impl Needs for Sales {
    const SCOPE: Scope = Scope::Sales;
}

impl Needs for Audit {
    const SCOPE: Scope = Scope::Audit;
}

impl Needs for Operate {
    const SCOPE: Scope = Scope::Operate;
}

/// An admin who may do what needs the scope.
pub(crate) struct Admin<S>(PhantomData<S>);

impl<S: Needs> FromRequestParts<Arc<App>> for Admin<S> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let admin = app.keys.admins.find(bearer(parts)?);
        let admin =
            admin.ok_or_else(|| bad_token("This is not the admin token, or not one of them.".into()))?;
        if let Some(acting) = parts.extensions.get::<Acting>() {
            acting.is(admin.name());
        }
        if admin.may(S::SCOPE) {
            Ok(Self(PhantomData))
        } else {
            Err(Refusal::MissingScope { admin: Arc::clone(admin.name()), scope: S::SCOPE })
        }
    }
}
