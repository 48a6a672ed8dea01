//! `dns.providers.duckdns`: names below duckdns.org.
//!
//! ```text
//! dns duckdns [<api_token>] {
//!     api_token       <token>
//!     override_domain <name>.duckdns.org
//!     resolver        <address>
//! }
//! ```
//! JSON: `{"name": "duckdns", "api_token": "…", "override_domain": "…", "resolver": "…"}`. The
//! resolver is for reading records, which nothing here does.
//!
//! Duck DNS has one text for each domain, which it shows at every name below. So validations of the
//! same domain take turns: one begins when the record of the one before is taken away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caddis_config::ConfigError;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, Provider, Syntax, TxtRecord,
    api::{Api, Call, Secret, expand},
    aws::encode,
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "duckdns",
    syntax: Syntax {
        argument: Some("api_token"),
        fields: &[
            Field::text("api_token").once("API token already set"),
            Field::text("override_domain").once("Override domain already set"),
            Field::text("resolver").once("Resolver already set"),
        ],
        check: |json| demand(json, &[("api_token", "DuckDNS missing API token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://www.duckdns.org";
const DOMAIN: &str = "duckdns.org";
/// How long a validation waits for its turn.
const PATIENCE: Duration = Duration::from_secs(120);
/// A turn ends by itself: whoever had it may never come back.
const TURN: Duration = Duration::from_secs(300);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    api_token: String,
    #[serde(default)]
    override_domain: String,
    #[serde(default, rename = "resolver")]
    _resolver: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(DuckDns::new(json, API)?))
}

#[derive(Debug)]
struct DuckDns {
    api: Api,
    token: Secret,
    override_domain: String,
}

/// Whose text a domain has, and until when.
#[derive(Debug)]
struct Turns {
    taken: Mutex<Option<HashMap<String, (String, Instant)>>>,
    ended: Notify,
}

static TURNS: Turns = Turns { taken: Mutex::new(None), ended: Notify::const_new() };

impl Turns {
    /// Waits until nobody else has the domain.
    async fn take(&self, domain: &str, value: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended.notified();
            let until = {
                let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
                let taken = taken.get_or_insert_default();
                match taken.get(domain) {
                    Some((other, until)) if other != value && *until > Instant::now() => *until,
                    _ => {
                        let turn = (value.to_owned(), Instant::now() + TURN);
                        taken.insert(domain.to_owned(), turn);
                        return true;
                    }
                }
            };
            if Instant::now() >= deadline {
                return false;
            }
            // A notice may be missed between look and wait; a second is no long wait.
            let wake = until.min(deadline).min(Instant::now() + Duration::from_secs(1));
            let _ = tokio::time::timeout_at(wake, ended).await;
        }
    }

    /// Ends a turn; false where another one has it meanwhile.
    fn end(&self, domain: &str, value: &str) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.get_or_insert_default();
        if taken.get(domain).is_some_and(|(other, _)| other != value) {
            return false;
        }
        taken.remove(domain);
        self.ended.notify_waiters();
        true
    }
}

impl DuckDns {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        Ok(Self {
            api: Api::new("duckdns", base),
            token: Secret::new(&config.api_token),
            override_domain: expand(&config.override_domain),
        })
    }

    /// The account's domain that a name lies in.
    fn domain(&self, full: &str) -> Result<String, DnsError> {
        if !self.override_domain.is_empty() {
            return Ok(self.override_domain.clone());
        }
        let full = full.to_lowercase();
        let below = full.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let label = below.and_then(|below| below.rsplit('.').next()).unwrap_or_default();
        if label.is_empty() {
            return Err(self.api.fail(format_args!(
                "{full} does not lie below {DOMAIN}; where its challenge is delegated there, set \
                 override_domain to that name"
            )));
        }
        Ok(format!("{label}.{DOMAIN}"))
    }

    async fn update(&self, domain: &str, value: &str, clear: bool) -> Result<(), DnsError> {
        let token = self.api.required("api_token", &self.token)?;
        if token.len() != 36 {
            return Err(self.api.fail("the API token must be a UUID of 36 characters"));
        }
        let mut path = format!(
            "/update?domains={}&token={}&txt={}&verbose=true",
            encode(domain),
            encode(token),
            encode(value)
        );
        if clear {
            path.push_str("&clear=true");
        }
        let call = Call::new(Method::GET, path).hiding(token);
        let reply = self.api.expect(&call).await?;
        let said = String::from_utf8_lossy(&reply.body);
        match said.lines().next().unwrap_or_default().trim() {
            "OK" => Ok(()),
            // It says nothing but "KO".
            "KO" => Err(self.api.refused_with(
                &call,
                reply.status,
                &format!("KO: the token is wrong, or {domain} is not of its account"),
            )),
            other => Err(self.api.refused_with(&call, reply.status, other)),
        }
    }
}

impl DnsProvider for DuckDns {
    fn append<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(async move {
            for record in records {
                let domain = self.domain(&record.full_name(zone))?;
                if !TURNS.take(&domain, &record.value, PATIENCE).await {
                    return Err(self.api.fail(format_args!(
                        "{domain} has one text only, and another validation still needs it"
                    )));
                }
                if let Err(error) = self.update(&domain, &record.value, false).await {
                    TURNS.end(&domain, &record.value);
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    fn delete<'a>(&'a self, zone: &'a str, records: &'a [TxtRecord]) -> DnsFuture<'a> {
        Box::pin(async move {
            for record in records {
                let domain = self.domain(&record.full_name(zone))?;
                let ours = {
                    let taken = TURNS.taken.lock().unwrap_or_else(PoisonError::into_inner);
                    let turn = taken.as_ref().and_then(|taken| taken.get(&domain));
                    turn.is_none_or(|(value, _)| *value == record.value)
                };
                if ours {
                    let cleared = self.update(&domain, &record.value, true).await;
                    TURNS.end(&domain, &record.value);
                    cleared?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{DuckDns, TURNS};
    use crate::{
        DnsProvider,
        testing::{Answer, Server, api, txt},
    };

    const TOKEN: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn provider(server: &Server) -> DuckDns {
        DuckDns::new(&json!({"api_token": TOKEN, "resolver": "1.1.1.1:53"}), &server.url).unwrap()
    }

    #[tokio::test]
    async fn texts_are_set_and_cleared_at_the_account_s_domain() {
        let server = api(|_, _| Answer::new(200, "OK\n\n\nUPDATED"));
        let provider = provider(&server);
        let ours = [txt("_acme-challenge.www.one", "v/1")];
        provider.append("duckdns.org", &ours).await.unwrap();
        provider.delete("duckdns.org", &ours).await.unwrap();
        let line =
            format!("GET /update?domains=one.duckdns.org&token={TOKEN}&txt=v%2F1&verbose=true");
        assert_eq!(server.lines(), [line.clone(), line + "&clear=true"]);
    }

    #[tokio::test]
    async fn validations_of_one_domain_take_turns() {
        let server = api(|_, _| Answer::new(200, "OK"));
        let provider = provider(&server);
        let (one, two) = ([txt("_acme-challenge.turns", "1")], [txt("_acme-challenge.turns", "2")]);
        provider.append("duckdns.org", &one).await.unwrap();
        assert!(!TURNS.take("turns.duckdns.org", "2", Duration::ZERO).await);
        // The text is another's: it stays.
        provider.delete("duckdns.org", &two).await.unwrap();
        assert_eq!(server.seen().len(), 1);
        let (second, first) = tokio::join!(
            provider.append("duckdns.org", &two),
            provider.delete("duckdns.org", &one)
        );
        assert!(first.is_ok() && second.is_ok());
        let lines = server.lines();
        assert!(lines[1].contains("txt=1") && lines[1].ends_with("clear=true"), "{lines:?}");
        assert!(lines[2].contains("txt=2&"), "{lines:?}");
        provider.delete("duckdns.org", &two).await.unwrap();
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = api(|_, count| match count {
            0 => Answer::new(429, "").header("retry-after", "0"),
            1 => Answer::new(200, "KO"),
            _ => Answer::new(500, format!("oops {TOKEN}")),
        });
        let provider = provider(&server);
        let ours = [txt("_acme-challenge.bad", "v")];
        let error = provider.append("duckdns.org", &ours).await.unwrap_err().to_string();
        assert!(
            error.starts_with("duckdns: HTTP 200: KO: the token is wrong, or bad.duck"),
            "{error}"
        );
        let error = provider.append("duckdns.org", &ours).await.unwrap_err().to_string();
        assert_eq!(error, "duckdns: HTTP 500: oops ***");
        let error = provider.append("a.test", &ours).await.unwrap_err().to_string();
        assert!(error.contains("override_domain"), "{error}");
        let json = json!({"api_token": "short", "override_domain": "x.duckdns.org"});
        let odd = DuckDns::new(&json, &server.url).unwrap();
        let error = odd.append("a.test", &ours).await.unwrap_err().to_string();
        assert_eq!(error, "duckdns: the API token must be a UUID of 36 characters");
    }
}
