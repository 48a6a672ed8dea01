//! The resources of the server, by path below `<prefix><ca>/`, and what each does: here those of
//! accounts.

mod orders;

use std::sync::Arc;

use http::{HeaderName, Method, header};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    Server,
    accounts::{Account, Accounts},
    book::Kind,
    jws::{Jwk, Jws},
    problem::Problem,
};
use crate::{
    acme_server::Bound,
    timestamp::{self, Timestamp},
};

const MAX_CONTACTS: usize = 10;

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
