//! Tokens: buyers' JSON Web Tokens (RFC 7519), whose `sub` is the user id, and the tokens of admins. Signing and checking, and
//! nothing else: where keys come from is for others to know.
//!
//! [`Verifier`] decides who may buy, with [`Key`]s that each have one algorithm; [`Signer`] makes tokens for demonstrations, load
//! tests and tests; [`admin`] decides who may administer. The cryptography is that of `ring`, which the TLS connections need anyway:
//! see [`provider`].

pub mod admin;
pub mod challenge;
mod jwk;
mod key;
pub mod provider;
mod sign;
pub mod ticket;
mod verify;

pub use key::{Algorithm, Key, KeyError, MAX_KEYS};
pub use sign::{KeyPair, Signer, generate_ed25519, generate_hs256};
pub use verify::{Believed, Rules, TokenError, Verifier};

#[cfg(test)]
mod tests;
