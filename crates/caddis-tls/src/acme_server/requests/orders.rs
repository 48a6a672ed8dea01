//! Orders, authorizations, challenges, certificates and their revocation.

use rcgen::SubjectPublicKeyInfo;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::prelude::{FromDer, X509Certificate};

use http::header;

use super::{AccountChange, Client, Cx, Reply, payload};
use crate::{
    acme_server::{
        Bound,
        book::{Identifier, Kind, Task, Wish},
        csr::Csr,
        jws::{self, Jwk, Jws},
        problem::Problem,
    },
    automate::qualifies,
    certificate::{Facts, parse_chain},
    pki::LeafRequest,
    timestamp::{self, Timestamp},
};

/// Limits of lifetimes, seconds (D024).
const MIN_LIFETIME: i64 = 5 * 60;
const MAX_LIFETIME: i64 = 365 * 24 * 60 * 60;
const MAX_IDENTIFIERS: usize = 100;
/// Seconds of difference between clocks.
const SKEW: i64 = 60;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewOrder {
    identifiers: Vec<WantedIdentifier>,
    #[serde(default)]
    not_before: Option<String>,
    #[serde(default)]
    not_after: Option<String>,
}

#[derive(Deserialize)]
struct WantedIdentifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

#[derive(Deserialize)]
struct Revoke {
    certificate: String,
    #[serde(default)]
    reason: Option<u64>,
}

impl Cx {
    pub(super) fn new_order(&self, client: &Client, jws: &Jws) -> Result<Reply, Problem> {
        let wish: NewOrder = payload(jws)?;
        if wish.identifiers.is_empty() || wish.identifiers.len() > MAX_IDENTIFIERS {
            let detail = format!("an order is for 1 to {MAX_IDENTIFIERS} identifiers");
            return Err(Problem::malformed(detail));
        }
        let mut identifiers = Vec::with_capacity(wish.identifiers.len());
        for wanted in &wish.identifiers {
            let identifier = identifier(wanted)?;
            if !self.server.settings.policy.allows(&identifier) {
                let detail = format!("{} is not allowed by the policy", identifier.text());
                return Err(Problem::new(403, "rejectedIdentifier", detail));
            }
            identifiers.push(identifier);
        }
        identifiers.sort_unstable();
        identifiers.dedup();
        let not_after = wish.not_after.as_deref().map(date).transpose()?;
        if let Some(at) = not_after
            && !(MIN_LIFETIME - SKEW..=MAX_LIFETIME + SKEW).contains(&(at - self.now))
        {
            return Err(Problem::malformed("notAfter has to be within 5 minutes and 365 days"));
        }
        if let Some(from) = wish.not_before.as_deref().map(date).transpose()?
            && from > self.now + SKEW
        {
            return Err(Problem::malformed("notBefore cannot be in the future"));
        }
        let kinds = self.server.settings.kinds.clone();
        let wish = Wish { identifiers, not_after, kinds };
        let id = self.server.memory.book().enter(&client.id, wish, self.now)?;
        self.order(&id, client, 201)
    }

    pub(super) fn order(&self, id: &str, client: &Client, status: u16) -> Result<Reply, Problem> {
        let book = self.server.memory.book();
        let json = book.order_json(id, &client.id, (&self.base, self.now))?;
        let reply =
            Reply::json(status, &json).with(header::LOCATION, format!("{}order/{id}", self.base));
        let waits = json.get("status").is_some_and(|status| status == "processing");
        Ok(if waits { reply.with(header::RETRY_AFTER, "1".to_owned()) } else { reply })
    }

    pub(super) fn authorization(
        &self,
        id: &str,
        client: &Client,
        jws: &Jws,
    ) -> Result<Reply, Problem> {
        let mut book = self.server.memory.book();
        if !jws.payload.is_empty() {
            let change: AccountChange = payload(jws)?;
            if change.status.as_deref() != Some("deactivated") {
                return Err(Problem::malformed("status can only become deactivated"));
            }
            book.deactivate(id, &client.id)?;
        }
        Ok(Reply::json(200, &book.authorization_json(id, &client.id, &self.base)?))
    }

    pub(super) fn challenge(
        &self,
        bound: &Bound,
        place: (&str, Kind),
        client: &Client,
        jws: &Jws,
    ) -> Result<Reply, Problem> {
        let mut book = self.server.memory.book();
        if !jws.payload.is_empty() {
            let _: Json = payload(jws)?;
            if let Some(task) = book.begin(place, &client.id, self.now)? {
                let (server, validator) = (self.server.clone(), bound.validator.clone());
                let thumbprint = client.key.thumbprint();
                tokio::spawn(async move {
                    let result = validator.validate(&task, &thumbprint).await;
                    tell(&task, &result);
                    server.memory.book().validated(&task, result, timestamp::now());
                });
            }
        }
        let json = book.challenge_json(place, &client.id, &self.base)?;
        let up = format!("<{}authz/{}>;rel=\"up\"", self.base, place.0);
        Ok(Reply::json(200, &json).with(header::LINK, up))
    }

    pub(super) async fn finalize(
        &self,
        bound: &Bound,
        id: &str,
        client: &Client,
        jws: &Jws,
    ) -> Result<Reply, Problem> {
        let wish: Finalize = payload(jws)?;
        let csr = Csr::parse(&jws::decode(&wish.csr, "csr")?)?;
        if csr.jwk.as_ref() == Some(&client.key) {
            return Err(Problem::new(400, "badCSR", "the account's key cannot be certified"));
        }
        let not_after = self.server.memory.book().issue(id, &client.id, &csr.names, self.now)?;
        let names = csr.names.iter().map(Identifier::text).collect();
        let settings = &self.server.settings;
        let lifetime = match not_after {
            Some(at) => at.saturating_sub(self.now),
            None => i64::try_from(settings.lifetime.as_secs()).unwrap_or(i64::MAX),
        };
        let sign_with_root = settings.sign_with_root;
        let request = LeafRequest { names, lifetime, sign_with_root };
        let (server, pki) = (self.server.clone(), bound.pki.clone());
        let (order, now, key) = (id.to_owned(), self.now, csr.key);
        // It comes to its end even if the client goes away meanwhile.
        let work = tokio::task::spawn_blocking(move || {
            let authority = pki.authority(&server.settings.ca, now);
            let result = authority.and_then(|ca| issue(&ca, &request, &key, now));
            match &result {
                Ok(_) => tracing::info!(
                    target: "http.handlers.acme_server",
                    ca = server.settings.ca,
                    names = ?request.names,
                    "issued certificate"
                ),
                Err(error) => tracing::error!(
                    target: "http.handlers.acme_server",
                    ca = server.settings.ca,
                    names = ?request.names,
                    %error,
                    "issuing certificate"
                ),
            }
            let failed = |_| Problem::internal("the certificate could not be issued");
            server.memory.book().issued(&order, result.map_err(failed));
        });
        work.await.map_err(|error| Problem::internal(error.to_string()))?;
        self.order(id, client, 200)
    }

    pub(super) fn revoke(&self, jws: &Jws, by: Result<&str, &Jwk>) -> Result<Reply, Problem> {
        let wish: Revoke = payload(jws)?;
        if wish.reason.is_some_and(|reason| reason > 10 || reason == 7) {
            return Err(Problem::new(400, "badRevocationReason", "the reason is not known"));
        }
        let der = jws::decode(&wish.certificate, "certificate")?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|error| Problem::malformed(format!("malformed certificate: {error}")))?;
        let account = match by {
            Ok(account) => Some(account),
            Err(key) if Jwk::of_certificate(certificate.public_key()).as_ref() == Some(key) => None,
            Err(_) => return Err(Problem::unauthorized("the key is not the certificate's")),
        };
        self.server.memory.book().revoke(&Sha256::digest(&der).into(), account)?;
        tracing::info!(
            target: "http.handlers.acme_server",
            ca = self.server.settings.ca,
            serial = certificate.raw_serial_as_string(),
            "revoked certificate"
        );
        Ok(Reply::empty(200))
    }
}

fn tell(task: &Task, result: &Result<(), Problem>) {
    let (identifier, challenge) = (task.identifier.text(), task.kind.name());
    match result {
        Ok(()) => tracing::info!(
            target: "http.handlers.acme_server",
            identifier,
            challenge,
            "challenge is met"
        ),
        Err(problem) => tracing::warn!(
            target: "http.handlers.acme_server",
            identifier,
            challenge,
            error = problem.detail,
            "challenge is not met"
        ),
    }
}

fn issue(
    ca: &crate::pki::Ca,
    request: &LeafRequest,
    key: &SubjectPublicKeyInfo,
    now: Timestamp,
) -> crate::error::Result<(String, [u8; 32], Timestamp)> {
    let issued = ca.issue(request, key, now)?;
    let chain = parse_chain(issued.chain_pem.as_bytes())?;
    let leaf = chain.first().ok_or_else(|| crate::error::Error::new("empty chain"))?;
    let not_after = Facts::parse(leaf)?.not_after;
    Ok((issued.chain_pem, Sha256::digest(leaf).into(), not_after))
}

fn identifier(wanted: &WantedIdentifier) -> Result<Identifier, Problem> {
    let value = wanted.value.as_str();
    match wanted.kind.as_str() {
        "ip" => value
            .parse()
            .map(Identifier::Ip)
            .map_err(|_| Problem::malformed(format!("{value:?} is no address"))),
        "dns" => {
            let name = value.to_ascii_lowercase();
            let bare = name.strip_prefix("*.").unwrap_or(&name);
            let labels = bare.split('.').all(|label| !label.is_empty() && label.len() < 64);
            if !qualifies(bare) || !labels || !bare.is_ascii() || bare.contains([':', ',']) {
                let detail = format!("{value:?} is no name of a host");
                return Err(Problem::new(400, "rejectedIdentifier", detail));
            }
            Ok(Identifier::Dns(name))
        }
        kind => {
            let detail = format!("identifiers of type {kind:?} are not supported");
            Err(Problem::new(400, "unsupportedIdentifier", detail))
        }
    }
}

fn date(text: &str) -> Result<Timestamp, Problem> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    parsed
        .map(OffsetDateTime::unix_timestamp)
        .map_err(|_| Problem::malformed(format!("{text:?} is no date as of RFC 3339")))
}
