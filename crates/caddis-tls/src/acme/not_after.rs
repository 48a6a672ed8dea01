//! Orders with a wanted end of validity (`certificate_lifetime`), for which the library has no call:
//! the one request is made here, and the library goes on with the order.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use instant_acme::{Error, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::account::Session;
use crate::timestamp;

#[derive(Deserialize)]
struct Directory {
    #[serde(rename = "newNonce")]
    new_nonce: String,
    #[serde(rename = "newOrder")]
    new_order: String,
}

/// Creates an order that ends so many seconds from now.
pub(super) async fn new_order(
    session: &Session,
    directory: &str,
    name: &str,
    profile: &str,
    lifetime: u64,
) -> Result<instant_acme::Order, Error> {
    let response = send(session, Method::GET, directory, Bytes::new()).await?;
    let urls: Directory = serde_json::from_slice(response.body())?;
    let nonce = send(session, Method::HEAD, &urls.new_nonce, Bytes::new()).await?;
    let nonce = nonce.headers().get("replay-nonce").and_then(|nonce| nonce.to_str().ok());
    let nonce = nonce.ok_or(Error::Str("no nonce found in newNonce response"))?.to_owned();
    let ends = timestamp::now().saturating_add(i64::try_from(lifetime).unwrap_or(i64::MAX));
    let ends = OffsetDateTime::from_unix_timestamp(ends).ok();
    let ends = ends.and_then(|ends| ends.format(&Rfc3339).ok());
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
    let mut payload = json!({"identifiers": [{"type": kind, "value": name}], "notAfter": ends});
    if !profile.is_empty() {
        payload["profile"] = Value::from(profile);
    }
    let protected = json!({
        "alg": "ES256", "kid": session.account.id(), "nonce": nonce, "url": urls.new_order,
    });
    let body = sign(&session.key, &protected, &payload)?;
    let response = send(session, Method::POST, &urls.new_order, body).await?;
    if !response.status().is_success() {
        return Err(Error::Api(serde_json::from_slice::<Problem>(response.body())?));
    }
    let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
    session.account.order(place.ok_or(Error::Str("no order URL found"))?.to_owned()).await
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

/// A signed request (RFC 7515, flattened).
fn sign(pkcs8: &[u8], protected: &Value, payload: &Value) -> Result<Bytes, Error> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| Error::KeyRejected)?;
    let protected = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(protected)?);
    let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload)?);
    let text = format!("{protected}.{payload}");
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).map_err(|_| Error::Crypto)?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
    let body = json!({"protected": protected, "payload": payload, "signature": signature});
    Ok(serde_json::to_vec(&body)?.into())
}
