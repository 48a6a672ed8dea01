//! `dns.providers.desec`: deSEC.
//!
//! ```text
//! dns desec {
//!     token <token>
//! }
//! ```
//! JSON: `{"name": "desec", "token": "…"}`. `dns desec <token>` is understood, too.

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
    records::{Change, Entry, Records, each, relative, zones},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "desec",
    syntax: Syntax {
        argument: Some("token"),
        fields: &[Field::text("token").once("token already set")],
        check: |json| demand(json, &[("token", "missing token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://desec.io/api/v1";
/// The least that zones allow unless asked for otherwise.
const TTL: u64 = 3600;
/// All values of a name are written at once, so two writers take turns.
static WRITING: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    token: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Desec::new(json, API)?))
}

#[derive(Debug)]
struct Desec {
    api: Api,
    token: Secret,
}

#[derive(Debug, Deserialize)]
struct Domain {
    /// The least time to live in this zone.
    minimum_ttl: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct RecordSet {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    records: Vec<String>,
    ttl: Option<u64>,
}

impl Desec {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        Ok(Self { api: Api::new("desec", base), token: Secret::new(&config.token) })
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Result<Call, DnsError> {
        let token = self.api.required("token", &self.token)?;
        Call::new(method, path).authorized("Token", token)
    }

    async fn zone<'a>(&self, zone: &'a str) -> Result<(&'a str, u64), DnsError> {
        for name in zones(zone) {
            let call = self.call(Method::GET, format!("/domains/{}/", encode(name)))?;
            if let Some(domain) = self.api.json_if_there::<Domain>(&call).await? {
                return Ok((name, domain.minimum_ttl.unwrap_or(TTL)));
            }
        }
        Err(self.api.no_zone(zone))
    }

    /// Changes the values of a record's name.
    async fn change_one(
        &self,
        zone: &str,
        record: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let full = record.full_name(zone);
        let (home, least) = self.zone(zone).await?;
        let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?;
        let sets = format!("/domains/{}/rrsets/", encode(home));
        // In paths the zone itself is `@`, in bodies nothing.
        let one = match &*name {
            "@" => format!("{sets}@/{}/", record.kind()),
            name => format!("{sets}{}/{}/", encode(name), record.kind()),
        };
        let _turn = WRITING.lock().await;
        let old: Option<RecordSet> = self.api.json_if_there(&self.call(Method::GET, one)?).await?;
        let (mut values, kept_ttl) = old.map(|old| (old.records, old.ttl)).unwrap_or_default();
        if !change.apply(&mut values, &record) {
            return Ok(());
        }
        // A set without values is taken away.
        let body = json!([{
            "subname": if name == "@" { "" } else { &name },
            "type": record.kind(),
            "ttl": record.ttl_among(&values, kept_ttl, least, least),
            "records": values,
        }]);
        self.api.expect(&self.call(Method::PUT, sets)?.json(&body)).await?;
        Ok(())
    }
}

impl Records for Desec {
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
            let (home, _) = self.zone(zone).await?;
            let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?;
            let name = if name == "@" { String::new() } else { encode(&name) };
            let path = format!("/domains/{}/rrsets/?subname={name}", encode(home));
            let mut records = NameRecords::default();
            for set in self.api.json::<Vec<RecordSet>>(&self.call(Method::GET, path)?).await? {
                for value in set.records {
                    records.add(&set.kind, &value)?;
                }
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Desec;
    use crate::{
        DnsProvider,
        testing::{
            Answer, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, api_of_values, change_beside,
            kept, set_service_beside, set_values, txt, values,
        },
    };

    fn fake(values: &[&str]) -> Server {
        api_of_values(values, move |seen, values| {
            assert_eq!(seen.header("authorization"), "Token tok");
            match (&*seen.method, &*seen.path) {
                ("GET", "/domains/a.test/") => Answer::new(200, json!({"minimum_ttl": 60})),
                (
                    "GET",
                    "/domains/a.test/rrsets/_acme-challenge/TXT/" | "/domains/a.test/rrsets/@/TXT/",
                ) if !values.is_empty() => {
                    Answer::new(200, json!({"records": *values, "ttl": 7200}))
                }
                ("PUT", "/domains/a.test/rrsets/") => {
                    let body = seen.json();
                    *values = serde_json::from_value(body[0]["records"].clone()).unwrap();
                    Answer::new(200, body)
                }
                _ => Answer::new(404, json!({"detail": "Not found."})),
            }
        })
    }

    fn provider(server: &Server) -> Desec {
        Desec::new(&json!({"token": "tok"}), &server.url).unwrap()
    }

    fn written(server: &Server) -> Vec<serde_json::Value> {
        let all = server.seen().into_iter().filter(|seen| seen.method == "PUT");
        all.map(|seen| seen.json()[0].clone()).collect()
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let server = fake(&["\"one\""]);
        let provider = provider(&server);
        change_beside(&provider, "a.test", "one").await;
        let set = |records| json!({"subname": "_acme-challenge", "type": "TXT", "ttl": 7200, "records": records});
        assert_eq!(
            written(&server),
            [set(json!(["\"one\"", "\"ours\""])), set(json!(["\"one\""]))]
        );
    }

    #[tokio::test]
    async fn the_zone_itself_has_no_subname() {
        let server = fake(&[]);
        let provider = provider(&server);
        provider.append("a.test", &[txt("@", "ours")]).await.unwrap();
        provider.delete("a.test", &[txt("@", "ours")]).await.unwrap();
        let set = |records| json!({"subname": "", "type": "TXT", "ttl": 60, "records": records});
        let all = written(&server);
        assert_eq!(all[0], set(json!(["\"ours\""])));
        assert_eq!(all[1]["records"], json!([]));
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("desec: no zone for b.test"), "{error}");
        let server = api(|_, count| match count {
            0 => Answer::new(429, json!({"detail": "throttled"})).header("retry-after", "0"),
            _ => Answer::new(401, json!({"detail": "No such key: tok."})),
        });
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "desec: HTTP 401: No such key: ***.");
    }

    #[tokio::test]
    async fn aliases_take_the_place_of_old_ones() {
        let values = std::sync::Mutex::new(vec!["old.test.".to_owned()]);
        let server = api(move |seen, _| match (&*seen.method, &*seen.path) {
            ("GET", "/domains/a.test/") => Answer::new(200, json!({"minimum_ttl": 60})),
            ("GET", "/domains/a.test/rrsets/_x/CNAME/") => {
                Answer::new(200, json!({"records": *values.lock().unwrap(), "ttl": 7200}))
            }
            ("PUT", "/domains/a.test/rrsets/") => {
                let body = seen.json();
                *values.lock().unwrap() =
                    serde_json::from_value(body[0]["records"].clone()).unwrap();
                Answer::new(200, body)
            }
            _ => Answer::new(404, "{}"),
        });
        let (provider, ours) = (provider(&server), alias("_x", "y.new.test"));
        for _ in 0..2 {
            provider.append_alias("a.test", &ours).await.unwrap();
        }
        for _ in 0..2 {
            provider.delete_alias("a.test", &ours).await.unwrap();
        }
        let set =
            |records| json!({"subname": "_x", "type": "CNAME", "ttl": 7200, "records": records});
        assert_eq!(written(&server), [set(json!(["y.new.test."])), set(json!([]))]);
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let server = api(move |seen, _| {
            let mut all = all.lock().unwrap();
            let sets = seen.path.strip_prefix("/domains/a.test/rrsets/");
            match (&*seen.method, sets) {
                ("GET", None) => Answer::new(200, json!({"minimum_ttl": 60})),
                ("GET", Some("www/HTTPS/")) => {
                    let values = values(&all, "www", "HTTPS");
                    Answer::new(200, json!({"type": "HTTPS", "records": values, "ttl": 7200}))
                }
                ("GET", Some(query)) => {
                    let name = query.strip_prefix("?subname=").unwrap();
                    let found = all.iter().filter(|record| record.name == name);
                    let sets: Vec<_> = found
                        .map(|record| json!({"type": record.kind, "records": [record.value]}))
                        .collect();
                    Answer::new(200, json!(sets))
                }
                ("PUT", Some("")) => {
                    let values: Vec<String> =
                        serde_json::from_value(seen.json()[0]["records"].clone()).unwrap();
                    set_values(&mut all, "www", "HTTPS", &values);
                    Answer::new(200, "[]")
                }
                _ => Answer::new(404, "{}"),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let want = json!({
            "subname": "www",
            "type": "HTTPS",
            "ttl": 7200,
            "records": [THEIR_SERVICE, OUR_SERVICE],
        });
        assert_eq!(written(&server), [want]);
    }
}
