//! A key that tokens are checked with, and the forms in which operators give one.

use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind};
use pkcs1::RsaPublicKeyRef;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use spki::SubjectPublicKeyInfoRef;
use spki::der::Decode;
use thiserror::Error;

use crate::jwk;

/// Keys that one document may have, and bytes of a key id.
pub const MAX_KEYS: usize = 64;
const MAX_ID: usize = 256;
/// HS256 asks for a secret as long as its hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Bits of an RSA modulus: fewer are weak (RFC 7518, section 3.3), more are slow.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

const ED25519: spki::ObjectIdentifier = spki::ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: spki::ObjectIdentifier = spki::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and checks.
    Hs256,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 3] = [Self::Hs256, Self::EdDsa, Self::Rs256];

    /// As tokens name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    pub(crate) fn of_token(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

/// Why a key cannot be used, as the end of a sentence that begins with where it came from. It never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Neither PEM nor JSON.
    #[error("is neither a PEM public key nor a JWK or JWKS in JSON")]
    Form,
    /// PEM, but not one public key.
    #[error(
        "must hold one PEM block `PUBLIC KEY`; of a certificate, `openssl x509 -pubkey -noout -in FILE` gives it"
    )]
    Pem,
    /// The half that must stay with whoever signs.
    #[error(
        "holds a private key; a gateway checks tokens with the public one: `openssl pkey -in FILE -pubout` gives it"
    )]
    Private,
    /// A key of another kind.
    #[error(
        "has a key that no token is checked with here; give Ed25519 (EdDSA), RSA (RS256) or an `oct` JWK (HS256), for signatures"
    )]
    Kind,
    /// A secret or a modulus that is too short, or one that is too long.
    #[error(
        "has a key of a wrong size: HS256 needs a secret of 32 bytes or more, RS256 a modulus of 2048 to 8192 bits, EdDSA 32 bytes"
    )]
    Size,
    /// A secret that everybody can read.
    #[error("has a shared secret (`oct`), which has no place at an address that others can read")]
    SecretFromUrl,
    /// Cannot be a key id.
    #[error("has a key id that is not 1 to 256 visible ASCII characters")]
    Id,
    /// Two keys that nothing tells apart.
    #[error("has two keys with the same key id and the same algorithm")]
    Twice,
    /// More than [`MAX_KEYS`].
    #[error("has more than 64 keys")]
    TooMany,
    /// Nothing to check tokens with.
    #[error("has no key that tokens can be checked with")]
    None,
    /// Not a key that signs.
    #[error(
        "holds no private key that signs: give a PEM block `PRIVATE KEY` of Ed25519 or RSA, or an `oct` JWK"
    )]
    NotSigning,
}

/// A key that tokens are checked with. It has one algorithm, whatever a token says.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    pub(crate) material: DecodingKey,
}

/// Shows no key material.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// The secret that one side signs with and the other checks with, without a key id. Its length is not checked here.
    pub fn hs256(secret: &str) -> Self {
        Self { id: None, algorithm: Algorithm::Hs256, material: DecodingKey::from_secret(secret.as_bytes()) }
    }

    /// The keys of a file: a PEM public key, a JWK, or a JWKS. `id` names the key of a PEM file; a JWK has its own.
    ///
    /// # Errors
    /// The file is none of these, or holds a private key, or has a key of a wrong size. Keys of a JWKS that are for something else are
    /// left out; no usable key at all is an error.
    pub fn from_file(text: &str, id: Option<&str>) -> Result<Vec<Self>, KeyError> {
        let keys = match text.trim_start() {
            json if json.starts_with('{') => jwk::read(json, jwk::Origin::File)?,
            pem if pem.contains("-----BEGIN ") => vec![Self::from_pem(pem)?],
            _ => return Err(KeyError::Form),
        };
        match (id, keys.as_slice()) {
            (Some(id), [key]) => Ok(vec![Self { id: Some(checked_id(id)?), ..key.clone() }]),
            (Some(_), _) => Err(KeyError::Twice),
            (None, _) => Ok(keys),
        }
    }

    /// The keys of a JWKS that was fetched from an address. Shared secrets and private keys are refused with the whole document.
    ///
    /// # Errors
    /// It is no JWKS, or has no usable key, or one that must not be there.
    pub fn from_jwks(text: &str) -> Result<Vec<Self>, KeyError> {
        jwk::read(text, jwk::Origin::Url)
    }

    fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let blocks: Vec<_> = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).take(2).collect();
        let [Ok(block)] = blocks.as_slice() else { return Err(KeyError::Pem) };
        let info = SubjectPublicKeyInfoRef::from_der(block).map_err(|_| KeyError::Pem)?;
        let bits = info.subject_public_key.as_bytes().ok_or(KeyError::Pem)?;
        match info.algorithm.oid {
            ED25519 => Self::of(None, Algorithm::EdDsa, DecodingKey::from_ed_der(bits)),
            RSA => {
                let key = RsaPublicKeyRef::from_der(bits).map_err(|_| KeyError::Pem)?;
                let (n, e) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
                Self::of(None, Algorithm::Rs256, DecodingKey::from_rsa_raw_components(n, e))
            }
            _ => Err(KeyError::Kind),
        }
    }

    /// A key whose size is right for its algorithm.
    pub(crate) fn of(
        id: Option<&str>,
        algorithm: Algorithm,
        material: DecodingKey,
    ) -> Result<Self, KeyError> {
        let id = id.map(checked_id).transpose()?;
        let right = match (algorithm, material.family(), material.kind()) {
            (Algorithm::Hs256, AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                secret.len() >= MIN_SECRET_BYTES
            }
            (Algorithm::EdDsa, AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(key)) => key.len() == 32,
            (Algorithm::Rs256, AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RSA_BITS.contains(&bits(n))
                    && (2..=33).contains(&bits(e))
                    && e.last().is_some_and(|e| e % 2 == 1)
            }
            _ => return Err(KeyError::Kind),
        };
        if right { Ok(Self { id, algorithm, material }) } else { Err(KeyError::Size) }
    }

    /// What tokens name the key by.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How tokens of this key are signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether nothing tells the two apart.
    pub fn is_named_like(&self, other: &Self) -> bool {
        self.id.is_some() && self.id == other.id && self.algorithm == other.algorithm
    }
}

pub(crate) fn checked_id(id: &str) -> Result<String, KeyError> {
    let good = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(id.to_owned()) } else { Err(KeyError::Id) }
}

/// Bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}
