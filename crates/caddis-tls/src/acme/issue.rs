//! A certificate from one issuer: the right authority for the attempt, the account, the challenges
//! one after the other, the chain.

use std::{sync::Arc, time::Duration};

use super::{Acme, AcmeConfig, Failure, account::Session, ari::RenewalInfo};
use crate::storage::Storage;

/// Longest time for one certificate where the settings name none.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The name.
    pub(crate) name: String,
    /// The signing request, DER.
    pub(crate) csr: Vec<u8>,
    /// Attempts that failed before this one.
    pub(crate) failures: u32,
    /// The certificate that is replaced: its directory and leaf, DER.
    pub(crate) replaces: Option<(String, Vec<u8>)>,
}

/// What an authority gave.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    /// The chain, PEM.
    pub(crate) chain: String,
    /// The certificate's URL.
    pub(crate) url: String,
    /// The directory.
    pub(crate) directory: String,
    /// The account's URL.
    pub(crate) account: String,
    /// When it is to be renewed, where the authority has an opinion.
    pub(crate) renewal_info: Option<RenewalInfo>,
}

impl Acme {
    /// Gets a certificate. After a failure the test endpoint is tried first, so that the real one's
    /// limits are not used up (T082).
    pub(crate) async fn issue(
        &self,
        config: &AcmeConfig,
        order: &Order,
        storage: &Arc<dyn Storage>,
    ) -> Result<Certified, Failure> {
        // Nobody has to be asked to know that nothing can come of it.
        if self.learned.kinds(config, &order.name).is_empty() {
            return Err(no_challenge(&order.name));
        }
        let limit = config.timeout.unwrap_or(LIMIT);
        let work = async {
            let test = &config.test_directory;
            if order.failures > 0 && !test.is_empty() && *test != config.directory {
                self.at(config, test, order, storage).await?;
            }
            self.at(config, &config.directory, order, storage).await
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let failure = Failure::new("timeout while talking to the authority");
                Err(failure.remedied(super::failure::UNREACHABLE))
            }
        }
    }

    async fn at(
        &self,
        config: &AcmeConfig,
        directory: &str,
        order: &Order,
        storage: &Arc<dyn Storage>,
    ) -> Result<Certified, Failure> {
        let session = self.session(config, directory, storage).await?;
        let result = self.with_session(config, directory, order, storage, &session).await;
        match result {
            Err(failure) if failure.no_account => {
                self.forget(config, directory, storage).await;
                let session = self.session(config, directory, storage).await?;
                self.with_session(config, directory, order, storage, &session).await
            }
            Err(failure) => {
                // The next attempt reads the directory anew.
                self.close(config, directory).await;
                Err(failure)
            }
            Ok(certified) => Ok(certified),
        }
    }

    async fn with_session(
        &self,
        config: &AcmeConfig,
        directory: &str,
        order: &Order,
        storage: &Arc<dyn Storage>,
        session: &Session,
    ) -> Result<Certified, Failure> {
        let kinds = self.learned.kinds(config, &order.name);
        if kinds.is_empty() {
            return Err(no_challenge(&order.name));
        }
        let mut replaces = order.replaces.as_ref().filter(|(ca, _)| ca == directory);
        let mut last = Failure::default();
        let mut kinds = kinds.into_iter().peekable();
        while let Some(&kind) = kinds.peek() {
            tracing::info!(
                target: "tls.issuance.acme",
                identifier = order.name,
                account = config.email,
                "waiting on internal rate limiter"
            );
            self.limits.wait(directory, &config.email).await;
            let attempt = super::order::Attempt {
                acme: self,
                config,
                directory,
                order,
                storage,
                session,
                kind,
                replaces: replaces.map(|(_, leaf)| leaf.as_slice()),
            };
            match attempt.run().await {
                Ok(certified) => return Ok(certified),
                Err(failure) if failure.bad_replaces && replaces.is_some() => replaces = None,
                Err(failure) if failure.refused => {
                    tracing::error!(
                        target: "tls.issuance.acme.acme_client",
                        identifier = order.name,
                        challenge_type = kind.name(),
                        error = %failure,
                        "challenge failed"
                    );
                    last = failure;
                    kinds.next();
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }
}

fn no_challenge(name: &str) -> Failure {
    let (text, remedy) = if name.starts_with("*.") {
        (
            "wildcard names need the DNS challenge",
            "give the site a DNS provider (`tls { dns PROVIDER … }`), or write its names one by one",
        )
    } else {
        ("all challenges are disabled", "enable a challenge of the issuer, or give it `dns`")
    };
    Failure::new(format!("no solvers available for {name}: {text}")).remedied(remedy)
}
