//! Signs buyers' tokens, and makes keys for it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use pem_rfc7468::LineEnding;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde_json::json;

use crate::key::{Algorithm, Key, KeyError, checked_id};
use crate::{jwk, provider};

/// What a token says.
#[derive(Serialize)]
struct Claims<'a> {
    /// The user id, in decimal.
    sub: String,
    /// The first second since 1970 at which the token is no longer valid.
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Signs buyers' tokens.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Signer {
    /// Signs with `secret` by HS256, without a key id.
    pub fn hs256(secret: &str) -> Self {
        Self::of(Algorithm::Hs256, EncodingKey::from_secret(secret.as_bytes()), None)
    }

    /// Signs with the key of a file: a PEM private key of Ed25519 or RSA (PKCS #8), or an `oct` JWK. `id` goes into each token; by
    /// default that of the JWK, if it has one.
    ///
    /// # Errors
    /// The file has no such key, or `id` cannot be a key id.
    pub fn from_file(text: &str, id: Option<&str>) -> Result<Self, KeyError> {
        let given = id.map(checked_id).transpose()?;
        if text.trim_start().starts_with('{') {
            let keys = jwk::read(text, jwk::Origin::File)?;
            let [key] = keys.as_slice() else { return Err(KeyError::NotSigning) };
            let secret = secret_of(key).ok_or(KeyError::NotSigning)?;
            let id = given.or_else(|| key.id().map(str::to_owned));
            return Ok(Self::of(Algorithm::Hs256, EncodingKey::from_secret(secret), id));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NotSigning)?;
        let der = der.secret_pkcs8_der();
        if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
            return Ok(Self::of(Algorithm::EdDsa, EncodingKey::from_ed_der(der), given));
        }
        RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::NotSigning)?;
        Ok(Self::of(Algorithm::Rs256, EncodingKey::from_rsa_der(der), given))
    }

    fn of(algorithm: Algorithm, key: EncodingKey, id: Option<String>) -> Self {
        provider::install();
        let mut header = Header::new(algorithm.of_token());
        header.kid = id;
        Self { key, header, issuer: None, audience: None }
    }

    /// Puts these claims into each token.
    #[must_use]
    pub fn with_claims(self, issuer: Option<String>, audience: Option<String>) -> Self {
        Self { issuer, audience, ..self }
    }

    /// A token of `user` that is valid before the second `expires_at` since 1970.
    pub fn sign(&self, user: u64, expires_at: u64) -> String {
        let (iss, aud) = (self.issuer.as_deref(), self.audience.as_deref());
        let claims = Claims { sub: user.to_string(), exp: expires_at, iss, aud };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .expect("plain fields are always JSON, and the key was tried when it was read")
    }
}

fn secret_of(key: &Key) -> Option<&[u8]> {
    let secret = DecodingKey::try_get_as_bytes(&key.material).ok()?;
    (key.algorithm() == Algorithm::Hs256).then_some(secret)
}

/// The two halves of a new key, each in PEM.
pub struct KeyPair {
    /// Stays with whoever signs.
    pub private: String,
    /// What a gateway checks tokens with.
    pub public: String,
}

/// PKCS #8 (RFC 8410) before the 32 bytes of a private key.
const ED25519_PRIVATE: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// SubjectPublicKeyInfo (RFC 8410) before the 32 bytes of a public key.
const ED25519_PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random bytes, or nothing here can be secure");
    bytes
}

/// Makes a key for EdDSA.
pub fn generate_ed25519() -> KeyPair {
    let seed = random();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a private key");
    let pem = |label, prefix: &[u8], key: &[u8]| {
        pem_rfc7468::encode_string(label, LineEnding::LF, &[prefix, key].concat())
            .expect("a short key with a plain label is always PEM")
    };
    KeyPair {
        private: pem("PRIVATE KEY", ED25519_PRIVATE, &seed),
        public: pem("PUBLIC KEY", ED25519_PUBLIC, pair.public_key().as_ref()),
    }
}

/// Makes a secret for HS256, as a JWK. Whoever signs and whoever checks have the same.
///
/// # Errors
/// `id` cannot be a key id.
pub fn generate_hs256(id: &str) -> Result<String, KeyError> {
    let secret = BASE64_URL_SAFE_NO_PAD.encode(random());
    let jwk = json!({"kty": "oct", "kid": checked_id(id)?, "alg": "HS256", "use": "sig", "k": secret});
    Ok(format!("{jwk}\n"))
}
