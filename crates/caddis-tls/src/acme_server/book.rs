//! Orders, authorizations and issued certificates, in memory: no I/O, no clock (RFC 8555 §7.1).

use std::{collections::HashMap, net::IpAddr};

use serde_json::{Value as Json, json};

use super::{problem::Problem, random_id, rfc3339};
use crate::timestamp::Timestamp;

/// Seconds until an order that nobody goes on with is forgotten.
const LIFETIME: i64 = 24 * 60 * 60;
/// Orders kept; more are refused.
const MAX_ORDERS: usize = 20_000;
/// Orders of one account.
const MAX_PER_ACCOUNT: usize = 2_000;

/// What a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identifier {
    /// A host name, lower case, perhaps with a wildcard.
    Dns(String),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl Identifier {
    /// The text that goes into a certificate.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Dns(name) => name.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }

    /// The host that is to prove it.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Dns(name) => name.strip_prefix("*.").unwrap_or(name).to_owned(),
            Self::Ip(ip) => ip.to_string(),
        }
    }

    fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    fn json(&self, value: String) -> Json {
        let kind = if matches!(self, Self::Dns(_)) { "dns" } else { "ip" };
        json!({ "type": kind, "value": value })
    }
}

/// The kinds of challenges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http01,
    TlsAlpn01,
    Dns01,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Http01, Self::TlsAlpn01, Self::Dns01];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Addresses have no DNS records of this sort, wildcards no host.
    fn proves(self, identifier: &Identifier) -> bool {
        match identifier {
            Identifier::Ip(_) => self != Self::Dns01,
            Identifier::Dns(_) => self == Self::Dns01 || !identifier.is_wildcard(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Pending,
    Processing,
    Valid,
    Invalid,
    Deactivated,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
        }
    }
}

#[derive(Debug)]
struct Challenge {
    kind: Kind,
    token: String,
    status: Status,
    error: Option<Problem>,
    validated: Option<Timestamp>,
}

#[derive(Debug)]
struct Authorization {
    account: String,
    identifier: Identifier,
    status: Status,
    expires: Timestamp,
    challenges: Vec<Challenge>,
}

/// How far the certificate of an order is.
#[derive(Debug)]
enum Progress {
    Open,
    Issuing,
    /// The certificate's id.
    Issued(String),
    Failed(Problem),
}

#[derive(Debug)]
struct Order {
    account: String,
    identifiers: Vec<Identifier>,
    authorizations: Vec<String>,
    expires: Timestamp,
    not_after: Option<Timestamp>,
    progress: Progress,
}

/// A certificate that was issued.
#[derive(Debug)]
struct Certificate {
    account: String,
    chain: String,
    fingerprint: [u8; 32],
    revoked: bool,
    not_after: Timestamp,
    expires: Timestamp,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Book {
    orders: HashMap<String, Order>,
    authorizations: HashMap<String, Authorization>,
    certificates: HashMap<String, Certificate>,
}

/// What is to be validated.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) authorization: String,
    pub(super) kind: Kind,
    pub(super) identifier: Identifier,
    pub(super) token: String,
}

/// A wish for an order.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) identifiers: Vec<Identifier>,
    pub(super) not_after: Option<Timestamp>,
    pub(super) kinds: Vec<Kind>,
}

impl Book {
    /// Enters an order; gives its id.
    pub(super) fn enter(
        &mut self,
        account: &str,
        wish: Wish,
        now: Timestamp,
    ) -> Result<String, Problem> {
        self.tidy(now);
        let own = self.orders.values().filter(|order| order.account == account).count();
        if self.orders.len() >= MAX_ORDERS || own >= MAX_PER_ACCOUNT {
            return Err(Problem::new(429, "rateLimited", "too many orders in a day"));
        }
        for identifier in &wish.identifiers {
            if !wish.kinds.iter().any(|kind| kind.proves(identifier)) {
                let name = identifier.text();
                let detail = format!("no challenge of this server can prove {name}");
                return Err(Problem::new(400, "rejectedIdentifier", detail));
            }
        }
        let expires = now.saturating_add(LIFETIME);
        let mut authorizations = Vec::with_capacity(wish.identifiers.len());
        for identifier in &wish.identifiers {
            let id = random_id();
            let kinds = wish.kinds.iter().copied().filter(|kind| kind.proves(identifier));
            let challenges = kinds.map(|kind| Challenge {
                kind,
                token: random_id(),
                status: Status::Pending,
                error: None,
                validated: None,
            });
            let authorization = Authorization {
                account: account.to_owned(),
                identifier: identifier.clone(),
                status: Status::Pending,
                expires,
                challenges: challenges.collect(),
            };
            self.authorizations.insert(id.clone(), authorization);
            authorizations.push(id);
        }
        let id = random_id();
        let order = Order {
            account: account.to_owned(),
            identifiers: wish.identifiers,
            authorizations,
            expires,
            not_after: wish.not_after,
            progress: Progress::Open,
        };
        self.orders.insert(id.clone(), order);
        Ok(id)
    }

    fn tidy(&mut self, now: Timestamp) {
        self.orders.retain(|_, order| order.expires > now);
        self.authorizations.retain(|_, authorization| authorization.expires > now);
        self.certificates.retain(|_, one| one.expires > now || one.not_after > now);
        // Certificates may live long; only a day is promised.
        if self.certificates.len() > MAX_ORDERS {
            self.certificates.retain(|_, one| one.expires > now);
        }
    }

    fn order(&self, id: &str, account: &str) -> Result<&Order, Problem> {
        let order = self.orders.get(id).ok_or_else(Problem::not_found)?;
        if order.account != account {
            return Err(Problem::unauthorized("the order is another account's"));
        }
        Ok(order)
    }

    fn order_status(&self, order: &Order, now: Timestamp) -> &'static str {
        match &order.progress {
            Progress::Issuing => return "processing",
            Progress::Issued(_) => return "valid",
            Progress::Failed(_) => return "invalid",
            Progress::Open if order.expires <= now => return "invalid",
            Progress::Open => {}
        }
        let statuses = order.authorizations.iter().map(|id| {
            self.authorizations
                .get(id)
                .map_or(Status::Invalid, |authorization| authorization.status)
        });
        let mut ready = true;
        for status in statuses {
            match status {
                Status::Valid => {}
                Status::Pending | Status::Processing => ready = false,
                Status::Invalid | Status::Deactivated => return "invalid",
            }
        }
        if ready { "ready" } else { "pending" }
    }

    /// An order as its account sees it.
    pub(super) fn order_json(
        &self,
        id: &str,
        account: &str,
        (base, now): (&str, Timestamp),
    ) -> Result<Json, Problem> {
        let order = self.order(id, account)?;
        let identifiers: Vec<Json> =
            order.identifiers.iter().map(|one| one.json(one.text())).collect();
        let authorizations: Vec<String> =
            order.authorizations.iter().map(|id| format!("{base}authz/{id}")).collect();
        let mut json = json!({
            "status": self.order_status(order, now),
            "expires": rfc3339(order.expires),
            "identifiers": identifiers,
            "authorizations": authorizations,
            "finalize": format!("{base}order/{id}/finalize"),
        });
        if let Some(at) = order.not_after {
            json["notAfter"] = rfc3339(at).into();
        }
        match &order.progress {
            Progress::Issued(id) => json["certificate"] = format!("{base}certificate/{id}").into(),
            Progress::Failed(problem) => json["error"] = problem.json(),
            Progress::Open | Progress::Issuing => {}
        }
        Ok(json)
    }

    /// The ids of an account's orders.
    pub(super) fn orders_of(&self, account: &str) -> Vec<&str> {
        let own = self.orders.iter().filter(|(_, order)| order.account == account);
        let mut ids: Vec<&str> = own.map(|(id, _)| id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    fn authorization(&self, id: &str, account: &str) -> Result<&Authorization, Problem> {
        let found = self.authorizations.get(id).ok_or_else(Problem::not_found)?;
        if found.account != account {
            return Err(Problem::unauthorized("the authorization is another account's"));
        }
        Ok(found)
    }

    /// An authorization as its account sees it.
    pub(super) fn authorization_json(
        &self,
        id: &str,
        account: &str,
        base: &str,
    ) -> Result<Json, Problem> {
        let found = self.authorization(id, account)?;
        let challenges: Vec<Json> =
            found.challenges.iter().map(|challenge| challenge.json(id, base)).collect();
        let mut json = json!({
            "identifier": found.identifier.json(found.identifier.host()),
            "status": found.status.name(),
            "expires": rfc3339(found.expires),
            "challenges": challenges,
        });
        if found.identifier.is_wildcard() {
            json["wildcard"] = true.into();
        }
        Ok(json)
    }

    /// Gives an authorization up at its account's wish.
    pub(super) fn deactivate(&mut self, id: &str, account: &str) -> Result<(), Problem> {
        self.authorization(id, account)?;
        if let Some(found) = self.authorizations.get_mut(id) {
            found.status = Status::Deactivated;
        }
        Ok(())
    }

    /// A challenge as its account sees it.
    pub(super) fn challenge_json(
        &self,
        (id, kind): (&str, Kind),
        account: &str,
        base: &str,
    ) -> Result<Json, Problem> {
        let found = self.authorization(id, account)?;
        let challenge = found.challenges.iter().find(|challenge| challenge.kind == kind);
        challenge.map(|challenge| challenge.json(id, base)).ok_or_else(Problem::not_found)
    }

    /// The client is ready: what is to be validated, where that is not under way or done.
    pub(super) fn begin(
        &mut self,
        (id, kind): (&str, Kind),
        account: &str,
        now: Timestamp,
    ) -> Result<Option<Task>, Problem> {
        self.authorization(id, account)?;
        let Some(found) = self.authorizations.get_mut(id) else {
            return Err(Problem::not_found());
        };
        if found.status != Status::Pending || found.expires <= now {
            return Ok(None);
        }
        let challenge = found.challenges.iter_mut().find(|challenge| challenge.kind == kind);
        let challenge = challenge.ok_or_else(Problem::not_found)?;
        if challenge.status != Status::Pending {
            return Ok(None);
        }
        challenge.status = Status::Processing;
        Ok(Some(Task {
            authorization: id.to_owned(),
            kind,
            identifier: found.identifier.clone(),
            token: challenge.token.clone(),
        }))
    }

    /// Takes note of how a validation went.
    pub(super) fn validated(&mut self, task: &Task, result: Result<(), Problem>, now: Timestamp) {
        let Some(found) = self.authorizations.get_mut(&task.authorization) else { return };
        let of_task = |challenge: &&mut Challenge| challenge.kind == task.kind;
        let Some(challenge) = found.challenges.iter_mut().find(of_task) else { return };
        let status = match result {
            Ok(()) => {
                challenge.validated = Some(now);
                Status::Valid
            }
            Err(problem) => {
                challenge.error = Some(problem);
                Status::Invalid
            }
        };
        challenge.status = status;
        if found.status == Status::Pending {
            found.status = status;
        }
    }

    /// What an order that is ready is for; it is marked as being worked on.
    pub(super) fn issue(
        &mut self,
        id: &str,
        account: &str,
        names: &[Identifier],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Problem> {
        let order = self.order(id, account)?;
        let status = self.order_status(order, now);
        if status != "ready" {
            let detail = format!("the order is {status}, not ready");
            return Err(Problem::new(403, "orderNotReady", detail));
        }
        if order.identifiers != names {
            return Err(Problem::new(400, "badCSR", "names of request and order are not the same"));
        }
        let not_after = order.not_after;
        if let Some(order) = self.orders.get_mut(id) {
            order.progress = Progress::Issuing;
        }
        Ok(not_after)
    }

    /// Takes note of how the issuance of an order went.
    pub(super) fn issued(
        &mut self,
        order: &str,
        result: Result<(String, [u8; 32], Timestamp), Problem>,
    ) {
        let Some(order) = self.orders.get_mut(order) else { return };
        order.progress = match result {
            Ok((chain, fingerprint, not_after)) => {
                let id = random_id();
                let (account, expires) = (order.account.clone(), order.expires);
                let certificate =
                    Certificate { account, chain, fingerprint, revoked: false, not_after, expires };
                self.certificates.insert(id.clone(), certificate);
                Progress::Issued(id)
            }
            Err(problem) => Progress::Failed(problem),
        };
    }

    /// A chain, PEM.
    pub(super) fn chain(&self, id: &str, account: &str) -> Result<String, Problem> {
        let found = self.certificates.get(id).ok_or_else(Problem::not_found)?;
        if found.account != account {
            return Err(Problem::unauthorized("the certificate is another account's"));
        }
        Ok(found.chain.clone())
    }

    /// Marks a certificate as revoked; `account` is absent where its own key asks.
    pub(super) fn revoke(
        &mut self,
        fingerprint: &[u8; 32],
        account: Option<&str>,
    ) -> Result<(), Problem> {
        let found = self.certificates.values_mut().find(|one| one.fingerprint == *fingerprint);
        let found = found.ok_or_else(|| {
            Problem::new(404, "malformed", "the certificate is not known to this server")
        })?;
        if account.is_some_and(|account| account != found.account) {
            return Err(Problem::unauthorized("the certificate is another account's"));
        }
        if std::mem::replace(&mut found.revoked, true) {
            return Err(Problem::new(400, "alreadyRevoked", "the certificate is revoked already"));
        }
        Ok(())
    }
}

impl Challenge {
    fn json(&self, authorization: &str, base: &str) -> Json {
        let kind = self.kind.name();
        let mut json = json!({
            "type": kind,
            "status": self.status.name(),
            "token": self.token,
            "url": format!("{base}challenge/{authorization}/{kind}"),
        });
        if let Some(at) = self.validated {
            json["validated"] = rfc3339(at).into();
        }
        if let Some(problem) = &self.error {
            json["error"] = problem.json();
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Identifier, Kind, MAX_PER_ACCOUNT, Problem, Wish};

    fn wish(name: &str) -> Wish {
        let identifiers = vec![Identifier::Dns(name.to_owned())];
        Wish { identifiers, not_after: None, kinds: Kind::ALL.to_vec() }
    }

    fn status(book: &Book, order: &str, now: i64) -> String {
        book.order_json(order, "me", ("b/", now)).unwrap()["status"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_way_of_an_order() {
        let mut book = Book::default();
        let order = book.enter("me", wish("a.test"), 0).unwrap();
        let names = [Identifier::Dns("a.test".to_owned())];
        let authorization = book.orders[&order].authorizations[0].clone();
        assert_eq!(status(&book, &order, 1), "pending");
        assert_eq!(book.issue(&order, "me", &names, 1).unwrap_err().kind, "orderNotReady");
        assert_eq!(book.order_json(&order, "you", ("", 1)).unwrap_err().kind, "unauthorized");
        let place = (authorization.as_str(), Kind::Http01);
        assert!(book.begin(place, "you", 1).is_err());
        let task = book.begin(place, "me", 1).unwrap().unwrap();
        assert!(book.begin(place, "me", 1).unwrap().is_none(), "it is under way");
        book.validated(&task, Ok(()), 2);
        assert_eq!(status(&book, &order, 2), "ready");
        let other = [Identifier::Dns("b.test".to_owned())];
        assert_eq!(book.issue(&order, "me", &other, 2).unwrap_err().kind, "badCSR");
        book.issue(&order, "me", &names, 2).unwrap();
        assert_eq!(status(&book, &order, 2), "processing");
        book.issued(&order, Ok(("chain".to_owned(), [1; 32], 100)));
        assert_eq!(status(&book, &order, 2), "valid");
        assert_eq!(book.revoke(&[2; 32], None).unwrap_err().status, 404);
        assert!(book.revoke(&[1; 32], Some("you")).is_err());
        book.revoke(&[1; 32], Some("me")).unwrap();
        assert_eq!(book.revoke(&[1; 32], None).unwrap_err().kind, "alreadyRevoked");
    }

    #[test]
    fn failures_and_ends() {
        let mut book = Book::default();
        let order = book.enter("me", wish("a.test"), 0).unwrap();
        let authorization = book.orders[&order].authorizations[0].clone();
        let task = book.begin((&authorization, Kind::Dns01), "me", 1).unwrap().unwrap();
        book.validated(&task, Err(Problem::malformed("no")), 2);
        assert_eq!(status(&book, &order, 2), "invalid");
        let late = book.enter("me", wish("b.test"), 0).unwrap();
        assert_eq!(status(&book, &late, 25 * 3_600), "invalid");
        book.enter("me", wish("c.test"), 25 * 3_600).unwrap();
        assert!(book.order_json(&late, "me", ("", 0)).is_err(), "it is forgotten");
        let only_http = Wish { kinds: vec![Kind::Http01], ..wish("*.a.test") };
        assert_eq!(book.enter("me", only_http, 0).unwrap_err().kind, "rejectedIdentifier");
        let full = (0..=MAX_PER_ACCOUNT).find_map(|_| book.enter("full", wish("d.test"), 0).err());
        assert_eq!(full.unwrap().kind, "rateLimited");
    }
}
