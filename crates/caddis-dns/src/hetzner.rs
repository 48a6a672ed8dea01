//! `dns.providers.hetzner`: zones in the Hetzner Console (Cloud API).
//!
//! ```text
//! dns hetzner [<api_token>] {
//!     api_token <token>
//! }
//! ```
//! JSON: `{"name": "hetzner", "api_token": "…"}`: a token of the project with the zone, with
//! permission to read and write. Tokens of the DNS Console, which came before, do not work here.

use std::{sync::Arc, time::Duration};

use caddis_config::ConfigError;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, Syntax,
    api::{Api, Call, Secret},
    aws::encode,
    full_name,
    records::{Change, Data, Entry, Records, each, relative},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "hetzner",
    syntax: Syntax {
        argument: Some("api_token"),
        // The plugin's own block form takes no value by a slip; what its manual says is meant.
        fields: &[Field::text("api_token").once("API token already set")],
        check: |json| demand(json, &[("api_token", "missing API token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://api.hetzner.cloud/v1";
/// A zone is locked while an action changes it.
const LOCKED: StatusCode = StatusCode::LOCKED;
/// The longest time for an action, and for a lock to end.
const LIMIT: Duration = Duration::from_secs(60);
/// Actions of one process take turns.
static WRITING: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    api_token: String,
    #[serde(default)]
    auth_api_token: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Hetzner::new(json, API)?))
}

#[derive(Debug)]
struct Hetzner {
    api: Api,
    token: Secret,
    poll: Duration,
}

#[derive(Debug, Deserialize)]
struct Answer {
    action: Action,
}

#[derive(Debug, Deserialize)]
struct Action {
    id: u64,
    status: String,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Found {
    rrset: RecordSet,
}

#[derive(Debug, Deserialize)]
struct AllFound {
    #[serde(default)]
    rrsets: Vec<RecordSet>,
}

#[derive(Debug, Deserialize)]
struct RecordSet {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

impl Hetzner {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        if !config.auth_api_token.is_empty() {
            return Err(ConfigError::new(
                "auth_api_token",
                "the API of the DNS Console is not supported: move the zone to the Hetzner \
                 Console and set `api_token` to a token made there",
            ));
        }
        let token = Secret::new(&config.api_token);
        Ok(Self { api: Api::new("hetzner", base), token, poll: Duration::from_secs(1) })
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Result<Call, DnsError> {
        let token = self.api.required("api_token", &self.token)?;
        Call::new(method, path).authorized("Bearer", token)
    }

    async fn zone<'a>(&self, zone: &'a str) -> Result<&'a str, DnsError> {
        let call = |name: &str| self.call(Method::GET, format!("/zones/{}", encode(name)));
        self.api.zone(zone, call).await
    }

    async fn change_one(
        &self,
        zone: &str,
        record: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let full = record.full_name(zone);
        let home = self.zone(zone).await?;
        let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?.to_lowercase();
        let name = if name == "@" { name } else { encode(&name) };
        let set = format!("/zones/{}/rrsets/{name}/{}", encode(home), record.kind());
        let _turn = WRITING.lock().await;
        let found: Option<Found> = self.api.json_if_there(&self.call(Method::GET, &set)?).await?;
        let old = found.map(|found| found.rrset.records).unwrap_or_default();
        let replaced = old.iter().filter(|old| record.replaces(&old.value)).count();
        let same = old.iter().find(|old| record.is(&old.value));
        let (verb, body) = match (change, same) {
            (Change::Add, Some(_)) if replaced < 2 => return Ok(()),
            (Change::Remove, None) => return Ok(()),
            (Change::Add, _) if !old.is_empty() && !matches!(record.data, Data::Text(_)) => {
                let mut all = old;
                all.retain(|old| !record.replaces(&old.value));
                all.push(Record { value: record.written(), comment: None });
                ("set_records", json!({"records": all}))
            }
            (Change::Add, _) => {
                // Without a time to live of its own, it has the zone's.
                let ttl = Some(record.ttl.as_secs()).filter(|ttl| *ttl > 0).map(|ttl| ttl.max(60));
                let mut body = json!({"records": [{"value": record.written()}]});
                if let (Some(ttl), Some(object)) = (ttl, body.as_object_mut()) {
                    object.insert("ttl".into(), ttl.into());
                }
                ("add_records", body)
            }
            // As the API writes it.
            (Change::Remove, Some(old)) => {
                ("remove_records", json!({"records": [{"value": old.value}]}))
            }
        };
        let call = self.call(Method::POST, format!("{set}/actions/{verb}"))?.json(&body);
        let deadline = Instant::now() + LIMIT;
        let reply = loop {
            let reply = self.api.send(&call).await?;
            if reply.status != LOCKED || Instant::now() > deadline {
                break reply;
            }
            tokio::time::sleep(self.poll).await;
        };
        if !reply.status.is_success() {
            return Err(self.api.refused(&call, &reply));
        }
        let mut action = self.api.read::<Answer>(&reply)?.action;
        while action.status == "running" {
            if Instant::now() > deadline {
                return Err(self.api.fail(format_args!("{verb} takes more than a minute")));
            }
            tokio::time::sleep(self.poll).await;
            let call = self.call(Method::GET, format!("/actions/{}", action.id))?;
            action = self.api.json::<Answer>(&call).await?.action;
        }
        if action.status == "error" {
            let reason = action.error.unwrap_or_default();
            let reason = reason.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            return Err(self.api.fail(format_args!("{verb}: {reason}")));
        }
        Ok(())
    }
}

impl Records for Hetzner {
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
            let full = full_name(name, zone).to_lowercase();
            let home = self.zone(zone).await?;
            let name = relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?;
            // A name has fewer sets than a page holds.
            let query = format!("name={}&per_page=50", encode(&name));
            let call = self.call(Method::GET, format!("/zones/{}/rrsets?{query}", encode(home)))?;
            let mut records = NameRecords::default();
            for set in self.api.json::<AllFound>(&call).await?.rrsets {
                for record in set.records.iter().filter(|_| set.name == name) {
                    records.add(&set.kind, &record.value)?;
                }
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::Hetzner;
    use crate::{
        DnsProvider,
        testing::{
            Answer, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, api_of_values, change_beside,
            kept, set_service_beside, set_values, txt, values,
        },
    };

    /// The zone `a.test`; an action runs until it is asked about once.
    fn fake(values: &[&str]) -> Server {
        api_of_values(values, move |seen, values| {
            assert_eq!(seen.header("authorization"), "Bearer tok");
            let set = "/zones/a.test/rrsets/_acme-challenge.sub/TXT";
            let action =
                |status: &str| json!({"action": {"id": 7, "status": status, "error": null}});
            match (&*seen.method, seen.path.strip_prefix(set).unwrap_or(&seen.path)) {
                ("GET", "/zones/a.test") => Answer::new(200, json!({"zone": {}})),
                ("GET", "") if !values.is_empty() => {
                    let all: Vec<Value> =
                        values.iter().map(|value| json!({"value": value})).collect();
                    Answer::new(200, json!({"rrset": {"records": all}}))
                }
                ("POST", "/actions/add_records") => {
                    let value = seen.json()["records"][0]["value"].as_str().unwrap().to_owned();
                    values.push(value);
                    Answer::new(201, action("running"))
                }
                ("POST", "/actions/remove_records") => {
                    let body = seen.json();
                    values.retain(|value| body["records"][0]["value"] != **value);
                    Answer::new(201, action("success"))
                }
                ("GET", "/actions/7") => Answer::new(200, action("success")),
                _ => Answer::new(404, json!({"error": {"code": "not_found", "message": "gone"}})),
            }
        })
    }

    fn provider(server: &Server) -> Hetzner {
        let mut provider = Hetzner::new(&json!({"api_token": "tok"}), &server.url).unwrap();
        provider.poll = Duration::from_millis(1);
        provider
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let server = fake(&["\"one\""]);
        let provider = provider(&server);
        change_beside(&provider, "sub.a.test", "one").await;
        assert_eq!(server.lines().iter().filter(|line| line.ends_with("add_records")).count(), 1);
        assert!(server.lines().contains(&"GET /actions/7".to_owned()));
        let removed: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.path.ends_with("remove_records"))
            .collect();
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].json(), json!({"records": [{"value": "\"ours\""}]}));
    }

    #[tokio::test]
    async fn locks_and_limits_are_waited_out() {
        let server = api(|seen, count| match (&*seen.method, count) {
            ("GET", 0) => Answer::new(429, "{}").header("retry-after", "0"),
            ("GET", _) if seen.path.ends_with("/TXT") => Answer::new(404, "{}"),
            ("POST", 3) => Answer::new(423, json!({"error": {"code": "locked"}})),
            ("POST", _) => Answer::new(
                201,
                json!({"action": {"id": 1, "status": "error", "error": {"message": "no luck"}}}),
            ),
            _ => Answer::new(200, "{}"),
        });
        let error = provider(&server).append("a.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "hetzner: add_records: no luck");
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("hetzner: no zone for b.test"), "{error}");
        let server = api(|_, _| {
            Answer::new(401, json!({"error": {"code": "unauthorized", "message": "bad tok"}}))
        });
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "hetzner: HTTP 401: bad *** (unauthorized)");
        let old = Hetzner::new(&json!({"auth_api_token": "x"}), "http://x").unwrap_err();
        assert!(old.message.contains("`api_token`"), "{old}");
    }

    #[tokio::test]
    async fn aliases_come_and_go() {
        let server = api(|seen, count| {
            let set = "/zones/a.test/rrsets/_x/CNAME";
            match (&*seen.method, seen.path.strip_prefix(set).unwrap_or(&seen.path)) {
                ("GET", "/zones/a.test") => Answer::new(200, json!({"zone": {}})),
                ("GET", "") if count > 2 => {
                    Answer::new(200, json!({"rrset": {"records": [{"value": "y.other.test."}]}}))
                }
                ("POST", "/actions/add_records" | "/actions/remove_records") => {
                    Answer::new(201, json!({"action": {"id": 7, "status": "success"}}))
                }
                _ => Answer::new(404, "{}"),
            }
        });
        let (provider, ours) = (provider(&server), alias("_x", "y.other.test"));
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.delete_alias("a.test", &ours).await.unwrap();
        let writes: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method == "POST").collect();
        let verbs: Vec<_> =
            writes.iter().map(|seen| seen.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(verbs, ["add_records", "remove_records"]);
        for write in &writes {
            assert_eq!(write.json(), json!({"records": [{"value": "y.other.test."}]}));
        }
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let server = api(move |seen, _| {
            let mut all = all.lock().unwrap();
            let path = seen.path.strip_prefix("/zones/a.test").unwrap();
            match (&*seen.method, path) {
                ("GET", "") => Answer::new(200, json!({"zone": {}})),
                ("GET", "/rrsets/www/HTTPS") => {
                    let mut records: Vec<Value> = values(&all, "www", "HTTPS")
                        .iter()
                        .map(|value| json!({"value": value, "comment": null}))
                        .collect();
                    records[0]["comment"] = "mine".into();
                    Answer::new(200, json!({"rrset": {"records": records}}))
                }
                ("GET", path) => {
                    let name = path.strip_prefix("/rrsets?name=").unwrap().split_once('&').unwrap();
                    let found = all.iter().filter(|record| record.name == name.0);
                    let sets: Vec<Value> = found
                        .map(|record| {
                            let records = json!([{"value": record.value}]);
                            json!({"name": record.name, "type": record.kind, "records": records})
                        })
                        .collect();
                    Answer::new(200, json!({"rrsets": sets}))
                }
                ("POST", "/rrsets/www/HTTPS/actions/set_records") => {
                    let body = seen.json();
                    let records = body["records"].as_array().unwrap();
                    let values: Vec<String> = records
                        .iter()
                        .map(|record| record["value"].as_str().unwrap().to_owned())
                        .collect();
                    set_values(&mut all, "www", "HTTPS", &values);
                    Answer::new(201, json!({"action": {"id": 7, "status": "success"}}))
                }
                _ => Answer::new(400, "{}"),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let writes: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method == "POST").collect();
        assert_eq!(writes.len(), 1);
        let theirs = json!({"value": THEIR_SERVICE, "comment": "mine"});
        assert_eq!(writes[0].json(), json!({"records": [theirs, {"value": OUR_SERVICE}]}));
    }
}
