//! What a handshake finds in the place of chance and of its own words while it is begun.
//!
//! rustls knows nothing of hidden hellos for servers. What it has to do otherwise for them, it does
//! by the random numbers, key exchanges and suites of connection policies, which come from here. They
//! are the provider's own unless a stage is set; and one is only set while rustls takes in a hello,
//! which awaits nothing. So it is kept by the thread.

use std::{cell::RefCell, mem};

use rustls::{
    Error, NamedGroup, ProtocolVersion,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SecureRandom, SharedSecret,
        SupportedKxGroup, aws_lc_rs::kx_group,
    },
};

use super::retry::Retry;
use crate::{certificate::provider, policy::P521};

/// The random number of a hello.
pub(super) type Random = [u8; 32];

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// How a handshake is begun.
#[derive(Default)]
pub(super) struct Stage {
    /// The server's random number.
    pub(super) random: Option<Random>,
    /// The groups that may be chosen, where not all may.
    pub(super) groups: Option<Vec<u16>>,
    /// The key exchange, which is kept if it is made.
    pub(super) exchange: Option<Exchange>,
    /// What a client is to be told whose hello could not be opened.
    pub(super) retry: Option<Retry>,
}

/// A key exchange on a stage.
pub(super) enum Exchange {
    /// Is made, and kept.
    Open,
    /// Was made.
    Done(CompletedKeyExchange),
}

/// Runs `begin` on this thread with a stage; gives that back.
pub(super) fn perform<T>(stage: Stage, begin: impl FnOnce() -> T) -> (T, Stage) {
    /// Nothing of it is left when `begin` panics.
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            STAGE.set(None);
        }
    }
    STAGE.set(Some(stage));
    let clear = Clear;
    let done = begin();
    let stage = STAGE.take().unwrap_or_default();
    drop(clear);
    (done, stage)
}

/// Looks at the stage, where there is one.
pub(super) fn on_stage<T>(look: impl FnOnce(&mut Stage) -> Option<T>) -> Option<T> {
    STAGE.with_borrow_mut(|stage| look(stage.as_mut()?))
}

/// The provider's random numbers, or those of the stage.
#[derive(Debug)]
struct StagedRandom;

impl SecureRandom for StagedRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        let staged = on_stage(|stage| {
            let buffer: &mut Random = buffer.try_into().ok()?;
            *buffer = stage.random.take()?;
            Some(())
        });
        match staged {
            Some(()) => Ok(()),
            None => provider().secure_random.fill(buffer),
        }
    }
}

/// A key exchange, or the one of the stage.
#[derive(Debug)]
struct StagedGroup(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for StagedGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.0.start()
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let staged = on_stage(|stage| Some(mem::replace(stage.exchange.as_mut()?, Exchange::Open)));
        match staged {
            None => self.0.start_and_complete(peer),
            Some(Exchange::Done(exchange)) => Ok(exchange),
            Some(Exchange::Open) => {
                let exchange = self.0.start_and_complete(peer)?;
                let kept = CompletedKeyExchange {
                    group: exchange.group,
                    pub_key: exchange.pub_key.clone(),
                    secret: SharedSecret::from(exchange.secret.secret_bytes()),
                };
                on_stage(|stage| stage.exchange.replace(Exchange::Done(kept)));
                Ok(exchange)
            }
        }
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        let name = u16::from(self.0.name());
        let staged = on_stage(|stage| Some(stage.groups.as_ref()?.contains(&name)));
        staged.unwrap_or(true) && self.0.usable_for_version(version)
    }
}

/// Random numbers for connection policies.
pub(crate) static RANDOM: &dyn SecureRandom = &StagedRandom;
/// The key exchanges of connection policies, by the names that Go uses.
pub(crate) static GROUPS: &[(&str, &dyn SupportedKxGroup)] = &[
    ("x25519mlkem768", &StagedGroup(kx_group::X25519MLKEM768)),
    ("x25519", &StagedGroup(kx_group::X25519)),
    ("secp256r1", &StagedGroup(kx_group::SECP256R1)),
    ("secp384r1", &StagedGroup(kx_group::SECP384R1)),
    ("secp521r1", &StagedGroup(&P521)),
];
