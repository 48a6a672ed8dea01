//! On-demand certificates: which names may get one during a handshake, and who is asked.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

use super::manager::{Issuer, ManagedSubject};
use crate::{
    getters::CertGetter,
    index::{normalized, wildcards},
    key::KeyType,
    storage::OtherStorage,
};

/// The answer to whether a name may get a certificate, to be awaited.
pub type PermissionFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Asks whether a name may get a certificate (`ask`, permission modules).
#[derive(Clone)]
pub struct Permission(Arc<dyn Fn(String) -> PermissionFuture + Send + Sync>);

impl Permission {
    /// A permission from a function.
    pub fn new<F>(ask: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |name| Box::pin(ask(name))))
    }

    pub(crate) fn ask(&self, name: &str) -> PermissionFuture {
        (self.0)(name.to_owned())
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permission")
    }
}

/// An automation policy with `on_demand`.
#[derive(Debug, Clone)]
pub struct OnDemandPolicy {
    /// The subjects it is for, with wildcards; all if empty.
    pub subjects: Vec<String>,
    /// Issuers in order.
    pub issuers: Vec<Issuer>,
    /// The kind of keys.
    pub key_type: KeyType,
    /// Keep the key at renewal.
    pub reuse_private_keys: bool,
    /// Share of the lifetime left at which to renew; 0 for the default.
    pub renewal_window_ratio: f64,
    /// Ask for the must-staple extension.
    pub must_staple: bool,
    /// Where they are kept, if not where the others are.
    pub storage: Option<OtherStorage>,
    /// Who is asked first; nobody if absent.
    pub permission: Option<Permission>,
    /// Sources that are asked before an own certificate is thought of.
    pub getters: Vec<CertGetter>,
    /// Names of policies without `on_demand` that stand before this one, which therefore is not
    /// the one for them (spec T055).
    pub taken: Taken,
}

/// Subjects that other policies have.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The first policy that has the subject, by its place among all.
    first: Arc<HashMap<String, usize>>,
    /// The place of the policy in question.
    at: usize,
}

impl Taken {
    /// Of policies by their places, with the subjects of each.
    pub fn new<'a>(policies: impl Iterator<Item = (usize, &'a [String])>) -> Self {
        let mut first = HashMap::new();
        for (at, subjects) in policies {
            for subject in subjects {
                first.entry(normalized(subject)).or_insert(at);
            }
        }
        Self { first: Arc::new(first), at: 0 }
    }

    /// By those before this place.
    #[must_use]
    pub fn before(&self, at: usize) -> Self {
        Self { first: self.first.clone(), at }
    }

    fn has(&self, name: &str) -> bool {
        if self.first.is_empty() {
            return false;
        }
        let is_before = |name: &str| self.first.get(name).is_some_and(|at| *at < self.at);
        is_before(name) || wildcards(name).any(|candidate| is_before(&candidate))
    }
}

/// Why a name gets no certificate during a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDemandError {
    /// No policy has the name, or it is no name for certificates.
    NotAllowed,
    /// The permission was not given.
    Denied(String),
    /// The attempt failed.
    Failed(String),
}

impl fmt::Display for OnDemandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("no on-demand policy for this name"),
            Self::Denied(reason) => {
                write!(f, "certificate is not allowed for server name: {reason}")
            }
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for OnDemandError {}

impl OnDemandPolicy {
    pub(super) fn covers(&self, name: &str) -> bool {
        let has = |subject: &String| {
            let subject = normalized(subject);
            subject == name || wildcards(name).any(|candidate| candidate == subject)
        };
        (self.subjects.is_empty() || self.subjects.iter().any(has)) && !self.taken.has(name)
    }

    pub(super) fn subject(&self, name: &str) -> ManagedSubject {
        ManagedSubject {
            name: name.to_owned(),
            issuers: self.issuers.clone(),
            key_type: self.key_type,
            reuse_private_keys: self.reuse_private_keys,
            renewal_window_ratio: self.renewal_window_ratio,
            must_staple: self.must_staple,
            storage: self.storage.clone(),
        }
    }
}

/// Whether a client may ask for a name: one of hosts, or an address. The underscore of service names
/// is not in names of hosts, and neither authorities nor Caddy take it here.
pub(super) fn may_be_asked(name: &str) -> bool {
    qualifies(name)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte))
}

/// Whether a name can be in a certificate at all (T106).
pub(crate) fn qualifies(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains(|c: char| "()[]{}<> \t\n\"\\!@#$%^&|;'+=*/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::{Taken, may_be_asked, qualifies};

    #[test]
    fn names_of_earlier_policies_are_taken() {
        let subjects = [vec!["A.test".to_owned()], vec!["*.b.test".to_owned()]];
        let taken = Taken::new(subjects.iter().enumerate().map(|(at, all)| (at, all.as_slice())));
        for (name, at, want) in [
            ("a.test", 0, false),
            ("a.test", 1, true),
            ("x.a.test", 9, false),
            ("x.b.test", 1, false),
            ("x.b.test", 2, true),
            ("", 9, false),
        ] {
            assert_eq!(taken.before(at).has(name), want, "{name} {at}");
        }
    }

    #[test]
    fn names_that_clients_may_ask_for() {
        for (name, want) in
            [("a-b.test", true), ("::1", true), ("a_b.test", false), ("\u{fc}.test", false)]
        {
            assert_eq!(may_be_asked(name), want, "{name}");
        }
    }

    #[test]
    fn names_that_qualify() {
        for (name, want) in [
            ("a.test", true),
            ("localhost", true),
            ("127.0.0.1", true),
            ("", false),
            (".a", false),
            ("a.", false),
            ("*.a.test", false),
            ("a b", false),
            ("../x", false),
        ] {
            assert_eq!(qualifies(name), want, "{name}");
        }
    }
}
