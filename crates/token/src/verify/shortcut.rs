//! A shorter way to believe the tokens that come most: those of HS256 whose header is, byte for byte, one that the library has allowed
//! with the same key before. It only ever says yes; whatever is unusual or wrong is left to the library, which says what is wrong.

use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use ring::hmac;
use serde::{Deserialize, Deserializer};

use super::{Believed, LEEWAY_SECONDS, Rules};
use crate::key::{Algorithm, Key};

/// Bytes of claims in JSON, at the most.
const MAX_CLAIMS: usize = 768;

pub(super) struct Shortcut {
    /// The secret, ready for use.
    secret: hmac::Key,
    /// The header of the first token that the library believed with this key.
    header: OnceLock<Box<str>>,
}

/// In their plainest form. Text with an escape in it, a number that is no whole one, and a claim that comes twice are all errors here.
#[derive(Deserialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    /// Absent, or a number: `null` is none.
    #[serde(default, deserialize_with = "number")]
    nbf: Option<u64>,
    #[serde(default, borrow)]
    iss: Option<&'a str>,
    #[serde(default, borrow)]
    aud: Option<&'a str>,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

impl Shortcut {
    /// `None`: the key is for another algorithm.
    pub(super) fn of(key: &Key) -> Option<Self> {
        let secret = key.material.try_get_as_bytes().ok().filter(|_| key.algorithm() == Algorithm::Hs256)?;
        Some(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, secret), header: OnceLock::new() })
    }

    /// Remembers the header of a token that the library has just believed.
    pub(super) fn learn(&self, token: &str) {
        if let Some((header, _)) = token.split_once('.') {
            self.header.get_or_init(|| header.into());
        }
    }

    /// What the token says, if it is to be believed at `now`, in seconds since 1970, without any doubt.
    pub(super) fn believe(&self, token: &str, rules: &Rules, now: u64) -> Option<Believed> {
        let rest = token.strip_prefix(&**self.header.get()?)?.strip_prefix('.')?;
        let (claims, signature) = rest.split_once('.')?;
        let message = &token[..token.len() - signature.len() - 1];
        // Decoders ask for room for whole groups of three bytes.
        let (mut tag, mut json) = ([0; 33], [0; MAX_CLAIMS]);
        let length = B64.decode_slice(signature, &mut tag).ok()?;
        hmac::verify(&self.secret, message.as_bytes(), &tag[..length]).ok()?;
        let length = B64.decode_slice(claims, &mut json).ok()?;
        // A derived reader takes an array for the fields in their order. The library does not.
        if json[0] != b'{' {
            return None;
        }
        let claims: Claims<'_> = serde_json::from_slice(&json[..length]).ok()?;
        let in_time = claims.exp >= now.checked_sub(LEEWAY_SECONDS)?
            && claims.nbf.is_none_or(|begin| begin <= now + LEEWAY_SECONDS);
        let as_ruled = is_one_of(claims.iss, &rules.issuers) && is_one_of(claims.aud, &rules.audiences);
        let user = claims.sub.parse().ok().filter(|_| in_time && as_ruled)?;
        Some(Believed { user, expires_at: claims.exp })
    }
}

/// Whether a claim has one of the allowed values; without any, everything is allowed.
fn is_one_of(claim: Option<&str>, allowed: &[String]) -> bool {
    allowed.is_empty() || claim.is_some_and(|claim| allowed.iter().any(|one| one == claim))
}
