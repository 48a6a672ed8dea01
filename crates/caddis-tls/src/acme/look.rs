//! A look at an authority's directory (RFC 8555 §7.1.1) before anything is asked of it: whether it
//! can be reached, and what it wants and offers. For `caddis certs check`.

use std::{io, time::Duration};

use bytes::Bytes;
use caddis_dns::http::{HttpClient, HttpError, HttpOptions, Reason};
use http::{Request, Response, StatusCode, header};
use serde::Deserialize;

use super::{AcmeConfig, account, read_roots};
use crate::storage::Storage;

/// A sound authority answers much sooner.
const LIMIT: Duration = Duration::from_secs(10);

/// What a directory says of its authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The domains by which CAA records name it (`meta.caaIdentities`); may be empty.
    pub caa_identities: Vec<String>,
    /// The names of its certificate profiles (`meta.profiles`), in order of the alphabet.
    pub profiles: Vec<String>,
    /// New accounts have to be bound to one elsewhere (`meta.externalAccountRequired`).
    pub external_account_required: bool,
}

/// Why a directory could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What happened, in one sentence.
    pub message: String,
    /// What somebody may do about it.
    pub remedy: &'static str,
}

/// The directory as written; what is not looked at is left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    new_nonce: Option<String>,
    new_account: Option<String>,
    new_order: Option<String>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    caa_identities: Vec<String>,
    external_account_required: bool,
    profiles: std::collections::BTreeMap<String, serde_json::Value>,
}

impl AcmeConfig {
    /// Reads the authority's directory, once, over the issuer's way and with its trusted roots, in
    /// ten seconds at most.
    ///
    /// # Errors
    /// The roots cannot be read, the authority does not answer or is not trusted, or what answers is
    /// no ACME directory.
    pub async fn look(&self) -> Result<Directory, Unread> {
        let roots = if self.trusted_roots.is_empty() {
            None
        } else {
            let files = self.trusted_roots.clone();
            let read = tokio::task::spawn_blocking(move || read_roots(&files)).await;
            let read = read.map_err(|error| unread(error, ROOTS))?;
            Some(read.map_err(|error| unread(error, ROOTS))?)
        };
        let route = self.route.clone();
        let options = HttpOptions { roots, route, timeout: LIMIT, ..HttpOptions::default() };
        let request = Request::get(&self.directory).header(header::ACCEPT, "application/json");
        let request = request.body(Bytes::new()).map_err(|error| unread(error, URL))?;
        let answer = HttpClient::with(options).send(request).await;
        read(&answer.map_err(|error| self.unreached(&error))?)
    }

    fn unreached(&self, error: &HttpError) -> Unread {
        let remedy = match error.reason() {
            Reason::Name => {
                "see whether the URL of the directory (`acme_ca`) is right, and whether this machine \
                 can look up names (/etc/resolv.conf)"
            }
            Reason::Connect => {
                "see whether the authority is up, whether its host and port (`acme_ca`) are right, and \
                 whether a firewall is in the way"
            }
            Reason::ConnectTimeout | Reason::Timeout => {
                "see whether a firewall keeps this machine from the authority, and whether it needs a \
                 proxy (`network_proxy` of the issuer, or HTTPS_PROXY)"
            }
            Reason::Proxy => {
                "see whether the proxy is up and lets this machine through (`network_proxy` of the \
                 issuer, or HTTPS_PROXY)"
            }
            Reason::UnknownIssuer if self.trusted_roots.is_empty() => {
                "if it is an authority of your own, name the file of its root by `acme_ca_root`; \
                 else somebody answers in its place"
            }
            Reason::UnknownIssuer => {
                "let `acme_ca_root` name the root of the authority's own certificate; the files that \
                 it names now are of others"
            }
            Reason::OtherName => {
                "let `acme_ca` name the authority by a host that its certificate is for"
            }
            Reason::Time => {
                "see whether this machine's clock is right; else the authority has to renew its own \
                 certificate"
            }
            Reason::Tls | Reason::Other => super::failure::UNREACHABLE,
        };
        unread(error, remedy)
    }
}

fn read(answer: &Response<Bytes>) -> Result<Directory, Unread> {
    let status = answer.status();
    if status.is_redirection() {
        let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        return Err(unread(format!("HTTP {status} to {}", to.unwrap_or("nowhere")), URL));
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(unread(
            format!("HTTP {status}"),
            "the authority is in trouble; try again later",
        ));
    }
    if !status.is_success() {
        return Err(unread(format!("HTTP {status}"), URL));
    }
    let written: Written = serde_json::from_slice(answer.body())
        .map_err(|error| unread(format!("what answers is no ACME directory: {error}"), URL))?;
    for (field, url) in [
        ("newNonce", written.new_nonce),
        ("newAccount", written.new_account),
        ("newOrder", written.new_order),
    ] {
        if url.is_none_or(|url| url.is_empty()) {
            return Err(unread(format!("what answers is no ACME directory: no {field}"), URL));
        }
    }
    Ok(Directory {
        caa_identities: written.meta.caa_identities,
        profiles: written.meta.profiles.into_keys().collect(),
        external_account_required: written.meta.external_account_required,
    })
}

const URL: &str = "let `acme_ca` (of the issuer: `ca`) be the URL of the authority's directory; see \
    whether a proxy or a portal answers in its place";
const ROOTS: &str = "let `acme_ca_root` name PEM files that can be read";

fn unread(message: impl std::fmt::Display, remedy: &'static str) -> Unread {
    Unread { message: message.to_string(), remedy }
}

impl AcmeConfig {
    /// Whether there is an account of the issuer's already, in the settings or in the storage, which
    /// needs no external one any more. Reads the storage, and so may block.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn has_account(&self, storage: &dyn Storage) -> io::Result<bool> {
        if !self.account_key.is_empty() {
            return Ok(true);
        }
        account::is_stored(storage, &self.directory, &self.email)
    }

    /// Whether a key of an account elsewhere is there, or is got by the mail address (ZeroSSL).
    pub fn has_external_account(&self) -> bool {
        let gets = super::eab::is_given_by_mail(&self.directory) && !self.email.is_empty();
        self.external_account.is_some() || gets
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Response, header};

    use super::{Directory, read};

    fn answer(status: u16, body: &str) -> Response<Bytes> {
        let answer = Response::builder().status(status).header(header::LOCATION, "https://b.test/");
        answer.body(Bytes::from(body.to_owned())).unwrap()
    }

    #[test]
    fn directories_are_read() {
        let urls = r#""newNonce": "https://a.test/n", "newAccount": "x", "newOrder": "y""#;
        assert_eq!(read(&answer(200, &format!("{{{urls}}}"))), Ok(Directory::default()));
        let meta = r#""meta": {"caaIdentities": ["a.test"], "externalAccountRequired": true,
            "website": "x", "profiles": {"short": "z", "classic": "y"}}"#;
        let want = Directory {
            caa_identities: vec!["a.test".to_owned()],
            profiles: vec!["classic".to_owned(), "short".to_owned()],
            external_account_required: true,
        };
        assert_eq!(read(&answer(200, &format!("{{{urls}, {meta}}}"))), Ok(want));
    }

    #[test]
    fn what_is_no_directory_is_told() {
        for (status, body, text) in [
            (200, "<html>", "what answers is no ACME directory: expected value"),
            (200, "{}", "what answers is no ACME directory: no newNonce"),
            (200, r#"{"newNonce": "x", "newAccount": "x", "newOrder": ""}"#, "no newOrder"),
            (301, "", "HTTP 301 Moved Permanently to https://b.test/"),
            (404, "{}", "HTTP 404 Not Found"),
            (503, "{}", "HTTP 503 Service Unavailable"),
        ] {
            let unread = read(&answer(status, body)).unwrap_err();
            assert!(unread.message.contains(text), "{text}: {}", unread.message);
            assert!(!unread.remedy.is_empty());
        }
    }
}
