//! What `jsonwebtoken` signs and checks with: `ring`, which is compiled for TLS anyway, in place of the 28 crates of the
//! providers that `jsonwebtoken` brings along. HS256, HS384, HS512, RS256 and EdDSA; every other algorithm is refused.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, signature};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Only needed for making keys into JWKs, which seckill never does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `ring` the process's provider. May be called as often as one likes.
pub fn install() {
    // An error says that there is a provider already, and in this program that can only be this one.
    let _ = RING.install_default();
}

/// The HMAC of an algorithm; `None`: it is no HMAC.
fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn expect_family(family: AlgorithmFamily, expected: AlgorithmFamily) -> Result<(), Error> {
    if family == expected { Ok(()) } else { Err(ErrorKind::InvalidKeyFormat.into()) }
}

/// One key, ready for one algorithm.
struct Key<K> {
    algorithm: Algorithm,
    key: K,
}

impl<K: Sign> JwtSigner for Key<K> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<K: Verify> JwtVerifier for Key<K> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<K: Sign> signature::Signer<Vec<u8>> for Key<K> {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        self.key.sign(message)
    }
}

impl<K: Verify> signature::Verifier<Vec<u8>> for Key<K> {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.key.verify(message, signature).map_err(|ring::error::Unspecified| signature::Error::new())
    }
}

trait Sign {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error>;
}

trait Verify {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified>;
}

impl Sign for hmac::Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(self, message).as_ref().to_vec())
    }
}

impl Verify for hmac::Key {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified> {
        // In constant time.
        hmac::verify(self, message, signature)
    }
}

impl Sign for Ed25519KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.sign(message).as_ref().to_vec())
    }
}

impl Sign for RsaKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut signature = vec![0; self.public().modulus_len()];
        self.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|ring::error::Unspecified| signature::Error::new())?;
        Ok(signature)
    }
}

/// The public half of a key pair, as it was given.
enum PublicKey {
    Ed25519(Vec<u8>),
    RsaDer(Vec<u8>),
    RsaComponents { n: Vec<u8>, e: Vec<u8> },
}

impl Verify for PublicKey {
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified> {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::RsaDer(key) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature)
            }
            Self::RsaComponents { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        }
    }
}

fn signer(&algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    match algorithm {
        Algorithm::EdDSA => {
            expect_family(key.family(), AlgorithmFamily::Ed)?;
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes())
                .map_err(|_| ErrorKind::InvalidEddsaKey)?;
            Ok(Box::new(Key { algorithm, key: pair }))
        }
        Algorithm::RS256 => {
            expect_family(key.family(), AlgorithmFamily::Rsa)?;
            let der = key.as_bytes();
            let pair = RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(der))
                .map_err(|error| ErrorKind::InvalidRsaKey(error.to_string()))?;
            Ok(Box::new(Key { algorithm, key: pair }))
        }
        other => {
            let hmac = hmac_of(other).ok_or(ErrorKind::InvalidAlgorithm)?;
            expect_family(key.family(), AlgorithmFamily::Hmac)?;
            Ok(Box::new(Key { algorithm, key: hmac::Key::new(hmac, key.as_bytes()) }))
        }
    }
}

fn verifier(&algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    match algorithm {
        Algorithm::EdDSA => {
            expect_family(key.family(), AlgorithmFamily::Ed)?;
            let public = PublicKey::Ed25519(key.try_get_as_bytes()?.to_vec());
            Ok(Box::new(Key { algorithm, key: public }))
        }
        Algorithm::RS256 => {
            expect_family(key.family(), AlgorithmFamily::Rsa)?;
            let public = match key.kind() {
                DecodingKeyKind::SecretOrDer(der) => PublicKey::RsaDer(der.clone()),
                DecodingKeyKind::RsaModulusExponent { n, e } => {
                    PublicKey::RsaComponents { n: n.clone(), e: e.clone() }
                }
            };
            Ok(Box::new(Key { algorithm, key: public }))
        }
        other => {
            let hmac = hmac_of(other).ok_or(ErrorKind::InvalidAlgorithm)?;
            expect_family(key.family(), AlgorithmFamily::Hmac)?;
            Ok(Box::new(Key { algorithm, key: hmac::Key::new(hmac, key.try_get_as_bytes()?) }))
        }
    }
}
