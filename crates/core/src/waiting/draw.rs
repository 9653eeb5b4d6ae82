//! The draw: in which order those who arrived before the start are let in. It is a permutation that follows from a seed, so it is
//! not stored: each position is computed when it is asked for, and anyone can compute it again once the seed is known.
//!
//! The permutation is a Feistel network over the numbers from 0 to `4^h - 1`, the smallest such range that has room for all
//! numbers and at least 64 of them. Its round function is SHA-256. A result that is no number of the draw is put in again until it
//! is one (cycle walking), which makes a permutation of exactly the numbers of the draw.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Rounds of the network.
const ROUNDS: u8 = 8;
/// The fewest bits of one half: in smaller ranges a network reaches only some of the permutations.
const MIN_HALF_BITS: u32 = 3;

/// What decides a draw: 32 random bytes, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// The SHA-256 of the 32 bytes, as 64 hexadecimal digits: what is shown before the draw.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0))
    }
}

/// Does not show the seed: before the draw it is a secret.
impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seed of hash {}", self.hash())
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        hex(&seed.0)
    }
}

impl TryFrom<String> for Seed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a seed is 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The position, from 1 to `drawn`, of the arrival with the number `number`, from 1 to `drawn`.
///
/// Takes the same time for any number of arrivals: at the most about 32 hashes on average, and more only in rooms of fewer than 16.
pub fn position(seed: &Seed, drawn: u64, number: u64) -> u64 {
    debug_assert!((1..=drawn).contains(&number));
    let bits = u64::BITS - drawn.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2).clamp(MIN_HALF_BITS, 32);
    let mut value = number - 1;
    loop {
        value = network(seed, half, value);
        if value < drawn {
            return value + 1;
        }
    }
}

fn network(seed: &Seed, half: u32, value: u64) -> u64 {
    let mask = (1 << half) - 1;
    let (mut left, mut right) = (value >> half, value & mask);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ (round_function(seed, round, right) & mask));
    }
    (left << half) | right
}

/// The first 8 bytes of SHA-256(seed, round as a byte, value as 8 bytes), the highest byte first.
fn round_function(seed: &Seed, round: u8, value: u64) -> u64 {
    let digest = Sha256::new().chain_update(seed.0).chain_update([round]).chain_update(value.to_be_bytes());
    let digest = digest.finalize();
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(number: u64) -> Seed {
        Seed(Sha256::digest(number.to_be_bytes()).into())
    }

    #[test]
    fn everyone_has_a_position_of_their_own() {
        for drawn in [1, 2, 3, 10, 63, 64, 65, 1_000, 5_000] {
            let mut positions: Vec<_> = (1..=drawn).map(|number| position(&seed(1), drawn, number)).collect();
            positions.sort_unstable();
            assert!(positions.iter().copied().eq(1..=drawn), "{drawn}");
        }
    }

    /// The numbers that docs/waiting-room.md shows, and that its script computes.
    #[test]
    fn a_draw_can_be_computed_by_anyone() {
        let seed = Seed::try_from("00".repeat(31) + "2a").unwrap();
        let positions: Vec<_> = (1..=10).map(|number| position(&seed, 10, number)).collect();
        assert_eq!(seed.hash(), EXPECTED_HASH);
        assert_eq!(positions, EXPECTED_POSITIONS);
        assert_eq!(String::from(seed), "00".repeat(31) + "2a");
    }

    const EXPECTED_HASH: &str = "0a28e9ffef0073f9a6a674cf57ee77307f38f0f1bebb087888d9011ed0eeefdf";
    const EXPECTED_POSITIONS: [u64; 10] = [9, 2, 6, 10, 4, 8, 5, 7, 3, 1];

    /// The chi-square statistic of how often each of `n` arrivals got each of `n` positions in so many draws.
    fn chi_square(n: u64, draws: u64) -> f64 {
        let side = usize::try_from(n).unwrap();
        let mut counts = vec![0_u32; side * side];
        for draw in 0..draws {
            let seed = seed(draw);
            for number in 1..=n {
                let position = position(&seed, n, number);
                counts[usize::try_from((number - 1) * n + position - 1).unwrap()] += 1;
            }
        }
        let expected = draws as f64 / n as f64;
        counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    /// Every arrival gets every position equally often. The bounds are those that a fair draw exceeds once in a thousand times, for
    /// (n - 1)² degrees of freedom; the seeds are fixed, so the result is always the same.
    #[test]
    fn the_draw_is_uniform() {
        for (n, draws, bound) in [(2, 1_000, 10.83), (3, 1_000, 18.47), (7, 1_000, 67.99), (20, 300, 449.9)] {
            let statistic = chi_square(n, draws);
            assert!(statistic < bound, "{n} arrivals: {statistic} is above {bound}");
        }
    }

    /// Neighbours in the order of arrival do not stay neighbours: all 24 orders of four arrivals come equally often.
    #[test]
    fn every_order_is_as_likely_as_any_other() {
        let mut counts = std::collections::BTreeMap::new();
        const DRAWS: u64 = 2_400;
        for draw in 0..DRAWS {
            let order: Vec<_> = (1..=4).map(|number| position(&seed(draw), 4, number)).collect();
            *counts.entry(order).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = DRAWS as f64 / 24.0;
        let statistic: f64 = counts.values().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        // 23 degrees of freedom, one in a thousand.
        assert!(statistic < 49.73, "{statistic}");
    }

    #[test]
    fn the_debug_text_does_not_show_the_seed() {
        let text = format!("{:?}", seed(1));
        assert!(!text.contains(&String::from(seed(1))) && text.contains(&seed(1).hash()));
    }
}
