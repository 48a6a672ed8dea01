//! One order with one kind of challenge, from the authority's first answer to the chain.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeStatus, Error, OrderStatus,
};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use super::{
    Acme, AcmeConfig, Certified, Failure,
    account::Session,
    chains,
    challenges::{self, DnsRecord, Kind, Pending, Presented},
    failure,
    issue::Order,
    orders::Wanted,
};
use crate::storage::Storage;

/// More attempts where the authority did not like a nonce.
pub(super) const NONCE_TRIES: u32 = 12;
const FIRST_POLL: Duration = Duration::from_millis(250);
const LAST_POLL: Duration = Duration::from_secs(5);
/// How long validation, and then signing, may take.
const POLL_LIMIT: Duration = Duration::from_secs(180);

/// Does an operation again while the answer is badNonce.
macro_rules! tries {
    ($operation:expr) => {{
        let mut left = NONCE_TRIES;
        loop {
            match $operation {
                Err(Error::Api(ref problem)) if left > 0 && failure::is(problem, "badNonce") => {
                    left -= 1;
                }
                other => break other,
            }
        }
    }};
}

/// What an attempt works with.
pub(super) struct Attempt<'a> {
    pub(super) acme: &'a Acme,
    pub(super) config: &'a AcmeConfig,
    pub(super) directory: &'a str,
    pub(super) order: &'a Order,
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) session: &'a Session,
    pub(super) kind: Kind,
    /// The leaf that is replaced.
    pub(super) replaces: Option<&'a [u8]>,
}

/// What makes a challenge answerable while it is there.
enum Solution {
    Shown(Presented),
    Dns(DnsRecord),
}

impl Attempt<'_> {
    pub(super) async fn run(&self) -> Result<Certified, Failure> {
        let mut order = self.new_order().await?;
        self.authorize(&mut order).await?;
        self.wait_ready(&mut order).await?;
        tracing::info!(
            target: "tls.issuance.acme.acme_client",
            order = order.url(),
            "validations succeeded; finalizing order"
        );
        self.finalize(&mut order).await?;
        let chain = self.download(&mut order).await?;
        let url = order.state().certificate.clone().unwrap_or_default();
        let chain = chains::preferred(self.config, self.session, &url, chain).await;
        tracing::info!(
            target: "tls.issuance.acme.acme_client",
            first_url = url,
            "successfully downloaded available certificate chains"
        );
        let renewal_info = self.acme.first_renewal_info(self.config, self.directory, &chain).await;
        Ok(Certified {
            chain,
            url,
            directory: self.directory.to_owned(),
            account: self.session.account.id().to_owned(),
            renewal_info,
        })
    }

    fn failed(&self, error: &Error) -> Failure {
        Failure::of(error, self.session.transport.take_retry_after())
    }

    async fn new_order(&self) -> Result<instant_acme::Order, Failure> {
        self.check_profile()?;
        let leaf = self.replaces.map(CertificateDer::from);
        let id = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
        let wanted = Wanted {
            name: &self.order.name,
            profile: &self.config.profile,
            lifetime: self.config.lifetime,
            replaces: id.map(|id| id.to_string()),
        };
        let created = self.acme.lost_orders.create(self.session, self.directory, &wanted).await;
        let mut order = created.map_err(|error| {
            let failure = self.failed(&error).while_doing("creating new order");
            let bad_replaces = failure.bad_replaces && self.replaces.is_some();
            Failure { bad_replaces, ..failure }
        })?;
        match order.state().status {
            OrderStatus::Invalid => Err(invalid(&mut order)),
            _ => Ok(order),
        }
    }

    /// Authorities pass over profiles that they do not know, and would give a certificate that
    /// nobody wanted.
    fn check_profile(&self) -> Result<(), Failure> {
        let wanted = self.config.profile.as_str();
        let mut known = self.session.account.profiles();
        if wanted.is_empty() || known.any(|profile| profile.name == wanted) {
            return Ok(());
        }
        let known: Vec<&str> = self.session.account.profiles().map(|one| one.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
        Err(Failure::new(format!("unknown profile name '{wanted}'; supported profiles: {known}")))
    }

    /// Shows control of the names that are not known to be ours yet.
    async fn authorize(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let solution = self.begin(order).await?;
        let Some(solution) = solution else { return Ok(()) };
        let result = self.wait_valid(order).await;
        match solution {
            Solution::Shown(shown) => drop(shown),
            Solution::Dns(record) => record.remove().await,
        }
        if result.is_ok() {
            self.acme.learned.worked(self.kind);
        }
        result
    }

    /// Sets up the challenge and tells the authority; none where there is nothing to show.
    async fn begin(&self, order: &mut instant_acme::Order) -> Result<Option<Solution>, Failure> {
        let name = &self.order.name;
        let mut left = NONCE_TRIES;
        let (pending, value) = loop {
            let mut all = order.authorizations();
            let mut authorization = match all.next().await {
                Some(Err(Error::Api(problem))) if left > 0 && failure::is(&problem, "badNonce") => {
                    left -= 1;
                    continue;
                }
                Some(Err(error)) => {
                    return Err(self.failed(&error).while_doing("getting authorization"));
                }
                Some(Ok(authorization)) => authorization,
                None => return Err(Failure::new("the order has no authorizations")),
            };
            if authorization.status == AuthorizationStatus::Valid {
                return Ok(None);
            }
            let offered: Vec<String> = authorization
                .challenges
                .iter()
                .map(|challenge| format!("{:?}", challenge.r#type))
                .collect();
            let Some(challenge) = authorization.challenge(self.kind.acme()) else {
                let (kind, offered) = (self.kind.name(), offered.join(" "));
                let text = format!("{name}: {kind} is not offered (offered: {offered})");
                return Err(Failure::refused(text));
            };
            let key = challenge.key_authorization();
            let pending = Pending {
                kind: self.kind.name().to_owned(),
                url: challenge.url.clone(),
                status: "pending".to_owned(),
                token: challenge.token.clone(),
                key_authorization: key.as_str().to_owned(),
                identifier: challenges_identifier(name),
            };
            break (pending, key.dns_value());
        };
        tracing::info!(
            target: "tls.issuance.acme.acme_client",
            identifier = name,
            challenge_type = self.kind.name(),
            ca = self.directory,
            "trying to solve challenge"
        );
        let solution = match (&self.config.dns, self.kind) {
            (Some(dns), Kind::Dns01) => {
                let record =
                    DnsRecord::present(&self.acme.challenges.records, dns, name, value).await;
                Solution::Dns(
                    record.map_err(|failure| failure.while_doing("presenting for challenge"))?,
                )
            }
            (None, Kind::Dns01) => return Err(Failure::new("no DNS provider")),
            (_, kind) => {
                let shown = self
                    .acme
                    .challenges
                    .present(kind, pending, self.config, self.directory, self.storage)
                    .await;
                Solution::Shown(
                    shown.map_err(|failure| failure.while_doing("presenting for challenge"))?,
                )
            }
        };
        if let Err(failure) = self.set_ready(order).await {
            if let Solution::Dns(record) = solution {
                record.remove().await;
            }
            return Err(failure);
        }
        Ok(Some(solution))
    }

    async fn set_ready(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let ready = tries!({
            let mut all = order.authorizations();
            match all.next().await {
                Some(Ok(mut authorization)) => match authorization.challenge(self.kind.acme()) {
                    Some(mut challenge) => challenge.set_ready().await,
                    None => Ok(()),
                },
                Some(Err(error)) => Err(error),
                None => Ok(()),
            }
        });
        match ready {
            Ok(()) => Ok(()),
            // Where the answer was lost, it has begun, and does not want to hear of it again.
            Err(Error::Api(_)) if self.has_begun(order).await => Ok(()),
            // The authority has looked at once and refuses.
            Err(Error::Api(problem)) if !failure::is(&problem, "rateLimited") => {
                Err(Failure::refused_for(&problem, self.kind))
            }
            Err(error) => Err(self.failed(&error).while_doing("initiating challenge")),
        }
    }

    /// Whether the authority works on the challenge, or is done with it and satisfied.
    async fn has_begun(&self, order: &mut instant_acme::Order) -> bool {
        let begun = tries!({
            let mut all = order.authorizations();
            match all.next().await {
                Some(Ok(mut authorization)) => {
                    authorization.refresh().await.map(|state| has_begun(state, self.kind))
                }
                Some(Err(error)) => Err(error),
                None => Ok(false),
            }
        });
        begun.unwrap_or(false)
    }

    /// Waits until the authority has made up its mind about the name.
    async fn wait_valid(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let mut poll = Poll::new();
        while poll.wait().await {
            let seen = tries!({
                let mut all = order.authorizations();
                match all.next().await {
                    Some(Ok(mut authorization)) => {
                        authorization.refresh().await.map(|state| verdict(state, self.kind))
                    }
                    Some(Err(error)) => Err(error),
                    None => Ok(Verdict::Valid),
                }
            });
            let seen =
                seen.map_err(|error| self.failed(&error).while_doing("polling authorization"))?;
            match seen {
                Verdict::Valid => return Ok(()),
                Verdict::Pending => {}
                Verdict::Invalid(failure) => return Err(failure),
            }
        }
        Err(Failure::refused("authorization took too long"))
    }

    async fn wait_ready(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let mut poll = Poll::new();
        loop {
            let state = tries!(order.refresh().await.map(|_| ()));
            state.map_err(|error| self.failed(&error).while_doing("polling order"))?;
            let state = order.state();
            match state.status {
                OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing => return Ok(()),
                OrderStatus::Invalid => return Err(invalid(order)),
                OrderStatus::Pending => {}
            }
            if !poll.wait().await {
                return Err(Failure::new("the order did not become ready in time"));
            }
        }
    }

    /// Asks for the certificate. Where the answer was lost and the request came again, the authority
    /// says that the order is not ready (any more), and has the certificate or makes it.
    async fn finalize(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let Err(error) = tries!(order.finalize_csr(&self.order.csr).await) else { return Ok(()) };
        let is_under_way =
            tries!(order.refresh().await.map(|state| {
                matches!(state.status, OrderStatus::Processing | OrderStatus::Valid)
            }));
        match is_under_way {
            Ok(true) => Ok(()),
            _ => Err(self.failed(&error).while_doing("finalizing order")),
        }
    }

    async fn download(&self, order: &mut instant_acme::Order) -> Result<String, Failure> {
        let mut poll = Poll::new();
        loop {
            match tries!(order.certificate().await) {
                Ok(Some(chain)) => return Ok(chain),
                Ok(None) => {}
                // Some authorities leave the order in `ready` for a moment.
                Err(Error::Str(_)) if order.state().status == OrderStatus::Ready => {
                    let refreshed = tries!(order.refresh().await.map(|_| ()));
                    refreshed.map_err(|error| self.failed(&error).while_doing("polling order"))?;
                }
                Err(error) => {
                    return Err(self.failed(&error).while_doing("downloading certificate"));
                }
            }
            if !poll.wait().await {
                return Err(Failure::new("the certificate was not signed in time"));
            }
        }
    }
}

/// Why an order came to nothing.
fn invalid(order: &mut instant_acme::Order) -> Failure {
    order.state().error.as_ref().map_or_else(
        || Failure::new("order is invalid"),
        |problem| Failure::for_problem(problem, None),
    )
}

fn challenges_identifier(name: &str) -> challenges::Identifier {
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    challenges::Identifier {
        kind: kind.to_owned(),
        value: name.strip_prefix("*.").unwrap_or(name).to_owned(),
    }
}

fn has_begun(state: &instant_acme::AuthorizationState, kind: Kind) -> bool {
    let challenge = state.challenges.iter().find(|challenge| challenge.r#type == kind.acme());
    state.status == AuthorizationStatus::Valid
        || challenge.is_some_and(|challenge| {
            matches!(challenge.status, ChallengeStatus::Processing | ChallengeStatus::Valid)
        })
}

enum Verdict {
    Valid,
    Pending,
    Invalid(Failure),
}

fn verdict(state: &instant_acme::AuthorizationState, kind: Kind) -> Verdict {
    match state.status {
        AuthorizationStatus::Valid => Verdict::Valid,
        AuthorizationStatus::Pending => Verdict::Pending,
        status => {
            let challenge =
                state.challenges.iter().find(|challenge| challenge.r#type == kind.acme());
            let reason = challenge.and_then(|challenge| challenge.error.as_ref());
            let unknown = || format!("authorization is {status:?}").to_lowercase();
            Verdict::Invalid(reason.map_or_else(
                || Failure::refused(unknown()),
                |problem| Failure::refused_for(problem, kind),
            ))
        }
    }
}

/// Waits that grow, up to a limit.
struct Poll {
    next: Duration,
    deadline: Instant,
}

impl Poll {
    fn new() -> Self {
        Self { next: FIRST_POLL, deadline: Instant::now() + POLL_LIMIT }
    }

    async fn wait(&mut self) -> bool {
        if Instant::now() + self.next > self.deadline {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = self.next.mul_f32(1.5).min(LAST_POLL);
        true
    }
}
