//! `dns.providers.cloudflare`: zones at Cloudflare.
//!
//! ```text
//! dns cloudflare <api_token>
//! dns cloudflare {
//!     api_token  <token>
//!     zone_token <token>
//! }
//! ```
//! JSON: `{"name": "cloudflare", "api_token": "…", "zone_token": "…"}`. The API token needs the
//! permissions Zone.DNS:Edit and Zone.Zone:Read; with a zone token, which has the latter, just the
//! former.

use std::sync::Arc;

use caddis_config::ConfigError;
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, Syntax,
    api::{Api, Call, Secret},
    aws::encode,
    full_name,
    records::{Change, Data, Entry, Records, Steps, zones},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "cloudflare",
    syntax: Syntax {
        argument: Some("api_token"),
        fields: &[Field::text("api_token"), Field::text("zone_token")],
        check: |json| demand(json, &[("api_token", "missing API token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://api.cloudflare.com/client/v4";
/// Records a page.
const PER_PAGE: usize = 100;
/// More are not read: no zone has so many records of one name.
const MOST_PAGES: usize = 100;
/// "Automatic".
const TTL: u64 = 1;
/// The least of those that are not automatic.
const LEAST_TTL: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    api_token: String,
    #[serde(default)]
    zone_token: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Cloudflare::new(json, API)?))
}

#[derive(Debug)]
struct Cloudflare {
    api: Api,
    token: Secret,
    zone_token: Secret,
}

#[derive(Debug, Deserialize)]
struct Envelope<T> {
    #[serde(default = "Vec::new")]
    result: Vec<T>,
    result_info: Option<Info>,
}

#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    total_pages: usize,
}

#[derive(Debug, Deserialize)]
struct Zone {
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Record {
    id: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

impl Cloudflare {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let token = Secret::new(&config.api_token);
        if !valid(&token) {
            return Err(ConfigError::new(
                "api_token",
                "API token appears invalid; ensure it's correctly entered and not wrapped in \
                 braces nor quotes, and that the variable of a placeholder is set",
            ));
        }
        Ok(Self {
            api: Api::new("cloudflare", base),
            token,
            zone_token: Secret::new(&config.zone_token),
        })
    }

    fn call(&self, method: Method, path: String) -> Result<Call, DnsError> {
        Call::new(method, path).authorized("Bearer", &self.token)
    }

    /// All pages of a listing.
    async fn list<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<Vec<T>, DnsError> {
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("{path}&per_page={PER_PAGE}&page={page}");
            let call = Call::new(Method::GET, path).authorized("Bearer", token)?;
            let mut envelope: Envelope<T> = self.api.json(&call).await?;
            let last = envelope.result_info.is_none_or(|info| page >= info.total_pages);
            let empty = envelope.result.is_empty();
            all.append(&mut envelope.result);
            if last || empty {
                break;
            }
        }
        Ok(all)
    }

    async fn zone(&self, zone: &str) -> Result<Zone, DnsError> {
        let token = if self.zone_token.is_empty() { &self.token } else { &self.zone_token };
        for name in zones(zone) {
            let found = self.list::<Zone>(&format!("/zones?name={}", encode(name)), token).await?;
            if let Some(found) = found.into_iter().find(|zone| zone.name == name) {
                return Ok(found);
            }
        }
        Err(self.api.fail(format_args!(
            "no zone for {zone} that the token may read (permissions Zone:Read and DNS:Edit)"
        )))
    }

    /// The records with exactly this name; `filter` is a further part of the query, with a `&`.
    async fn find(&self, zone: &Zone, full: &str, filter: &str) -> Result<Vec<Record>, DnsError> {
        let id = encode(&zone.id);
        let path = format!("/zones/{id}/dns_records?{filter}name={}", encode(full));
        self.list(&path, &self.token).await
    }

    /// Makes a change; a record that is there is not added again: the API refuses that.
    async fn change_one(
        &self,
        zone: &Zone,
        full: &str,
        entry: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let found = self.find(zone, full, &format!("type={}&", entry.kind())).await?;
        let found = found.into_iter().map(|record| (record.id, record.content));
        let steps = Steps::of(change, &entry, found);
        let path = format!("/zones/{}/dns_records", encode(&zone.id));
        if steps.add {
            let body = body(full, &entry);
            self.api.expect(&self.call(Method::POST, path.clone())?.json(&body)).await?;
        }
        for old in steps.remove {
            let call = self.call(Method::DELETE, format!("{path}/{}", encode(&old)))?;
            self.api.take_away(&call).await?;
        }
        Ok(())
    }
}

/// A record as the API takes it.
fn body(full: &str, entry: &Entry<'_>) -> Value {
    let mut body = json!({
        "type": entry.kind(),
        "name": full,
        "ttl": if entry.ttl.is_zero() { TTL } else { entry.ttl(TTL, LEAST_TTL) },
    });
    match entry.data {
        Data::Text(_) => body["content"] = entry.written().into(),
        Data::Alias(target) => {
            // Names are absolute without a dot.
            body["content"] = target.into();
            // An alias behind Cloudflare's proxy would not be seen.
            body["proxied"] = false.into();
        }
        // In parts alone.
        Data::Service(binding) => {
            body["data"] = json!({
                "priority": binding.priority,
                "target": format!("{}.", binding.target),
                "value": binding.params.to_string(),
            });
        }
    }
    body
}

/// Cloudflare's tokens: 35 to 50 characters, or a longer text after `cfut_` and `cfat_`.
fn valid(token: &str) -> bool {
    let plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let rest = token.strip_prefix("cfut_").or_else(|| token.strip_prefix("cfat_"));
    plain(token)
        && ((35..=50).contains(&token.len())
            || rest.is_some_and(|rest| (32..=256).contains(&rest.len())))
}

impl Records for Cloudflare {
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        Box::pin(async move {
            let found = self.zone(zone).await?;
            for entry in entries {
                self.change_one(&found, &entry.full_name(zone), entry, change).await?;
            }
            Ok(())
        })
    }

    fn look<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(async move {
            let found = self.zone(zone).await?;
            let mut records = NameRecords::default();
            for record in self.find(&found, &full_name(name, zone), "").await? {
                records.add(&record.kind, &record.content)?;
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::{Cloudflare, valid};
    use crate::{
        DnsProvider,
        testing::{
            Answer, Kept, OUR_SERVICE, Seen, Server, THEIR_SERVICE, api, kept, set_service_beside,
            txt, values,
        },
    };

    /// Ids and contents.
    type Records = Arc<Mutex<Vec<(String, String)>>>;

    const TOKEN: &str = "0123456789012345678901234567890123456789";

    /// One zone, `a.test`, with these values at `_acme-challenge.a.test`; one record a page.
    fn fake(values: &[&str]) -> (Server, Records) {
        let records: Vec<(String, String)> = values
            .iter()
            .enumerate()
            .map(|(id, value)| (format!("r{id}"), (*value).into()))
            .collect();
        let records = Arc::new(Mutex::new(records));
        let kept = records.clone();
        let server = api(move |seen: &Seen, count| {
            let mut records = kept.lock().unwrap();
            let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
            let page = query.rsplit_once("page=").map_or(1, |(_, page)| page.parse().unwrap());
            match (&*seen.method, path) {
                ("GET", "/zones") if query.starts_with("name=a.test&") => {
                    Answer::new(200, json!({"result": [{"id": "z1", "name": "a.test"}]}))
                }
                ("GET", "/zones") => Answer::new(200, json!({"success": true, "result": []})),
                ("GET", "/zones/z1/dns_records") => {
                    assert!(query.contains("type=TXT&name=_acme-challenge.sub.a.test&"), "{query}");
                    let shown: Vec<Value> = records
                        .iter()
                        .skip(page - 1)
                        .take(1)
                        .map(|(id, content)| json!({"id": id, "content": content}))
                        .collect();
                    let pages = records.len();
                    Answer::new(
                        200,
                        json!({"result": shown, "result_info": {"total_pages": pages}}),
                    )
                }
                ("POST", "/zones/z1/dns_records") => {
                    let body = seen.json();
                    assert_eq!(body["type"], "TXT");
                    assert_eq!(body["name"], "_acme-challenge.sub.a.test");
                    let content = body["content"].as_str().unwrap().to_owned();
                    records.push((format!("n{count}"), content));
                    Answer::new(200, json!({"success": true, "result": {}}))
                }
                ("DELETE", path) => {
                    let id = path.strip_prefix("/zones/z1/dns_records/").unwrap();
                    records.retain(|(kept, _)| kept != id);
                    Answer::new(200, json!({"success": true, "result": {"id": id}}))
                }
                _ => Answer::new(400, json!({"errors": [{"code": 7, "message": "what?"}]})),
            }
        });
        (server, records)
    }

    fn provider(server: &Server) -> Cloudflare {
        Cloudflare::new(&json!({"api_token": TOKEN}), &server.url).unwrap()
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let (server, records) = fake(&["\"one\"", "two"]);
        let provider = provider(&server);
        let ours = [txt("_acme-challenge", "ours"), txt("_acme-challenge", "two")];
        provider.append("sub.a.test", &ours).await.unwrap();
        let values = || records.lock().unwrap().iter().map(|at| at.1.clone()).collect::<Vec<_>>();
        assert_eq!(values(), ["\"one\"", "two", "\"ours\""]);
        provider.delete("sub.a.test", &ours[..1]).await.unwrap();
        assert_eq!(values(), ["\"one\"", "two"]);
        // Gone is gone.
        provider.delete("sub.a.test", &ours[..1]).await.unwrap();
        assert!(server.seen().iter().all(|seen| seen.header("authorization").ends_with(TOKEN)));
        assert!(server.lines()[0].starts_with("GET /zones?name=sub.a.test&"));
    }

    #[tokio::test]
    async fn zone_tokens_read_zones() {
        let (server, _) = fake(&[]);
        let json = json!({"api_token": TOKEN, "zone_token": "zt"});
        let provider = Cloudflare::new(&json, &server.url).unwrap();
        provider.delete("sub.a.test", &[txt("_acme-challenge", "x")]).await.unwrap();
        for seen in server.seen() {
            let zone = seen.path.starts_with("/zones?");
            assert_eq!(seen.header("authorization") == "Bearer zt", zone);
        }
        let error = provider.append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("cloudflare: no zone for b.test"), "{error}");
    }

    #[tokio::test]
    async fn refusals_are_told_without_the_token() {
        let server = api(|_, count| match count {
            0 => Answer::new(429, "{}").header("retry-after", "0"),
            _ => Answer::new(
                403,
                json!({"success": false, "errors": [{"code": 9109, "message": format!("Invalid {TOKEN}")}]}),
            ),
        });
        let error = provider(&server).append("a.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "cloudflare: HTTP 403: Invalid *** (9109)");
        assert_eq!(server.seen().len(), 2);
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let records = all.clone();
        let server = api(move |seen, _| {
            let mut records = records.lock().unwrap();
            let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
            match (&*seen.method, path) {
                ("GET", "/zones") => {
                    Answer::new(200, json!({"result": [{"id": "z1", "name": "a.test"}]}))
                }
                ("GET", _) => {
                    let is_asked = |record: &Kept| {
                        query.contains(&format!("name={}.a.test&", record.name))
                            && (!query.contains("type=")
                                || query.contains(&format!("type={}&", record.kind)))
                    };
                    let shown = records.iter().filter(|record| is_asked(record));
                    let shown: Vec<Value> = shown
                        .map(|record| {
                            let Kept { id, kind, value, .. } = record;
                            json!({"id": id.to_string(), "type": kind, "content": value})
                        })
                        .collect();
                    Answer::new(200, json!({"result": shown}))
                }
                ("POST", "/zones/z1/dns_records") => {
                    let want = json!({
                        "type": "HTTPS",
                        "name": "www.a.test",
                        "ttl": 300,
                        "data": {
                            "priority": 2,
                            "target": ".",
                            "value": "alpn=\"h3,h2\" ech=\"AAA=\"",
                        },
                    });
                    assert_eq!(seen.json(), want);
                    records.push(Kept {
                        id: 9,
                        name: "www".into(),
                        kind: "HTTPS".into(),
                        value: OUR_SERVICE.into(),
                    });
                    Answer::new(200, json!({"success": true}))
                }
                ("DELETE", "/zones/z1/dns_records/3") => {
                    records.retain(|record| record.id != 3);
                    Answer::new(200, json!({"success": true}))
                }
                _ => Answer::new(400, "{}"),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let records = all.lock().unwrap();
        assert_eq!(values(&records, "www", "HTTPS"), [THEIR_SERVICE, OUR_SERVICE]);
        let writes = server.lines().iter().filter(|line| !line.starts_with("GET")).count();
        assert_eq!((records.len(), writes), (4, 2));
    }

    #[test]
    fn odd_tokens_are_refused() {
        assert!(valid(TOKEN) && valid(&format!("cfut_{TOKEN}{TOKEN}")));
        for token in ["", "short", &format!("{{{TOKEN}}}"), &format!("{TOKEN}{TOKEN}")] {
            assert!(!valid(token), "{token}");
        }
        let error = Cloudflare::new(&json!({"api_token": "{env.CADDIS_NO_SUCH}"}), "http://x");
        assert!(error.unwrap_err().to_string().starts_with("api_token: API token appears"));
    }
}
