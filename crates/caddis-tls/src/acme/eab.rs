//! External account binding: given credentials, or those that ZeroSSL gives for a mail address.

use bytes::Bytes;
use http::{Request, header};
use serde::Deserialize;

use super::{
    Acme, Failure,
    config::{AcmeConfig, decode_mac},
    transport::Transport,
};

/// Where ZeroSSL gives credentials for an address.
const ZEROSSL_CREDENTIALS: &str = "https://api.zerossl.com/acme/eab-credentials-email";

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    success: bool,
    #[serde(default)]
    eab_kid: String,
    #[serde(default)]
    eab_hmac_key: String,
}

/// Whether an authority gives credentials to whoever names a mail address.
pub(super) fn is_given_by_mail(directory: &str) -> bool {
    directory.starts_with("https://acme.zerossl.com/")
}

/// Key id and key for a new account; none where the authority needs none.
pub(super) async fn external_account(
    config: &AcmeConfig,
    directory: &str,
    _transport: &Transport,
    acme: &Acme,
) -> Result<Option<(String, Vec<u8>)>, Failure> {
    if let Some(given) = &config.external_account {
        return Ok(Some(given.clone()));
    }
    if !is_given_by_mail(directory) {
        return Ok(None);
    }
    if config.email.is_empty() {
        return Err(Failure::new("ZeroSSL needs an email address: set the `email` option"));
    }
    tracing::info!(target: "tls.issuance.acme", email = config.email, "generating EAB credentials");
    let client = acme.client(&[], &config.route).await?;
    let email: String = config
        .email
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let request = Request::post(ZEROSSL_CREDENTIALS)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from(format!("email={email}")))
        .map_err(Failure::new)?;
    let response = client.send(request).await;
    let response = response.map_err(|error| Failure::new(format!("getting EAB: {error}")))?;
    let credentials: Credentials = serde_json::from_slice(response.body())
        .map_err(|error| Failure::new(format!("getting EAB: {error}")))?;
    let key = decode_mac(&credentials.eab_hmac_key);
    match key {
        Some(key) if credentials.success => Ok(Some((credentials.eab_kid, key))),
        _ => Err(Failure::new(format!("getting EAB: HTTP {}", response.status()))),
    }
}
