//! Checks buyers' tokens.

mod shortcut;

use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use thiserror::Error;

use crate::key::{Algorithm, Key};
use crate::provider;
use shortcut::Shortcut;

/// Seconds by which the clocks of those who sign tokens and those who check them may differ.
const LEEWAY_SECONDS: u64 = 5;
/// Keys that a token without a key id is tried with, at the most: each try costs a check of a signature.
const MAX_TRIED: usize = 4;

/// Why a token is not believed, as a sentence for the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Its time is over.
    #[error("The token has expired.")]
    Expired,
    /// Its time has not come.
    #[error("The token is not valid yet.")]
    NotYet,
    /// Signed with another key, or changed afterwards.
    #[error("The token was not signed with a key of this gateway.")]
    Forged,
    /// Signed with another algorithm than the key's, or not signed.
    #[error("The token is not signed with the algorithm of its key.")]
    Algorithm,
    /// No key has the id that the token names.
    #[error("The token names a key (`kid`) that this gateway does not have.")]
    UnknownKey,
    /// The token has header fields that whoever checks it must understand.
    #[error("The token has critical header fields (`crit`), which this gateway does not know.")]
    Critical,
    /// Another issuer.
    #[error("The token comes from another issuer (`iss`) than this gateway expects.")]
    Issuer,
    /// For somebody else.
    #[error("The token is for another audience (`aud`).")]
    Audience,
    /// A claim that is needed is not there.
    #[error(
        "The token lacks a claim: `sub` and `exp` are needed, and `iss` and `aud` where this gateway checks them."
    )]
    Incomplete,
    /// `sub` is not an unsigned 64-bit number.
    #[error("The token's `sub` is not a user id.")]
    NoUser,
    /// Not a JSON Web Token.
    #[error("The token is not a JSON Web Token with a `sub` and an `exp`.")]
    Malformed,
}

/// What a token must say beside its signature.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `iss` must be one of these; empty: it is not looked at.
    pub issuers: Vec<String>,
    /// `aud` must name one of these; empty: it is not looked at.
    pub audiences: Vec<String>,
}

/// The claims that seckill reads itself; `exp`, `nbf`, `iss` and `aud` are checked by the library.
#[derive(Deserialize)]
struct Claims {
    /// The user id, in decimal.
    sub: String,
    /// Seconds since 1970; the library has refused what is no number.
    #[serde(default)]
    exp: serde_json::Value,
}

/// A token that is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The user whom it names.
    pub user: u64,
    /// When it ends, in whole seconds since 1970.
    pub expires_at: u64,
}

/// Checks buyers' tokens, with several keys that are valid at the same time.
pub struct Verifier {
    keys: Vec<Key>,
    /// Of each key; `None`: it is for another algorithm than HS256.
    shortcuts: Vec<Option<Shortcut>>,
    rules: Rules,
    /// One for each of [`Algorithm::ALL`].
    validations: [Validation; 3],
}

impl Verifier {
    /// Believes tokens that are signed with `secret` by HS256. A token that names another algorithm, or none, is refused.
    pub fn hs256(secret: &str) -> Self {
        Self::new(vec![Key::hs256(secret)], &Rules::default())
    }

    /// Believes tokens that are signed with one of `keys`, each by its own algorithm, and that keep the `rules`.
    ///
    /// A token that names a key is checked with that key alone. A token that names none is tried with the first four keys of its
    /// algorithm.
    pub fn new(keys: Vec<Key>, rules: &Rules) -> Self {
        provider::install();
        let shortcuts = keys.iter().map(Shortcut::of).collect();
        let validations = Algorithm::ALL.map(|algorithm| validation(algorithm, rules));
        Self { keys, shortcuts, rules: rules.clone(), validations }
    }

    /// Whether it has no key, so that no token can be believed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, in the order in which they are tried.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The user whom a token names.
    ///
    /// # Errors
    /// The token is not to be believed.
    pub fn user(&self, token: &str) -> Result<u64, TokenError> {
        self.check(token).map(|believed| believed.user)
    }

    /// The user whom a token names, and until when.
    ///
    /// # Errors
    /// The token is not to be believed.
    pub fn check(&self, token: &str) -> Result<Believed, TokenError> {
        self.check_shortly(token).map_or_else(|| self.check_wholly(token), Ok)
    }

    /// The same, where it costs about a microsecond: `None` says nothing about the token.
    pub fn check_shortly(&self, token: &str) -> Option<Believed> {
        let now = jsonwebtoken::get_current_timestamp();
        self.shortcuts.iter().flatten().find_map(|shortcut| shortcut.believe(token, &self.rules, now))
    }

    /// The same as [`Self::check`], without the shorter way.
    ///
    /// # Errors
    /// The token is not to be believed.
    pub fn check_wholly(&self, token: &str) -> Result<Believed, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| why(error.kind()))?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let kid = header.kid.as_deref();
        let keys = || self.keys.iter().zip(&self.shortcuts);
        let named = || keys().filter(|(key, _)| kid.is_none() || key.id() == kid);
        if kid.is_some() && named().next().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut answer = Err(TokenError::Algorithm);
        for (key, shortcut) in
            named().filter(|(key, _)| key.algorithm().of_token() == header.alg).take(MAX_TRIED)
        {
            answer = self.check_with(token, key);
            if let (Ok(_), Some(shortcut)) = (&answer, shortcut) {
                shortcut.learn(token);
            }
            if answer != Err(TokenError::Forged) {
                break;
            }
        }
        answer
    }

    fn check_with(&self, token: &str, key: &Key) -> Result<Believed, TokenError> {
        // It allows the key's algorithm and no other, whatever the token says.
        let validation = &self.validations[key.algorithm() as usize];
        let token = jsonwebtoken::decode::<Claims>(token, &key.material, validation);
        let claims = token.map_err(|error| why(error.kind()))?.claims;
        let user = claims.sub.parse().map_err(|_| TokenError::NoUser)?;
        // The cast rounds down, and to 0 what is below.
        Ok(Believed { user, expires_at: claims.exp.as_f64().unwrap_or_default() as u64 })
    }
}

fn validation(algorithm: Algorithm, rules: &Rules) -> Validation {
    let mut validation = Validation::new(algorithm.of_token());
    let mut required = vec!["exp", "sub"];
    if !rules.issuers.is_empty() {
        required.push("iss");
        validation.set_issuer(&rules.issuers);
    }
    validation.validate_aud = !rules.audiences.is_empty();
    if validation.validate_aud {
        required.push("aud");
        validation.set_audience(&rules.audiences);
    }
    validation.set_required_spec_claims(&required);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    validation
}

fn why(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYet,
        ErrorKind::InvalidSignature => TokenError::Forged,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(_) => TokenError::Incomplete,
        _ => TokenError::Malformed,
    }
}
