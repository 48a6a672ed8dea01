//! `dns.providers.gandi`: Gandi's LiveDNS.
//!
//! ```text
//! dns gandi [<bearer_token>] {
//!     bearer_token <token>
//! }
//! ```
//! JSON: `{"name": "gandi", "bearer_token": "…"}`: a personal access token with "See and renew
//! domain names" and "Manage domain name technical configurations".

use std::sync::Arc;

use caddis_config::ConfigError;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, Syntax,
    api::{Api, Call, Secret},
    aws::encode,
    full_name,
    records::{Change, Entry, Records, each, relative},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "gandi",
    syntax: Syntax {
        argument: Some("bearer_token"),
        fields: &[Field::text("bearer_token").once("Bearer token already set")],
        check: |json| demand(json, &[("bearer_token", "missing API token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://api.gandi.net/v5/livedns";
/// The least that the API takes.
const TTL: u64 = 300;
/// All values of a name are written at once, so two writers take turns.
static WRITING: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    bearer_token: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Gandi::new(json, API)?))
}

#[derive(Debug)]
struct Gandi {
    api: Api,
    token: Secret,
}

#[derive(Debug, Deserialize)]
struct RecordSet {
    #[serde(default)]
    rrset_type: String,
    #[serde(default)]
    rrset_values: Vec<String>,
    rrset_ttl: Option<u64>,
}

impl Gandi {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        Ok(Self { api: Api::new("gandi", base), token: Secret::new(&config.bearer_token) })
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Result<Call, DnsError> {
        let token = self.api.required("bearer_token", &self.token)?;
        Call::new(method, path).authorized("Bearer", token)
    }

    async fn zone<'a>(&self, zone: &'a str) -> Result<&'a str, DnsError> {
        let call = |name: &str| self.call(Method::GET, format!("/domains/{}", encode(name)));
        self.api.zone(zone, call).await
    }

    /// Changes the values of a record's name.
    async fn change_one(
        &self,
        zone: &str,
        record: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let full = record.full_name(zone);
        let home = self.zone(zone).await?;
        let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?;
        let path = format!("/domains/{}/records/{}/{}", encode(home), encode(&name), record.kind());
        let _turn = WRITING.lock().await;
        let old: Option<RecordSet> =
            self.api.json_if_there(&self.call(Method::GET, &path)?).await?;
        let (mut values, kept_ttl) =
            old.map(|old| (old.rrset_values, old.rrset_ttl)).unwrap_or_default();
        if !change.apply(&mut values, &record) {
            return Ok(());
        }
        if values.is_empty() {
            return self.api.take_away(&self.call(Method::DELETE, &path)?).await;
        }
        let ttl = record.ttl_among(&values, kept_ttl, TTL, TTL);
        let body = json!({"rrset_values": values, "rrset_ttl": ttl});
        self.api.expect(&self.call(Method::PUT, &path)?.json(&body)).await?;
        Ok(())
    }
}

impl Records for Gandi {
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        each(entries, move |entry| self.change_one(zone, entry, change))
    }

    fn look<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(async move {
            let full = full_name(name, zone);
            let home = self.zone(zone).await?;
            let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?;
            let path = format!("/domains/{}/records/{}", encode(home), encode(&name));
            let call = self.call(Method::GET, path)?;
            let mut records = NameRecords::default();
            for set in self.api.json_if_there::<Vec<RecordSet>>(&call).await?.unwrap_or_default() {
                for value in set.rrset_values {
                    records.add(&set.rrset_type, &value)?;
                }
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Gandi;
    use crate::{
        DnsProvider,
        testing::{
            Answer, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, api_of_values, change_beside,
            kept, set_service_beside, set_values, txt, values,
        },
    };

    fn fake(values: &[&str]) -> Server {
        api_of_values(values, move |seen, values| {
            assert_eq!(seen.header("authorization"), "Bearer tok");
            let set = "/domains/a.test/records/_acme-challenge.sub/TXT";
            match (&*seen.method, &*seen.path) {
                ("GET", "/domains/a.test") => Answer::new(200, json!({"fqdn": "a.test"})),
                ("GET", path) if path == set && !values.is_empty() => {
                    Answer::new(200, json!({"rrset_values": *values, "rrset_ttl": 900}))
                }
                ("PUT", path) if path == set => {
                    *values = serde_json::from_value(seen.json()["rrset_values"].clone()).unwrap();
                    Answer::new(201, json!({"message": "DNS Record Created"}))
                }
                ("DELETE", path) if path == set => {
                    values.clear();
                    Answer::new(204, "")
                }
                _ => Answer::new(404, json!({"code": 404, "message": "not here"})),
            }
        })
    }

    fn provider(server: &Server) -> Gandi {
        Gandi::new(&json!({"bearer_token": "tok"}), &server.url).unwrap()
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let server = fake(&["\"one\""]);
        let provider = provider(&server);
        change_beside(&provider, "sub.a.test", "one").await;
        let bodies: Vec<_> = server
            .seen()
            .iter()
            .filter(|seen| seen.method == "PUT")
            .map(|seen| (seen.json()["rrset_values"].clone(), seen.json()["rrset_ttl"].clone()))
            .collect();
        let want = [json!(["\"one\"", "\"ours\""]), json!(["\"one\""])];
        assert_eq!(bodies, want.map(|values| (values, json!(900))));
    }

    #[tokio::test]
    async fn the_last_value_takes_the_record_along() {
        let server = fake(&[]);
        let provider = provider(&server);
        let ours = [txt("_acme-challenge", "ours")];
        provider.append("sub.a.test", &ours).await.unwrap();
        assert_eq!(server.seen().last().unwrap().json()["rrset_ttl"], 300);
        provider.delete("sub.a.test", &ours).await.unwrap();
        assert!(server.lines().last().unwrap().starts_with("DELETE "));
        let before = server.seen().len();
        provider.delete("sub.a.test", &ours).await.unwrap();
        assert!(server.lines()[before..].iter().all(|line| line.starts_with("GET ")));
    }

    #[tokio::test]
    async fn two_writers_lose_nothing() {
        let server = fake(&[]);
        let provider = provider(&server);
        let (one, two) = ([txt("_acme-challenge", "1")], [txt("_acme-challenge", "2")]);
        let both =
            tokio::join!(provider.append("sub.a.test", &one), provider.append("sub.a.test", &two));
        assert!(both.0.is_ok() && both.1.is_ok());
        let last = server.seen().into_iter().rfind(|seen| seen.method == "PUT").unwrap();
        assert_eq!(last.json()["rrset_values"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("gandi: no zone for b.test"), "{error}");
        let server = api(|_, count| match count {
            0 => Answer::new(429, "{}").header("retry-after", "0"),
            _ => Answer::new(403, json!({"code": 403, "message": "Access denied", "cause": "tok"})),
        });
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "gandi: HTTP 403: Access denied (403)");
    }

    #[tokio::test]
    async fn aliases_come_and_go() {
        let server = api(|seen, count| match (&*seen.method, &*seen.path) {
            ("GET", "/domains/a.test") => Answer::new(200, "{}"),
            ("GET", "/domains/a.test/records/_x/CNAME") if count > 2 => {
                Answer::new(200, json!({"rrset_values": ["Y.other.test."], "rrset_ttl": 300}))
            }
            ("PUT" | "DELETE", "/domains/a.test/records/_x/CNAME") => Answer::new(200, "{}"),
            _ => Answer::new(404, "{}"),
        });
        let provider = Gandi::new(&json!({"bearer_token": "tok"}), &server.url).unwrap();
        let ours = alias("_x", "y.other.test");
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.delete_alias("a.test", &ours).await.unwrap();
        let writes: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method != "GET").collect();
        assert_eq!(writes.len(), 2);
        assert_eq!(writes[0].json()["rrset_values"], json!(["y.other.test."]));
        assert_eq!(writes[1].method, "DELETE");
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let server = api(move |seen, _| {
            let mut all = all.lock().unwrap();
            let path = seen.path.strip_prefix("/domains/a.test").unwrap();
            match (&*seen.method, path) {
                ("GET", "") => Answer::new(200, "{}"),
                ("GET", "/records/www/HTTPS") => {
                    let values = values(&all, "www", "HTTPS");
                    Answer::new(200, json!({"rrset_values": values, "rrset_ttl": 900}))
                }
                ("PUT", "/records/www/HTTPS") => {
                    let values: Vec<String> =
                        serde_json::from_value(seen.json()["rrset_values"].clone()).unwrap();
                    set_values(&mut all, "www", "HTTPS", &values);
                    Answer::new(201, "{}")
                }
                ("GET", path) => {
                    let name = path.strip_prefix("/records/").unwrap();
                    let found = all.iter().filter(|record| record.name == name);
                    let sets: Vec<_> = found
                        .map(|one| json!({"rrset_type": one.kind, "rrset_values": [one.value]}))
                        .collect();
                    if sets.is_empty() {
                        Answer::new(404, "{}")
                    } else {
                        Answer::new(200, json!(sets))
                    }
                }
                _ => Answer::new(400, "{}"),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let writes: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method != "GET").collect();
        assert_eq!(writes.len(), 1);
        let want = json!({"rrset_values": [THEIR_SERVICE, OUR_SERVICE], "rrset_ttl": 900});
        assert_eq!(writes[0].json(), want);
    }

    #[tokio::test]
    async fn a_service_of_our_own_lives_five_minutes() {
        let server = api(|seen, _| match (&*seen.method, &*seen.path) {
            ("GET", "/domains/a.test/records/www/HTTPS") => {
                Answer::new(200, json!({"rrset_values": ["2 . alpn=h2"], "rrset_ttl": 10800}))
            }
            _ => Answer::new(200, "{}"),
        });
        let record = crate::ServiceRecord {
            name: "www".into(),
            binding: OUR_SERVICE.parse().unwrap(),
            ttl: std::time::Duration::from_secs(300),
        };
        provider(&server).set_service("a.test", &record).await.unwrap();
        let want = json!({"rrset_values": [OUR_SERVICE], "rrset_ttl": 300});
        assert_eq!(server.seen().last().unwrap().json(), want);
    }
}
