//! Renewal information (RFC 9773): when the authority wants a certificate to be renewed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use http::Request;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use super::{Acme, AcmeConfig, transport::retry_after};
use crate::{
    certificate::parse_chain,
    error::{Context, Error, Result},
    timestamp::{self, Timestamp},
};

/// Where the authority does not say when to ask again (T088).
const DEFAULT_POLL: Duration = Duration::from_secs(6 * 60 * 60);
const MIN_POLL: Duration = Duration::from_secs(60);
const MAX_POLL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a directory is believed.
const DIRECTORY_LIFE: Duration = Duration::from_secs(60 * 60);
/// How long one that cannot be read is left alone, whatever the number of names.
const AWAY: Duration = Duration::from_secs(5 * 60);

/// The information with the time that was chosen in it, as Caddy stores it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(crate) struct RenewalInfo {
    #[serde(rename = "suggestedWindow")]
    pub(crate) window: Window,
    #[serde(rename = "explanationURL", default, skip_serializing_if = "String::is_empty")]
    pub(crate) explanation: String,
    #[serde(rename = "_uniqueIdentifier", default, skip_serializing_if = "String::is_empty")]
    pub(crate) identifier: String,
    #[serde(rename = "_retryAfter", default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<String>,
    #[serde(rename = "_selectedTime", default)]
    pub(crate) selected: String,
}

/// From when to when.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(crate) struct Window {
    pub(crate) start: String,
    pub(crate) end: String,
}

impl RenewalInfo {
    /// The chosen time.
    pub(crate) fn selected_at(&self) -> Option<Timestamp> {
        parse(&self.selected)
    }

    /// When to ask again.
    pub(crate) fn ask_again_at(&self) -> Option<Timestamp> {
        self.retry_after.as_deref().and_then(parse)
    }

    /// Keeps the chosen time where the window is the one it was chosen in.
    fn choose(&mut self, old: Option<&Self>) -> Result<()> {
        let start = parse(&self.window.start);
        let (Some(start), Some(end)) = (start, parse(&self.window.end)) else {
            return Err(Error::new("renewal window without times"));
        };
        if end < start {
            return Err(Error::new("renewal window ends before it begins"));
        }
        let kept = old.filter(|old| old.window == self.window && old.selected_at().is_some());
        self.selected = match kept {
            Some(old) => old.selected.clone(),
            None => format(fastrand::i64(start..=end)),
        };
        Ok(())
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

fn format(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Where authorities give renewal information, as far as known.
#[derive(Debug, Default)]
pub(super) struct Directories(Mutex<HashMap<String, Known>>);

/// What is known of a directory, and since when.
#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    /// The URL of its renewal information, if any; an error where it could not be read.
    renewal_info: Result<Option<String>>,
}

impl Known {
    fn is_fresh(&self) -> bool {
        let life = if self.renewal_info.is_ok() { DIRECTORY_LIFE } else { AWAY };
        self.at.elapsed() < life
    }
}

#[derive(Deserialize)]
struct Directory {
    #[serde(rename = "renewalInfo")]
    renewal_info: Option<String>,
}

impl Acme {
    /// The information for a certificate just issued; its lack is no failure.
    pub(super) async fn first_renewal_info(
        &self,
        config: &AcmeConfig,
        directory: &str,
        chain: &str,
    ) -> Option<RenewalInfo> {
        let leaf = parse_chain(chain.as_bytes()).ok()?.into_iter().next()?;
        match self.renewal_info(config, directory, &leaf, None).await {
            Ok(info) => info,
            Err(error) => {
                tracing::warn!(
                    target: "tls.issuance.acme",
                    error = %error,
                    "failed getting renewal information"
                );
                None
            }
        }
    }

    /// Asks when a certificate is to be renewed; none where the authority has no opinion.
    pub(crate) async fn renewal_info(
        &self,
        config: &AcmeConfig,
        directory: &str,
        leaf: &CertificateDer<'_>,
        old: Option<&RenewalInfo>,
    ) -> Result<Option<RenewalInfo>> {
        let client = self.client(&config.trusted_roots, &config.route).await?;
        let get = async |url: &str| {
            let request = Request::get(url).body(Bytes::new()).context(url)?;
            client.send(request).await.context(url)
        };
        let known = {
            let directories = self.directories.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = directories.get(directory).filter(|known| known.is_fresh());
            known.map(|known| known.renewal_info.clone())
        };
        let base = match known {
            Some(known) => known?,
            None => {
                let read = get(directory).await.and_then(|response| {
                    let parsed: Directory =
                        serde_json::from_slice(response.body()).context("directory")?;
                    Ok(parsed.renewal_info)
                });
                if let Err(error) = &read {
                    tracing::warn!(
                        target: "tls.renew",
                        ca = directory,
                        error = %error,
                        "failed getting renewal information"
                    );
                }
                let known = Known { at: Instant::now(), renewal_info: read.clone() };
                let mut directories =
                    self.directories.0.lock().unwrap_or_else(PoisonError::into_inner);
                directories.insert(directory.to_owned(), known);
                drop(directories);
                read?
            }
        };
        let Some(base) = base.filter(|base| !base.is_empty()) else { return Ok(None) };
        let id = certificate_id(leaf)?;
        let response = get(&format!("{}/{id}", base.trim_end_matches('/'))).await?;
        if !response.status().is_success() {
            return Err(Error::new(format!("renewal information: HTTP {}", response.status())));
        }
        let mut info: RenewalInfo =
            serde_json::from_slice(response.body()).context("renewal information")?;
        let wait = retry_after(response.headers()).unwrap_or(DEFAULT_POLL);
        let wait = wait.clamp(MIN_POLL, MAX_POLL).as_secs();
        let again = timestamp::now().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
        info.retry_after = Some(format(again));
        info.identifier = id;
        info.choose(old)?;
        Ok(Some(info))
    }
}

/// The name under which an authority knows a certificate (RFC 9773, 4.1).
pub(crate) fn certificate_id(leaf: &CertificateDer<'_>) -> Result<String> {
    let id = instant_acme::CertificateIdentifier::try_from(leaf).map_err(Error::new)?;
    let text = id.to_string();
    debug_assert!(text.split('.').all(|part| BASE64_URL_SAFE_NO_PAD.decode(part).is_ok()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{RenewalInfo, parse};

    fn info(start: &str, end: &str) -> RenewalInfo {
        let json = format!(r#"{{"suggestedWindow": {{"start": "{start}", "end": "{end}"}}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_time_in_the_window_is_chosen_once() {
        let mut one = info("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z");
        one.choose(None).unwrap();
        let at = one.selected_at().unwrap();
        assert!((1_735_790_400..=1_735_876_800).contains(&at), "{at}");
        for _ in 0..10 {
            let mut again = info("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z");
            again.choose(Some(&one)).unwrap();
            assert_eq!(again.selected, one.selected);
        }
        let mut moved = info("2024-01-02T04:00:00Z", "2024-01-02T04:00:00Z");
        moved.choose(Some(&one)).unwrap();
        assert_eq!(moved.selected_at(), parse("2024-01-02T04:00:00Z"));
        assert!(info("2025-01-02T04:00:00Z", "2024-01-03T04:00:00Z").choose(None).is_err());
        assert!(info("x", "y").choose(None).is_err());
    }
}
