//! How much of something each of many may hold at the same time. What nobody holds is not remembered, so memory is bounded by
//! what is held.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// At most so many for each key.
pub(crate) struct Shares<K> {
    most: usize,
    held: Arc<Held<K>>,
}

/// How many each key holds. Never locked across an await.
type Held<K> = Mutex<HashMap<K, usize>>;

/// One of them, held until it is dropped.
pub(crate) struct Share<K: Hash + Eq>(Option<(K, Arc<Held<K>>)>);

impl<K: Hash + Eq + Clone> Shares<K> {
    /// 0: no limit.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// `None`: the key holds as many as it may.
    pub(crate) fn take(&self, key: &K) -> Option<Share<K>> {
        if self.most == 0 {
            return Some(Share(None));
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share(Some((key.clone(), Arc::clone(&self.held)))))
    }

    /// Keys that hold something.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let Some((key, held)) = self.0.take() else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_share_and_none_is_remembered_that_holds_nothing() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(&1), shares.take(&1));
        assert!(first.is_some() && second.is_some());
        assert!(shares.take(&1).is_none());
        assert!(shares.take(&2).is_some(), "another key");
        drop(first);
        let third = shares.take(&1);
        assert!(third.is_some());
        drop((second, third));
        assert_eq!(shares.len(), 0);
    }

    #[test]
    fn zero_is_no_limit() {
        let shares = Shares::new(0);
        let taken: Vec<_> = (0..1_000).map(|_| shares.take(&1)).collect();
        assert!(taken.iter().all(Option::is_some));
    }
}
