//! Handles of metrics whose labels are known only when something happens. Making one looks the metric up by all its labels, which
//! takes longer than what is counted; so each is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// The handles of one metric, by its labels. As many as there are combinations of labels, so these must be few.
pub(crate) struct Handles<K, H>(RwLock<HashMap<K, H>>);

impl<K, H> Default for Handles<K, H> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Hash + Eq + Clone, H: Clone> Handles<K, H> {
    /// The handle for these labels; `make` makes it the first time.
    pub(crate) fn get(&self, labels: &K, make: impl FnOnce(&K) -> H) -> H {
        if let Some(handle) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return handle.clone();
        }
        let mut handles = self.0.write().unwrap_or_else(PoisonError::into_inner);
        handles.entry(labels.clone()).or_insert_with(|| make(labels)).clone()
    }
}
