//! Nonces: each is good for one request (RFC 8555 §6.5).

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use super::random_id;

/// The oldest are forgotten beyond this number; a client asks for another one then.
const MAX: usize = 20_000;

/// The nonces that were given out and not yet used.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<(HashSet<String>, VecDeque<String>)>);

impl Nonces {
    /// A fresh one.
    pub(super) fn give(&self) -> String {
        let nonce = random_id();
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *guard;
        known.insert(nonce.clone());
        order.push_back(nonce.clone());
        while order.len() > MAX {
            if let Some(oldest) = order.pop_front() {
                known.remove(&oldest);
            }
        }
        nonce
    }

    /// Whether a nonce was good; it is not any more.
    pub(super) fn take(&self, nonce: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.remove(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX, Nonces};

    #[test]
    fn each_is_good_once() {
        let nonces = Nonces::default();
        let first = nonces.give();
        assert!(nonces.take(&first) && !nonces.take(&first) && !nonces.take("made up"));
        let old = nonces.give();
        for _ in 0..MAX {
            nonces.give();
        }
        assert!(!nonces.take(&old));
    }
}
