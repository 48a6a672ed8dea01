//! New orders (RFC 8555 §7.4), made so that at most one counts: the request is sent once, and an
//! order whose answer was lost is looked for in the account's list (§7.1.2.1) before another one is
//! asked for. Also a wanted end of validity (`certificate_lifetime`), which the library cannot ask
//! for. The library goes on with the order.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use instant_acme::{Error, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    account::Session,
    failure,
    order::NONCE_TRIES,
    transport::{Lost, Urls, links},
};
use crate::timestamp;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    /// The profile; empty for the authority's own choice.
    pub(super) profile: &'a str,
    /// The wanted lifetime.
    pub(super) lifetime: Option<Duration>,
    /// How the authority calls the certificate that is replaced (RFC 9773 §4.1).
    pub(super) replaces: Option<String>,
}

/// Why there is no order.
#[derive(Debug)]
pub(super) enum Failed {
    /// The authority did not make one, or was not reached.
    Refused(Error),
    /// It may have made one.
    Lost(Error),
}

/// Orders that may have been made although nobody heard of it: directory, account, name.
#[derive(Debug, Default)]
pub(super) struct LostOrders(Mutex<HashSet<(String, String, String)>>);

/// Pauses before looks at the list: the authority may still be making the order.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];
/// Pages of the list, and orders, that are read at most.
const MAX_PAGES: usize = 10;
const MAX_ORDERS: usize = 64;
/// How far the end of validity may be from what was asked for some seconds ago.
const NEAR: Duration = Duration::from_secs(10 * 60);

impl LostOrders {
    fn all(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an order, or takes the one that was made when its answer was lost.
    pub(super) async fn create(
        &self,
        session: &Session,
        directory: &str,
        wanted: &Wanted<'_>,
    ) -> Result<instant_acme::Order, Error> {
        let account = session.account.id();
        let key = (directory.to_owned(), account.to_owned(), wanted.name.to_owned());
        let was_lost = self.all().contains(&key);
        if was_lost && let Ok(Looked::Found(url)) = find(session, wanted).await {
            return self.take_up(session, &key, url).await;
        }
        let error = match create(session, wanted).await {
            Ok(url) => {
                self.all().remove(&key);
                return open(session, url).await;
            }
            Err(Failed::Refused(error)) => return Err(error),
            Err(Failed::Lost(error)) => error,
        };
        self.all().insert(key.clone());
        tracing::warn!(
            target: "tls.issuance.acme.acme_client",
            identifier = wanted.name,
            ca = directory,
            %error,
            "the answer to a new order was lost; looking for the order"
        );
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            match find(session, wanted).await {
                Ok(Looked::Found(url)) => return self.take_up(session, &key, url).await,
                // Authorities without a list give an order that waits again (§7.4), or count
                // another one after our back-off.
                Ok(Looked::NoList) => break,
                Ok(Looked::NotThere) => {}
                Err(error) => tracing::debug!(
                    target: "tls.issuance.acme.acme_client",
                    %error,
                    "looking for an order"
                ),
            }
        }
        Err(error)
    }

    async fn take_up(
        &self,
        session: &Session,
        key: &(String, String, String),
        url: String,
    ) -> Result<instant_acme::Order, Error> {
        let order = open(session, url).await?;
        self.all().remove(key);
        tracing::info!(
            target: "tls.issuance.acme.acme_client",
            identifier = key.2,
            order = order.url(),
            "going on with the order whose answer was lost"
        );
        Ok(order)
    }
}

/// Hands an order to the library.
async fn open(session: &Session, url: String) -> Result<instant_acme::Order, Error> {
    let (mut left, mut pauses) = (NONCE_TRIES, PAUSES.into_iter());
    loop {
        match session.account.order(url.clone()).await {
            Err(Error::Api(told)) if left > 0 && failure::is(&told, "badNonce") => left -= 1,
            // Not all machines of an authority may know of it yet.
            Err(Error::Api(told)) if told.status == Some(404) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(Error::Api(told)),
            },
            other => return other,
        }
    }
}

/// Asks for an order once; gives its URL.
async fn create(session: &Session, wanted: &Wanted<'_>) -> Result<String, Failed> {
    let urls = session.transport.urls().ok_or(Failed::Refused(NO_DIRECTORY))?;
    let kind = if wanted.name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    let mut payload = json!({"identifiers": [{"type": kind, "value": wanted.name}]});
    if let Some(ends) = wanted.ends() {
        payload["notAfter"] = Value::from(ends.format(&Rfc3339).unwrap_or_default());
    }
    if !wanted.profile.is_empty() {
        payload["profile"] = Value::from(wanted.profile);
    }
    // An authority without renewal information knows no replacing either.
    if let Some(replaces) = wanted.replaces.as_deref().filter(|_| urls.renewal_info.is_some()) {
        payload["replaces"] = Value::from(replaces);
    }
    let answer = post(session, &urls, &urls.new_order, Some(&payload)).await;
    let answer = answer.map_err(|error| match error {
        Error::Other(inner) if inner.is::<Lost>() => Failed::Lost(Error::Other(inner)),
        error => Failed::Refused(error),
    })?;
    let status = answer.status();
    if !status.is_success() {
        let error = problem(&answer);
        // "Unavailable" is said before anything is done.
        let is_open = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        return Err(if is_open { Failed::Lost(error) } else { Failed::Refused(error) });
    }
    let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
    let place = place.ok_or(Failed::Refused(Error::Str("no order URL found")))?;
    Ok(place.to_owned())
}

enum Looked {
    /// An order's URL.
    Found(String),
    NotThere,
    /// The authority tells nobody which orders there are.
    NoList,
}

/// Looks for an order that can be gone on with among those of the account.
async fn find(session: &Session, wanted: &Wanted<'_>) -> Result<Looked, Error> {
    #[derive(Deserialize)]
    struct Account {
        orders: Option<String>,
    }
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        orders: Vec<String>,
    }
    let urls = session.transport.urls().ok_or(NO_DIRECTORY)?;
    let read = async |url: &str| -> Result<Response<Bytes>, Error> {
        let answer = post(session, &urls, url, None).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(problem(&answer)) }
    };
    let account = read(session.account.id()).await?;
    let account: Account = serde_json::from_slice(account.body())?;
    let Some(mut page) = account.orders.filter(|url| !url.is_empty()) else {
        return Ok(Looked::NoList);
    };
    let mut orders = Vec::new();
    for _ in 0..MAX_PAGES {
        let answer = post(session, &urls, &page, None).await?;
        // The field is wanted by the RFC; what it leads to is there at few authorities.
        if matches!(answer.status().as_u16(), 404 | 405 | 501) {
            return Ok(Looked::NoList);
        }
        if !answer.status().is_success() {
            return Err(problem(&answer));
        }
        let list: List = serde_json::from_slice(answer.body())?;
        orders.extend(list.orders);
        match links(answer.headers(), "next").into_iter().next() {
            Some(next) => page = next,
            None => break,
        }
    }
    // The order of the list is up to the authority, but most add at the end.
    for url in orders.into_iter().rev().take(MAX_ORDERS) {
        let order = read(&url).await?;
        if wanted.is(&serde_json::from_slice(order.body())?) {
            return Ok(Looked::Found(url));
        }
    }
    Ok(Looked::NotThere)
}

impl Wanted<'_> {
    /// The wanted end of validity.
    fn ends(&self) -> Option<OffsetDateTime> {
        let seconds = i64::try_from(self.lifetime?.as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(timestamp::now().saturating_add(seconds)).ok()
    }

    /// Whether an order is as good as a new one.
    fn is(&self, order: &Value) -> bool {
        let text = |field: &str| order[field].as_str().unwrap_or_default();
        let [identifier] = order["identifiers"].as_array().map_or(&[][..], Vec::as_slice) else {
            return false;
        };
        let named = identifier["value"].as_str();
        let ends_well = self.ends().is_none_or(|wanted| {
            let ends = OffsetDateTime::parse(text("notAfter"), &Rfc3339);
            ends.is_ok_and(|ends| (ends - wanted).unsigned_abs() <= NEAR)
        });
        // What an authority passes over in a request it does not show in the order.
        let replaced = text("replaces");
        named.is_some_and(|name| name.eq_ignore_ascii_case(self.name))
            && matches!(text("status"), "pending" | "ready")
            && (self.profile.is_empty() || text("profile") == self.profile)
            && (replaced.is_empty() || self.replaces.as_deref() == Some(replaced))
            && ends_well
    }
}

const NO_DIRECTORY: Error = Error::Str("no directory was read");

/// A signed request (POST-as-GET without payload, RFC 8555 §6.3). What is refused for its nonce was
/// not looked at, and is sent again with another one (§6.5).
async fn post(
    session: &Session,
    urls: &Urls,
    url: &str,
    payload: Option<&Value>,
) -> Result<Response<Bytes>, Error> {
    let mut nonce = None;
    let mut left = NONCE_TRIES;
    loop {
        let fresh = match nonce.take() {
            Some(nonce) => nonce,
            None => {
                let answer = send(session, Method::HEAD, &urls.new_nonce, Bytes::new()).await?;
                nonce_of(&answer).ok_or(Error::Str("no nonce found in newNonce response"))?
            }
        };
        let account = session.account.id();
        let protected = json!({"alg": "ES256", "kid": account, "nonce": fresh, "url": url});
        let body = sign(&session.key, &protected, payload)?;
        let answer = send(session, Method::POST, url, body).await?;
        let bad_nonce = answer.status() == StatusCode::BAD_REQUEST
            && matches!(problem(&answer), Error::Api(told) if failure::is(&told, "badNonce"));
        if !bad_nonce || left == 0 {
            return Ok(answer);
        }
        left -= 1;
        nonce = nonce_of(&answer);
    }
}

fn nonce_of(answer: &Response<Bytes>) -> Option<String> {
    let nonce = answer.headers().get("replay-nonce")?.to_str().ok()?;
    Some(nonce.to_owned())
}

fn problem(answer: &Response<Bytes>) -> Error {
    match serde_json::from_slice::<Problem>(answer.body()) {
        Ok(problem) => Error::Api(problem),
        Err(error) => error.into(),
    }
}

async fn send(
    session: &Session,
    method: Method,
    url: &str,
    body: Bytes,
) -> Result<Response<Bytes>, Error> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/jose+json")
        .body(body)?;
    session.transport.send(request).await
}

/// A signed request's body (RFC 7515, flattened).
fn sign(pkcs8: &[u8], protected: &Value, payload: Option<&Value>) -> Result<Bytes, Error> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| Error::KeyRejected)?;
    let protected = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(protected)?);
    let payload = match payload {
        Some(payload) => BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload)?),
        None => String::new(),
    };
    let text = format!("{protected}.{payload}");
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).map_err(|_| Error::Crypto)?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
    let body = json!({"protected": protected, "payload": payload, "signature": signature});
    Ok(serde_json::to_vec(&body)?.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::Wanted;

    fn wanted<'a>() -> Wanted<'a> {
        Wanted { name: "a.test", profile: "", lifetime: None, replaces: None }
    }

    fn order(more: Value) -> Value {
        let mut order = json!({
            "status": "pending", "identifiers": [{"type": "dns", "value": "A.test"}],
        });
        for (key, value) in more.as_object().unwrap() {
            order[key] = value.clone();
        }
        order
    }

    #[test]
    fn only_what_is_as_good_as_a_new_order_is_taken() {
        let replaces = |id: &str| Some(id.to_owned());
        let day = Duration::from_secs(86_400);
        let ends = |days: i64| {
            let at = OffsetDateTime::now_utc() + time::Duration::days(days);
            at.format(&Rfc3339).unwrap()
        };
        let both = json!([{"type": "dns", "value": "a.test"}, {"type": "dns", "value": "b.test"}]);
        for (wanted, more, good) in [
            (wanted(), json!({}), true),
            (wanted(), json!({"status": "ready", "profile": "any"}), true),
            (wanted(), json!({"status": "valid"}), false),
            (wanted(), json!({"status": "invalid"}), false),
            (wanted(), json!({"identifiers": both}), false),
            (wanted(), json!({"identifiers": []}), false),
            (wanted(), json!({"identifiers": "a.test"}), false),
            (Wanted { name: "b.test", ..wanted() }, json!({}), false),
            (Wanted { profile: "p", ..wanted() }, json!({"profile": "p"}), true),
            (Wanted { profile: "p", ..wanted() }, json!({}), false),
            (wanted(), json!({"replaces": "x.y"}), false),
            (Wanted { replaces: replaces("x.y"), ..wanted() }, json!({"replaces": "x.y"}), true),
            (Wanted { replaces: replaces("x.y"), ..wanted() }, json!({}), true),
            (Wanted { lifetime: Some(day), ..wanted() }, json!({"notAfter": ends(1)}), true),
            (Wanted { lifetime: Some(day), ..wanted() }, json!({"notAfter": ends(2)}), false),
            (Wanted { lifetime: Some(day), ..wanted() }, json!({}), false),
        ] {
            let order = order(more);
            assert_eq!(wanted.is(&order), good, "{wanted:?}: {order}");
        }
    }
}
