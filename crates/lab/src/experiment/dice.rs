//! Which of many things go wrong, decided by a seed: both sides of an experiment meet the same faults.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Decides by a seed.
pub struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// `hits` different ones of the numbers below `of`, in ascending order.
    pub(crate) fn some(&mut self, hits: usize, of: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..of).collect();
        all.shuffle(&mut self.0);
        all.truncate(hits);
        all.sort_unstable();
        all
    }

    /// A number below `of`, which is not 0.
    pub(crate) fn below(&mut self, of: u64) -> u64 {
        self.0.random_range(0..of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_hits_the_same_ones_and_each_once() {
        let hits = |seed| Dice::new(seed).some(20, 100);
        assert_eq!(hits(1), hits(1));
        assert_ne!(hits(1), hits(2));
        assert!(hits(1).windows(2).all(|two| two[0] < two[1]) && hits(1).len() == 20);
        assert!((0..100).all(|seed| Dice::new(seed).below(3) < 3));
    }
}
