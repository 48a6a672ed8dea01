//! `tls.permission.http`: asks a URL whether a name may get a certificate (T098).
//!
//! JSON: `{"permission": {"module": "http", "endpoint": "http://…"}}`, or the old form
//! `{"ask": "http://…"}`. A GET with `domain=name` in the query; any 2xx answer allows; redirects
//! are not followed; ten seconds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use caddis_config::{ConfigError, tls::OnDemandConfig};
use caddis_core::template::{Template, Unknown};
use caddis_dns::http::{HttpClient, HttpOptions};
use http::Request;
use serde_json::Value;

use crate::{automate::Permission, url};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The permission of a configuration; none where none is configured.
///
/// # Errors
/// An unknown module, an unusable URL.
pub fn on_demand_permission(
    config: Option<&OnDemandConfig>,
) -> Result<Option<Permission>, ConfigError> {
    let Some(config) = config else { return Ok(None) };
    let endpoint = match &config.permission {
        Some(json) => {
            let module = json.get("module").and_then(Value::as_str).unwrap_or_default();
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
    Ok(Some(Permission::new(move |name| {
        let (endpoint, client) = (endpoint.clone(), client.clone());
        async move {
            let url = url::with_query(&endpoint, [("domain", name.clone())]);
            let request = Request::get(url).body(Bytes::new());
            let request = request.map_err(|error| format!("{name}: {error}"))?;
            match client.send(request).await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => {
                    Err(format!("{name}: non-2xx status code {}", answer.status().as_u16()))
                }
                Err(error) => Err(format!("{name}: asking {endpoint}: {error}")),
            }
        }
    })))
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
