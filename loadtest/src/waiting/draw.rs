//! The draw, computed again from its description in docs/waiting-room.md and not by the server's code: who checks must not trust.

use sha2::{Digest, Sha256};

/// Reads a seed: 64 hexadecimal digits.
pub fn seed(text: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(seed)
}

/// What is shown of a seed before the draw.
pub fn hash(seed: &[u8; 32]) -> String {
    Sha256::digest(seed).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The position of a number among `drawn`; both count from 1.
pub fn position(seed: &[u8; 32], drawn: u64, number: u64) -> u64 {
    let bits = u64::BITS - (drawn.max(1) - 1).leading_zeros();
    let half = bits.div_ceil(2).max(3);
    let mask = (1_u64 << half) - 1;
    let mut value = number - 1;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..8_u8 {
            let digest = Sha256::new()
                .chain_update(seed)
                .chain_update([round])
                .chain_update(right.to_be_bytes())
                .finalize();
            let word = u64::from_be_bytes(std::array::from_fn(|at| digest[at]));
            (left, right) = (right, left ^ (word & mask));
        }
        value = left << half | right;
        if value < drawn {
            return value + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_draw_that_the_documentation_shows() {
        let seed = seed(&("00".repeat(31) + "2a")).unwrap();
        assert_eq!(hash(&seed), "0a28e9ffef0073f9a6a674cf57ee77307f38f0f1bebb087888d9011ed0eeefdf");
        let positions: Vec<_> = (1..=10).map(|number| position(&seed, 10, number)).collect();
        assert_eq!(positions, [9, 2, 6, 10, 4, 8, 5, 7, 3, 1]);
    }
}
