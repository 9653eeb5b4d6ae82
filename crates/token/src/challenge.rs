//! Proof of work by the protocol of ALTCHA, version 1: the client has to find a number by trying. The gateway keeps nothing: all
//! that it has to know again is in the salt, and the salt is in the hash that is signed.
//!
//! The salt ends with `&`. Without that, digits could be moved from the number to the last value of the salt, and one solution
//! would be valid with another expiry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ticket::derived_key;

/// The only algorithm.
const ALGORITHM: &str = "SHA-256";
/// The longest solution that is read, in characters.
const MAX_PAYLOAD: usize = 2_048;

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// `SHA-256`.
    pub algorithm: String,
    /// SHA-256 of the salt with the number behind it, as hexadecimal digits.
    pub challenge: String,
    /// The number is between 0 and this.
    pub maxnumber: u32,
    /// A random word and, as a query, what the solution is good for.
    pub salt: String,
    /// HMAC-SHA256 of `challenge`, as hexadecimal digits.
    pub signature: String,
}

/// What a client sends back, as base64 of JSON. Other members are allowed: clients say how long it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solution {
    /// As in the challenge.
    pub algorithm: String,
    /// As in the challenge.
    pub challenge: String,
    /// What was found.
    pub number: u64,
    /// As in the challenge.
    pub salt: String,
    /// As in the challenge.
    pub signature: String,
}

impl Solution {
    /// As it is sent.
    pub fn to_payload(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("plain fields can be written as JSON"))
    }
}

/// Why a solution is not accepted, as a sentence for the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Not base64 of a JSON object with the members that are needed.
    #[error(
        "The proof of work cannot be read: it is base64 of JSON with algorithm, challenge, number, salt and signature."
    )]
    Malformed,
    /// The number is not the one, or something of the challenge was changed.
    #[error("The proof of work is wrong.")]
    Wrong,
    /// For another user or another sale.
    #[error("The proof of work is for another user or another sale.")]
    Other,
    /// Too late.
    #[error("The proof of work has expired.")]
    Expired,
}

/// A solution that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Names the challenge: use it up, and the solution is good once.
    pub nonce: String,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// Makes challenges and checks solutions. Gateways of one system have the same secrets.
pub struct Challenger {
    /// The first signs, all verify.
    keys: Vec<hmac::Key>,
    random: SystemRandom,
}

impl Challenger {
    /// With keys that are derived from secrets that gateways share anyway.
    ///
    /// # Panics
    /// When there is no secret.
    pub fn derived<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<_> =
            secrets.into_iter().map(|secret| derived_key(secret, b"proof of work 1")).collect();
        assert!(!keys.is_empty(), "a gateway has a secret");
        Self { keys, random: SystemRandom::new() }
    }

    /// A challenge for `user` in `sale` that takes about `maxnumber` / 2 tries, good before the second `expires` since 1970.
    pub fn make(&self, user: u64, sale: u64, maxnumber: u32, expires: u64) -> Challenge {
        let mut random = [0; 20];
        self.random.fill(&mut random).expect("the system gives random bytes");
        let (nonce, choice) = random.split_at(16);
        // 32 random bits among so few numbers: the choice is as good as even.
        let choice = u32::from_be_bytes(std::array::from_fn(|i| choice[i]));
        let number = choice.checked_rem(maxnumber.saturating_add(1)).unwrap_or(choice);
        let salt = format!("{}?expires={expires}&sale={sale}&user={user}&maxnumber={maxnumber}&", hex(nonce));
        let challenge = hash(&salt, number.into());
        let signature = hex(hmac::sign(&self.keys[0], challenge.as_bytes()).as_ref());
        Challenge { algorithm: ALGORITHM.into(), challenge, maxnumber, salt, signature }
    }

    /// Checks a solution that `user` has sent for `sale` at the second `now` since 1970.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn check(&self, payload: &str, user: u64, sale: u64, now: u64) -> Result<Proof, ProofError> {
        let solution = read(payload).ok_or(ProofError::Malformed)?;
        if solution.algorithm != ALGORITHM || hash(&solution.salt, solution.number) != solution.challenge {
            return Err(ProofError::Wrong);
        }
        let signature = unhex(&solution.signature).ok_or(ProofError::Wrong)?;
        let signed = |key: &hmac::Key| hmac::verify(key, solution.challenge.as_bytes(), &signature).is_ok();
        if !self.keys.iter().any(signed) {
            return Err(ProofError::Wrong);
        }
        // From here on the salt is as it was made, since the hash of it was signed.
        let (nonce, query) = solution.salt.split_once('?').ok_or(ProofError::Wrong)?;
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok())
        };
        if value("user") != Some(user) || value("sale") != Some(sale) {
            return Err(ProofError::Other);
        }
        let expires = value("expires").ok_or(ProofError::Wrong)?;
        if now >= expires {
            return Err(ProofError::Expired);
        }
        Ok(Proof { nonce: nonce.to_owned(), expires })
    }
}

fn read(payload: &str) -> Option<Solution> {
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    serde_json::from_slice(&STANDARD.decode(payload).ok()?).ok()
}

/// Finds the number by trying all of them; `None`: the challenge has none. Takes about `maxnumber` / 2 hashes.
pub fn solve(challenge: &Challenge) -> Option<Solution> {
    let number = (0..=u64::from(challenge.maxnumber))
        .find(|number| hash(&challenge.salt, *number) == challenge.challenge)?;
    let Challenge { algorithm, challenge, salt, signature, .. } = challenge.clone();
    Some(Solution { algorithm, challenge, number, salt, signature })
}

fn hash(salt: &str, number: u64) -> String {
    hex(digest::digest(&digest::SHA256, format!("{salt}{number}").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn challenger() -> Challenger {
        Challenger::derived([SECRET])
    }

    #[test]
    fn a_solution_is_accepted_and_named() {
        let challenge = challenger().make(7, 3, 500, 1_000);
        let payload = solve(&challenge).unwrap().to_payload();
        let proof = challenger().check(&payload, 7, 3, 999).unwrap();
        assert_eq!(proof.expires, 1_000);
        assert!(challenge.salt.starts_with(&format!("{}?", proof.nonce)) && proof.nonce.len() == 32);
        assert_eq!(challenger().check(&payload, 8, 3, 999), Err(ProofError::Other));
        assert_eq!(challenger().check(&payload, 7, 4, 999), Err(ProofError::Other));
        assert_eq!(challenger().check(&payload, 7, 3, 1_000), Err(ProofError::Expired));
        let other = Challenger::derived(["another secret, as long as the first"]);
        assert_eq!(other.check(&payload, 7, 3, 999), Err(ProofError::Wrong));
        let rotated = Challenger::derived(["another secret, as long as the first", SECRET]);
        assert!(rotated.check(&payload, 7, 3, 999).is_ok());
    }

    /// Every parameter is bound: whatever is changed, alone or with a number that fits it, is refused.
    #[test]
    fn what_was_changed_is_refused() {
        let challenge = challenger().make(7, 3, 500, 1_000);
        let solution = solve(&challenge).unwrap();
        let refused = |changed: Solution| {
            assert_ne!(changed, solution);
            assert_eq!(
                challenger().check(&changed.to_payload(), 7, 3, 5),
                Err(ProofError::Wrong),
                "{changed:?}"
            );
        };
        let with = |salt: String, number| Solution { salt, number, ..solution.clone() };
        refused(with(solution.salt.clone(), solution.number + 1));
        refused(with(solution.salt.replace("expires=1000", "expires=9000"), solution.number));
        refused(with(solution.salt.replace("maxnumber=500", "maxnumber=1"), solution.number));
        refused(Solution { algorithm: "SHA-1".into(), ..solution.clone() });
        // With a hash that fits, the signature does not.
        let salt = solution.salt.replace("user=7", "user=8");
        let challenge = hash(&salt, solution.number);
        refused(Solution { salt, challenge, ..solution.clone() });
        // A digit moved from the number to the salt hashes alike, and must not make a longer life.
        let digits = solution.number.to_string();
        let (first, rest) = digits.split_at(1);
        if let Ok(number) = rest.parse() {
            let moved = with(format!("{}{first}", solution.salt), number);
            let checked = challenger().check(&moved.to_payload(), 7, 3, 5);
            assert!(checked.is_err() || checked.is_ok_and(|proof| proof.expires == 1_000));
        }
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(payload in ".{0,300}") {
            prop_assert_eq!(challenger().check(&payload, 1, 1, 1), Err(ProofError::Malformed));
        }

        #[test]
        fn no_solution_makes_it_panic(salt in ".{0,60}", number: u64, signature in "[0-9a-f]{0,70}") {
            let challenge = hash(&salt, number);
            let solution = Solution { algorithm: ALGORITHM.into(), challenge, number, salt, signature };
            prop_assert_eq!(challenger().check(&solution.to_payload(), 1, 1, 1), Err(ProofError::Wrong));
        }
    }
}
