//! Certificates of this server that handlers show to others, by name: a module wants one when it
//! compiles, the certificate manager takes care of the name, and bind says where to find it.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

/// A certificate with its key, of a type that finder and user agree on.
pub type Found = Arc<dyn Any + Send + Sync>;

/// Finds the certificates of a name that are good now, the best one first.
pub type Finder = Arc<dyn Fn(&str) -> Vec<Found> + Send + Sync>;

/// A certificate that somebody wants to show.
pub struct ClientIdentity {
    /// The name that is managed.
    pub name: String,
    finder: OnceLock<Finder>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientIdentity {
    /// The certificates that there are; none before bind.
    pub fn find(&self) -> Vec<Found> {
        self.finder.get().map_or_else(Vec::new, |finder| finder(&self.name))
    }

    /// Says where to look; only the first call counts.
    pub fn found_by(&self, finder: Finder) {
        // One that was told is in use already.
        let _ = self.finder.set(finder);
    }
}

/// The identities that were not told yet where to look; a single value of `State`.
#[derive(Debug, Default)]
pub struct ClientIdentities(Mutex<Vec<Weak<ClientIdentity>>>);

impl ClientIdentities {
    /// Asks for an identity.
    pub fn want(&self, name: &str) -> Arc<ClientIdentity> {
        let name = name.to_ascii_lowercase();
        let identity = Arc::new(ClientIdentity { name, finder: OnceLock::new() });
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.push(Arc::downgrade(&identity));
        identity
    }

    /// The names of those that [`Self::take`] would give.
    pub fn names(&self) -> Vec<String> {
        let wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.iter().filter_map(Weak::upgrade).map(|identity| identity.name.clone()).collect()
    }

    /// Those that were wanted since the last call, and still are.
    pub fn take(&self) -> Vec<Arc<ClientIdentity>> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.drain(..).filter_map(|identity| identity.upgrade()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_once_it_was_told_where() {
        let identities = ClientIdentities::default();
        let kept = identities.want("A.test");
        drop(identities.want("b.test"));
        assert_eq!(identities.names(), ["a.test"]);
        assert!(kept.find().is_empty());
        for identity in identities.take() {
            identity.found_by(Arc::new(|name| vec![Arc::new(name.to_owned())]));
        }
        assert_eq!(kept.find()[0].downcast_ref::<String>().expect("a name"), "a.test");
        assert!(identities.names().is_empty());
    }
}
