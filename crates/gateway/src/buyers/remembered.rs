//! Tokens that were believed a moment ago: whoever polls for an order sends the same token again and again, and checking a signature of
//! RS256 or EdDSA is most of what an answer from memory costs. Tokens that have a shorter way to be believed do not come here.
//!
//! A fixed number of places, each for the tokens of one hash. A token gets its place when it comes for the second time, so that a crowd
//! in which everyone comes once leaves no more than hashes.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use seckill_token::Believed;

/// Tokens at the most: up to 18 MB where each is as long as it may be, some 10 MB with those of RS256.
const PLACES: usize = 1 << 14;
/// Bytes of a token that is remembered; a longer one is checked each time.
const MAX_BYTES: usize = 1_024;

pub(super) struct Remembered {
    places: Box<[Mutex<Place>]>,
    /// Nobody outside can choose tokens for one place.
    hasher: RandomState,
}

/// Locked to look or to write; never across an await.
#[derive(Default)]
struct Place {
    /// Of the token that came here last.
    hash: u64,
    token: Option<Token>,
}

struct Token {
    text: Box<str>,
    believed: Believed,
    /// Of the keys that it was checked with.
    generation: u64,
}

impl Remembered {
    pub(super) fn new() -> Self {
        let places = std::iter::repeat_with(Mutex::default).take(PLACES).collect();
        Self { places, hasher: RandomState::new() }
    }

    /// What a token said when it was checked with the keys of this generation, unless its time is over.
    pub(super) fn get(&self, text: &str, generation: u64, now: u64) -> Option<Believed> {
        let (place, hash) = self.place(text);
        let token = place.token.as_ref().filter(|_| place.hash == hash)?;
        let good = &*token.text == text && token.generation == generation && now < token.believed.expires_at;
        good.then_some(token.believed)
    }

    pub(super) fn put(&self, text: &str, believed: Believed, generation: u64) {
        if text.len() > MAX_BYTES {
            return;
        }
        let (mut place, hash) = self.place(text);
        let came_before = place.hash == hash;
        let token = came_before.then(|| Token { text: text.into(), believed, generation });
        let replaced = std::mem::replace(&mut *place, Place { hash, token });
        drop(place);
        drop(replaced);
    }

    fn place(&self, text: &str) -> (MutexGuard<'_, Place>, u64) {
        let hash = self.hasher.hash_one(text);
        // The remainder is below the number of places.
        let place = &self.places[hash as usize % PLACES];
        (place.lock().unwrap_or_else(PoisonError::into_inner), hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn believed(user: u64) -> Believed {
        Believed { user, expires_at: NOW + 10 }
    }

    #[test]
    fn a_token_is_remembered_from_its_second_time_on_until_it_ends() {
        let remembered = Remembered::new();
        remembered.put("a", believed(1), 1);
        assert_eq!(remembered.get("a", 1, NOW), None);
        remembered.put("a", believed(1), 1);
        assert_eq!(remembered.get("a", 1, NOW), Some(believed(1)));
        assert_eq!(remembered.get("a", 1, NOW + 10), None, "its time is over");
        assert_eq!(remembered.get("a", 2, NOW), None, "the keys are others");
        assert_eq!(remembered.get("b", 1, NOW), None, "another token");
    }

    #[test]
    fn a_crowd_that_comes_once_leaves_no_token_and_a_long_token_is_none_to_remember() {
        let remembered = Remembered::new();
        for user in 0..100_000 {
            remembered.put(&format!("token {user}"), believed(user), 1);
        }
        let kept = remembered.places.iter().filter(|place| place.lock().unwrap().token.is_some()).count();
        assert_eq!(kept, 0);
        let long = "x".repeat(MAX_BYTES + 1);
        remembered.put(&long, believed(1), 1);
        remembered.put(&long, believed(1), 1);
        assert_eq!(remembered.get(&long, 1, NOW), None);
    }
}
