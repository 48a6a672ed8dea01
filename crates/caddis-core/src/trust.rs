//! Pools of authorities that handlers trust, by their config: a module wants a pool when it
//! compiles, bind loads it (from files, storage, the local authorities), the module reads it when
//! it runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::Value as Json;

/// A pool that somebody wants.
#[derive(Debug)]
pub struct TrustPool {
    /// The pool's module (`tls.ca_pool.source.*`, key `provider`).
    pub config: Json,
    certificates: OnceLock<Vec<Vec<u8>>>,
}

impl TrustPool {
    /// The certificates, DER; empty until bind has loaded them.
    pub fn certificates(&self) -> &[Vec<u8>] {
        self.certificates.get().map_or(&[], Vec::as_slice)
    }

    /// Puts the certificates in; only the first call counts.
    pub fn fill(&self, certificates: Vec<Vec<u8>>) {
        // A pool that was filled is in use already.
        let _ = self.certificates.set(certificates);
    }
}

/// The pools that are not loaded yet; a single value of `State`.
#[derive(Debug, Default)]
pub struct TrustPools(Mutex<Vec<Weak<TrustPool>>>);

impl TrustPools {
    /// Asks for a pool.
    pub fn want(&self, config: Json) -> Arc<TrustPool> {
        let pool = Arc::new(TrustPool { config, certificates: OnceLock::new() });
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.push(Arc::downgrade(&pool));
        pool
    }

    /// Those that were wanted since the last call, and still are.
    pub fn take(&self) -> Vec<Arc<TrustPool>> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.drain(..).filter_map(|pool| pool.upgrade()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_is_still_wanted() {
        let pools = TrustPools::default();
        let kept = pools.want(Json::Null);
        drop(pools.want(Json::Null));
        let taken = pools.take();
        assert_eq!((taken.len(), pools.take().len()), (1, 0));
        assert!(kept.certificates().is_empty());
        taken[0].fill(vec![vec![1]]);
        taken[0].fill(vec![]);
        assert_eq!(kept.certificates(), [[1]]);
    }
}
