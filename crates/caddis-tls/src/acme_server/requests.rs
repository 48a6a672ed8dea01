//! The resources of the server, by path below `<prefix><ca>/`, and what each does.

use std::sync::Arc;

use http::{HeaderName, Method, header};
use rcgen::SubjectPublicKeyInfo;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Server,
    accounts::{Account, Accounts},
    book::{Identifier, Kind, Task, Wish},
    csr::Csr,
    jws::{self, Jwk, Jws},
    problem::Problem,
};
use crate::{
    acme_server::Bound,
    automate::qualifies,
    certificate::{Facts, parse_chain},
    pki::LeafRequest,
    timestamp::{self, Timestamp},
};

/// Limits of lifetimes, seconds (D024).
const MIN_LIFETIME: i64 = 5 * 60;
const MAX_LIFETIME: i64 = 365 * 24 * 60 * 60;
const MAX_IDENTIFIERS: usize = 100;
const MAX_CONTACTS: usize = 10;
/// Seconds of difference between clocks.
const SKEW: i64 = 60;

const JSON: &str = "application/json";

/// What was asked.
pub(super) struct Request {
    pub(super) method: Method,
    /// The path below the authority.
    pub(super) rest: String,
    /// The URL that `rest` is below of.
    pub(super) base: String,
    pub(super) content_type: String,
}

/// What is answered.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Reply {
    fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), content_type: "", body: String::new() }
    }

    fn json(status: u16, json: &Json) -> Self {
        Self { content_type: JSON, body: json.to_string(), ..Self::empty(status) }
    }

    pub(super) fn problem(problem: &Problem) -> Self {
        let reply = Self::json(problem.status, &problem.json());
        Self { content_type: "application/problem+json", ..reply }
    }

    fn with(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Answers a request.
pub(super) async fn answer(server: &Arc<Server>, request: Request, body: &[u8]) -> Reply {
    match request.rest.as_str() {
        "directory" if request.method == Method::GET || request.method == Method::HEAD => {
            return directory(&request.base);
        }
        "new-nonce" if request.method == Method::HEAD => return Reply::empty(200),
        "new-nonce" if request.method == Method::GET => return Reply::empty(204),
        _ => {}
    }
    let Some(bound) = server.bound.get() else {
        return Reply::problem(&Problem::internal("the server is not ready"));
    };
    let cx = Cx {
        server: server.clone(),
        accounts: Accounts { storage: bound.pki.storage(), ca: server.settings.ca.clone() },
        base: request.base.clone(),
        now: timestamp::now(),
    };
    match cx.post(bound, &request, body).await {
        Ok(reply) => reply,
        Err(problem) => {
            tracing::debug!(
                target: "http.handlers.acme_server",
                path = request.rest,
                kind = problem.kind,
                detail = problem.detail,
                "refused"
            );
            Reply::problem(&problem)
        }
    }
}

fn directory(base: &str) -> Reply {
    Reply::json(
        200,
        &json!({
            "newNonce": format!("{base}new-nonce"),
            "newAccount": format!("{base}new-account"),
            "newOrder": format!("{base}new-order"),
            "revokeCert": format!("{base}revoke-cert"),
            "keyChange": format!("{base}key-change"),
        }),
    )
}

/// What the work on one request needs.
struct Cx {
    server: Arc<Server>,
    accounts: Accounts,
    base: String,
    now: Timestamp,
}

/// Who asks: the account's id, the account, and its key.
struct Client {
    id: String,
    account: Account,
    key: Jwk,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct NewAccount {
    contact: Vec<String>,
    only_return_existing: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AccountChange {
    contact: Option<Vec<String>>,
    status: Option<String>,
}

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange {
    account: String,
    old_key: Json,
}

impl Cx {
    async fn post(&self, bound: &Bound, request: &Request, body: &[u8]) -> Result<Reply, Problem> {
        if request.method != Method::POST {
            return Err(Problem::new(405, "malformed", "only signed POST requests are taken here"));
        }
        if request.content_type != "application/jose+json" {
            let detail = "Content-Type has to be application/jose+json";
            return Err(Problem::new(415, "malformed", detail));
        }
        let jws = Jws::parse(body)?;
        let own_key = jws.header.jwk.as_ref().map(Jwk::parse).transpose()?;
        let client = match &own_key {
            Some(key) => {
                jws.verify(key)?;
                None
            }
            None => {
                let client = self.client(&jws).await?;
                jws.verify(&client.key)?;
                Some(client)
            }
        };
        let nonce = jws.header.nonce.as_deref().unwrap_or_default();
        if !self.server.memory.nonces.take(nonce) {
            return Err(Problem::new(400, "badNonce", "the nonce is not known or was used"));
        }
        if jws.header.url != format!("{}{}", self.base, request.rest) {
            return Err(Problem::unauthorized("url of the header is not the one of the request"));
        }
        let mut parts = request.rest.split('/');
        let path = [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
        let last = parts.next();
        match (own_key, client, path, last) {
            (Some(key), None, ["new-account", ""], None) => self.new_account(key, &jws).await,
            (Some(key), None, ["revoke-cert", ""], None) => self.revoke(&jws, Err(&key)),
            (Some(_), ..) => Err(Problem::malformed("kid is wanted here, not jwk")),
            (None, Some(client), path, last) => {
                if !client.account.is_valid() {
                    return Err(Problem::unauthorized("the account is not active"));
                }
                self.signed(bound, &client, &jws, (path, last)).await
            }
            (None, None, ..) => Err(Problem::not_found()),
        }
    }

    /// What an account asks for.
    async fn signed(
        &self,
        bound: &Bound,
        client: &Client,
        jws: &Jws,
        (path, last): ([&str; 2], Option<&str>),
    ) -> Result<Reply, Problem> {
        match (path, last) {
            (["new-account", ""], None) => Err(Problem::malformed("jwk is wanted here, not kid")),
            (["account", id], None) if id == client.id => self.account(client, jws).await,
            (["account", id], Some("orders")) if id == client.id => Ok(self.orders(client)),
            (["account", _], _) => Err(Problem::unauthorized("the account is another one")),
            (["key-change", ""], None) => self.key_change(client, jws).await,
            (["new-order", ""], None) => self.new_order(client, jws),
            (["order", id], None) => self.order(id, client, 200),
            (["order", id], Some("finalize")) => self.finalize(bound, id, client, jws).await,
            (["authz", id], None) => self.authorization(id, client, jws),
            (["challenge", id], Some(kind)) => {
                let kind = Kind::parse(kind).ok_or_else(Problem::not_found)?;
                self.challenge(bound, (id, kind), client, jws)
            }
            (["certificate", id], None) => {
                let chain = self.server.memory.book().chain(id, &client.id)?;
                let kind = "application/pem-certificate-chain";
                Ok(Reply { content_type: kind, body: chain, ..Reply::empty(200) })
            }
            (["revoke-cert", ""], None) => self.revoke(jws, Ok(&client.id)),
            _ => Err(Problem::not_found()),
        }
    }

    /// The account that `kid` names.
    async fn client(&self, jws: &Jws) -> Result<Client, Problem> {
        let unknown = || Problem::new(400, "accountDoesNotExist", "the account is not known");
        let kid = jws.header.kid.as_deref().unwrap_or_default();
        let id = kid.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix("account/"));
        let id = id.ok_or_else(unknown)?.to_owned();
        let asked = id.clone();
        let account = self.stored(move |accounts| accounts.get(&asked)).await?;
        let account = account.ok_or_else(unknown)?;
        let key = Jwk::parse(&account.key)?;
        Ok(Client { id, account, key })
    }

    /// Work with the storage, where it may block.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Accounts) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let accounts = self.accounts.clone();
        let done = tokio::task::spawn_blocking(move || work(&accounts)).await;
        done.map_err(|error| Problem::internal(error.to_string()))?
    }

    async fn new_account(&self, key: Jwk, jws: &Jws) -> Result<Reply, Problem> {
        let wish: NewAccount = payload(jws)?;
        check_contact(&wish.contact)?;
        let (id, account, new) = self
            .stored(move |accounts| {
                if !wish.only_return_existing {
                    return accounts.enter(Account::new(wish.contact, &key), &key);
                }
                let found = accounts.by_key(&key)?;
                found.map(|(id, account)| (id, account, false)).ok_or_else(|| {
                    Problem::new(400, "accountDoesNotExist", "there is no account with this key")
                })
            })
            .await?;
        if !account.is_valid() {
            return Err(Problem::unauthorized("the account is not active"));
        }
        Ok(self.account_reply(&id, &account, if new { 201 } else { 200 }))
    }

    fn account_reply(&self, id: &str, account: &Account, status: u16) -> Reply {
        let url = format!("{}account/{id}", self.base);
        let json = json!({
            "status": account.status,
            "contact": account.contact,
            "orders": format!("{url}/orders"),
        });
        Reply::json(status, &json).with(header::LOCATION, url)
    }

    async fn account(&self, client: &Client, jws: &Jws) -> Result<Reply, Problem> {
        let mut account = client.account.clone();
        if !jws.payload.is_empty() {
            let change: AccountChange = payload(jws)?;
            match change.status.as_deref() {
                None | Some("valid") => {}
                Some("deactivated") => "deactivated".clone_into(&mut account.status),
                Some(_) => return Err(Problem::malformed("status can only become deactivated")),
            }
            if let Some(contact) = change.contact {
                check_contact(&contact)?;
                account.contact = contact;
            }
        }
        if account != client.account {
            let (id, account) = (client.id.clone(), account.clone());
            self.stored(move |accounts| accounts.put(&id, &account)).await?;
        }
        Ok(self.account_reply(&client.id, &account, 200))
    }

    fn orders(&self, client: &Client) -> Reply {
        let book = self.server.memory.book();
        let orders = book.orders_of(&client.id);
        let urls: Vec<String> =
            orders.iter().map(|id| format!("{}order/{id}", self.base)).collect();
        Reply::json(200, &json!({ "orders": urls }))
    }

    /// RFC 8555 §7.3.5: the new key signs for the account, the old one for all of it.
    async fn key_change(&self, client: &Client, jws: &Jws) -> Result<Reply, Problem> {
        let inner = Jws::parse(&jws.payload)?;
        let jwk = inner.header.jwk.as_ref().ok_or_else(|| Problem::malformed("no new key"))?;
        let new = Jwk::parse(jwk)?;
        inner.verify(&new)?;
        let wish: KeyChange = payload(&inner)?;
        if inner.header.url != jws.header.url
            || Some(wish.account.as_str()) != jws.header.kid.as_deref()
            || Jwk::parse(&wish.old_key)? != client.key
        {
            return Err(Problem::malformed("inner and outer part do not belong together"));
        }
        let (id, old) = (client.id.clone(), client.key.clone());
        match self.stored(move |accounts| accounts.change_key(&id, &old, &new)).await? {
            Ok(account) => Ok(self.account_reply(&client.id, &account, 200)),
            Err(other) => {
                let conflict = Problem::new(409, "malformed", "another account has this key");
                let url = format!("{}account/{other}", self.base);
                Ok(Reply::problem(&conflict).with(header::LOCATION, url))
            }
        }
    }

    fn new_order(&self, client: &Client, jws: &Jws) -> Result<Reply, Problem> {
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

    fn order(&self, id: &str, client: &Client, status: u16) -> Result<Reply, Problem> {
        let book = self.server.memory.book();
        let json = book.order_json(id, &client.id, (&self.base, self.now))?;
        let reply =
            Reply::json(status, &json).with(header::LOCATION, format!("{}order/{id}", self.base));
        let waits = json.get("status").is_some_and(|status| status == "processing");
        Ok(if waits { reply.with(header::RETRY_AFTER, "1".to_owned()) } else { reply })
    }

    fn authorization(&self, id: &str, client: &Client, jws: &Jws) -> Result<Reply, Problem> {
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

    fn challenge(
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

    async fn finalize(
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

    fn revoke(&self, jws: &Jws, by: Result<&str, &Jwk>) -> Result<Reply, Problem> {
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

fn payload<T: for<'de> Deserialize<'de>>(jws: &Jws) -> Result<T, Problem> {
    serde_json::from_slice(&jws.payload)
        .map_err(|error| Problem::malformed(format!("payload: {error}")))
}

fn check_contact(contact: &[String]) -> Result<(), Problem> {
    if contact.len() > MAX_CONTACTS {
        return Err(Problem::new(400, "invalidContact", "too many contacts"));
    }
    for url in contact {
        let Some(address) = url.strip_prefix("mailto:") else {
            let detail = format!("{url:?}: only mailto is supported");
            return Err(Problem::new(400, "unsupportedContact", detail));
        };
        let fine = address.len() <= 320
            && address
                .split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
            && !address.contains(|c: char| c.is_whitespace() || c.is_control() || "?,".contains(c));
        if !fine {
            let detail = format!("{url:?} is no mail address");
            return Err(Problem::new(400, "invalidContact", detail));
        }
    }
    Ok(())
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
