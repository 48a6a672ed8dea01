//! `tls.permission.http`: asks a URL whether a name may get a certificate (T098).
//!
//! JSON: `{"permission": {"module": "http", "endpoint": "http://…"}}`, or the old form
//! `{"ask": "http://…"}`. A GET with `domain=name` in the query; any 2xx answer allows; redirects
//! are not followed; ten seconds. That it says no is for `debug`; that it cannot be asked is an error.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_config::{ConfigError, tls::OnDemandConfig};
use caddis_core::template::{Template, Unknown};
use caddis_dns::http::{HttpClient, HttpOptions};
use http::{Request, StatusCode};
use serde_json::Value;

use crate::{automate::Permission, url};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Strangers choose the names, so an endpoint that is away is told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The permission of a configuration; none where none is configured.
///
/// # Errors
/// An unknown module, an unusable URL.
pub fn on_demand_permission(
    config: Option<&OnDemandConfig>,
) -> Result<Option<Permission>, ConfigError> {
    let Some(config) = config else { return Ok(None) };
    if config.permission.is_some() && !config.ask.is_empty() {
        let message = "on-demand TLS config conflict: both 'ask' endpoint and a 'permission' module \
            are specified; 'ask' is deprecated, so use only the permission module";
        return Err(ConfigError::new("ask", message));
    }
    let endpoint = match &config.permission {
        Some(json) => {
            let module = json.get("module").and_then(Value::as_str).unwrap_or_default();
            if module.is_empty() {
                let message = "loading on-demand TLS permission module: module name not specified \
                    with key 'module'";
                return Err(ConfigError::new("permission", message));
            }
            if module != "http" {
                let message = format!("unknown module: tls.permission.{module}");
                return Err(ConfigError::new("permission", message));
            }
            json.get("endpoint").and_then(Value::as_str).unwrap_or_default()
        }
        None if config.ask.is_empty() => return Ok(None),
        None => &config.ask,
    };
    let endpoint: Arc<str> = Template::render_global(endpoint, Unknown::Keep).into();
    if !url::is_http(&endpoint) {
        let message = format!("parsing permission endpoint URL: {endpoint}");
        return Err(ConfigError::new("permission", message));
    }
    let options = HttpOptions { timeout: TIMEOUT, ..HttpOptions::default() };
    let client = Arc::new(HttpClient::with(options));
    let told = Arc::new(Told::default());
    Ok(Some(Permission::new(move |name| {
        let (endpoint, client, told) = (endpoint.clone(), client.clone(), told.clone());
        async move {
            let url = url::with_query(&endpoint, [("domain", name.clone())]);
            let request = Request::get(url).body(Bytes::new());
            let request = request.map_err(|error| format!("{name}: {error}"))?;
            match client.send_for_head(request).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => {
                    let status = answer.status();
                    // Neither yes nor no: a redirect that somebody expects to be followed, an
                    // endpoint in trouble.
                    if status.is_redirection() || status.is_server_error() {
                        let error = format!("HTTP {}", status.as_u16());
                        told.error(&name, &endpoint, &error, remedy(status));
                    } else {
                        let status = status.as_u16();
                        tracing::debug!(
                            target: "tls",
                            domain = name,
                            status,
                            "on-demand certificate issuance denied"
                        );
                    }
                    Err(format!("{name}: non-2xx status code {}", status.as_u16()))
                }
                Err(error) => {
                    told.error(&name, &endpoint, &error.to_string(), UNREACHABLE);
                    Err(format!("{name}: asking {endpoint}: {error}"))
                }
            }
        }
    })))
}

const UNREACHABLE: &str = "see whether what `ask` names runs and answers within ten seconds";

fn remedy(status: StatusCode) -> &'static str {
    if status.is_redirection() {
        "redirects are not followed: let `ask` name the last URL"
    } else {
        "see what the endpoint that `ask` names has to say about it"
    }
}

/// When it was last told that the endpoint is in trouble, and how often it was not since.
#[derive(Default)]
struct Told(Mutex<Option<(Instant, u64)>>);

impl Told {
    fn error(&self, name: &str, endpoint: &str, error: &str, remedy: &str) {
        let now = Instant::now();
        let silent = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *last {
                Some((at, silent)) if now.saturating_duration_since(*at) < TELL_EVERY => {
                    *silent = silent.saturating_add(1);
                    return;
                }
                last => last.replace((now, 0)).map_or(0, |(_, silent)| silent),
            }
        };
        tracing::error!(
            target: "tls",
            domain = name,
            endpoint,
            error,
            untold = silent,
            remedy,
            "failed to get permission for on-demand certificate"
        );
    }
}

#[cfg(test)]
mod tests {
    use caddis_config::tls::OnDemandConfig;
    use caddis_dns::testing::{Answer, api};

    use super::on_demand_permission;

    #[tokio::test]
    async fn only_2xx_allows() {
        let server = api(|_, count| Answer::new([200, 302, 404][count.min(2)], ""));
        let endpoint = format!("{}/ask?x=y", server.url);
        let config = OnDemandConfig { ask: endpoint, permission: None };
        let permission = on_demand_permission(Some(&config)).unwrap().unwrap();
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(permission.ask("a b.test").await.is_ok());
        }
        assert_eq!(answers, [true, false, false]);
        assert_eq!(server.lines()[0], "GET /ask?domain=a+b.test&x=y");
        let bad = OnDemandConfig { ask: "ftp://h".to_owned(), permission: None };
        assert!(on_demand_permission(Some(&bad)).is_err());
    }
}
