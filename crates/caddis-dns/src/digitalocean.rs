//! `dns.providers.digitalocean`: domains at DigitalOcean.
//!
//! ```text
//! dns digitalocean [<api_token>] {
//!     api_token <token>
//! }
//! ```
//! JSON: `{"name": "digitalocean", "auth_token": "…"}`. The token needs the scopes domain:read,
//! domain:create, domain:update and domain:delete.

use std::sync::Arc;

use caddis_config::ConfigError;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, Provider, Syntax,
    api::{Api, Call, Secret},
    aws::encode,
    records::{Change, Entry, Records, each, relative},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "digitalocean",
    syntax: Syntax {
        argument: Some("auth_token"),
        fields: &[Field::text("auth_token").named(&["api_token"]).once("API token already set")],
        check: |json| demand(json, &[("auth_token", "missing API token")]),
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://api.digitalocean.com/v2";
const PER_PAGE: usize = 200;
/// More are not read: no zone has so many records of one name.
const MOST_PAGES: u32 = 100;
/// The least that the API takes.
const TTL: u64 = 30;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    auth_token: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(DigitalOcean::new(json, API)?))
}

#[derive(Debug)]
struct DigitalOcean {
    api: Api,
    token: Secret,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    domain_records: Vec<Record>,
    #[serde(default)]
    links: Links,
}

#[derive(Debug, Default, Deserialize)]
struct Links {
    #[serde(default)]
    pages: Pages,
}

#[derive(Debug, Default, Deserialize)]
struct Pages {
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Record {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    data: String,
}

impl DigitalOcean {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let token = Secret::new(&config.auth_token);
        Ok(Self { api: Api::new("digitalocean", base), token })
    }

    fn call(&self, method: Method, path: String) -> Result<Call, DnsError> {
        let token = self.api.required("auth_token", &self.token)?;
        Call::new(method, path).authorized("Bearer", token)
    }

    async fn zone<'a>(&self, zone: &'a str) -> Result<&'a str, DnsError> {
        let call = |name: &str| self.call(Method::GET, format!("/domains/{}", encode(name)));
        self.api.zone(zone, call).await
    }

    /// The records with exactly this name, relative to the zone, type and value.
    async fn find(
        &self,
        zone: &str,
        full: &str,
        entry: &Entry<'_>,
    ) -> Result<Vec<Record>, DnsError> {
        let mut all = Vec::new();
        let name = relative(full, zone).ok_or_else(|| self.api.no_zone(full))?;
        for page in 1..=MOST_PAGES {
            let call = self.call(
                Method::GET,
                format!(
                    "/domains/{}/records?type={}&name={}&per_page={PER_PAGE}&page={page}",
                    encode(zone),
                    entry.kind(),
                    encode(full),
                ),
            )?;
            let mut found: Page = self.api.json(&call).await?;
            let last = found.links.pages.next.is_none() || found.domain_records.is_empty();
            all.append(&mut found.domain_records);
            if last {
                break;
            }
        }
        all.retain(|record| record.name == name && entry.is(&record.data));
        Ok(all)
    }

    async fn add(&self, zone: &str, entry: Entry<'_>) -> Result<(), DnsError> {
        let (home, full) = (self.zone(zone).await?, entry.full_name(zone));
        if !self.find(home, &full, &entry).await?.is_empty() {
            return Ok(());
        }
        let body = json!({
            "type": entry.kind(),
            "name": relative(&full, home).ok_or_else(|| self.api.no_zone(&full))?,
            "data": entry.absolute(),
            "ttl": entry.ttl(TTL, TTL),
        });
        let path = format!("/domains/{}/records", encode(home));
        self.api.expect(&self.call(Method::POST, path)?.json(&body)).await?;
        Ok(())
    }

    async fn remove(&self, zone: &str, entry: Entry<'_>) -> Result<(), DnsError> {
        let home = self.zone(zone).await?;
        for old in self.find(home, &entry.full_name(zone), &entry).await? {
            let path = format!("/domains/{}/records/{}", encode(home), old.id);
            self.api.take_away(&self.call(Method::DELETE, path)?).await?;
        }
        Ok(())
    }
}

impl Records for DigitalOcean {
    const SERVICES: bool = false;

    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        each(entries, move |entry| async move {
            match change {
                Change::Add => self.add(zone, entry).await,
                Change::Remove => self.remove(zone, entry).await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::DigitalOcean;
    use crate::{
        DnsProvider,
        testing::{Answer, Server, alias, api, txt},
    };

    /// The zone `a.test`; two records a page, the first of them another name's.
    fn fake(records: &[(u64, &str, &str)]) -> Server {
        let records: Vec<(u64, String, String)> =
            records.iter().map(|(id, name, data)| (*id, (*name).into(), (*data).into())).collect();
        let records = Mutex::new(records);
        api(move |seen, _| {
            assert_eq!(seen.header("authorization"), "Bearer tok");
            let mut records = records.lock().unwrap();
            let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
            match (&*seen.method, path) {
                ("GET", "/domains/a.test") => Answer::new(200, json!({"domain": {}})),
                ("GET", "/domains/a.test/records") => {
                    let page: usize = query.rsplit_once("&page=").unwrap().1.parse().unwrap();
                    let shown: Vec<Value> = records
                        .iter()
                        .skip(2 * (page - 1))
                        .take(2)
                        .map(|(id, name, data)| json!({"id": id, "name": name, "data": data}))
                        .collect();
                    let more = records.len() > 2 * page;
                    let links = if more { json!({"pages": {"next": "x"}}) } else { json!({}) };
                    Answer::new(200, json!({"domain_records": shown, "links": links}))
                }
                ("POST", "/domains/a.test/records") => {
                    let body = seen.json();
                    assert_eq!(body["ttl"], 30);
                    let text = |key: &str| body[key].as_str().unwrap().to_owned();
                    records.push((99, text("name"), text("data")));
                    Answer::new(201, json!({"domain_record": {"id": 99}}))
                }
                ("DELETE", path) => {
                    let id: u64 = path.rsplit_once('/').unwrap().1.parse().unwrap();
                    let before = records.len();
                    records.retain(|record| record.0 != id);
                    Answer::new(if records.len() < before { 204 } else { 404 }, "")
                }
                _ => Answer::new(404, json!({"id": "not_found", "message": "no such domain"})),
            }
        })
    }

    fn provider(server: &Server) -> DigitalOcean {
        DigitalOcean::new(&json!({"auth_token": "tok"}), &server.url).unwrap()
    }

    #[tokio::test]
    async fn values_beside_ours_stay_over_pages() {
        let name = "_acme-challenge.sub";
        let server =
            fake(&[(1, "other", "ours"), (2, name, "one"), (3, name, "two"), (4, name, "last")]);
        let provider = provider(&server);
        let ours = [txt("_acme-challenge", "ours"), txt("_acme-challenge", "last")];
        provider.append("sub.a.test", &ours).await.unwrap();
        provider.append("sub.a.test", &ours).await.unwrap();
        let posts = |server: &Server, method: &str| {
            server.lines().into_iter().filter(|line| line.starts_with(method)).collect::<Vec<_>>()
        };
        assert_eq!(posts(&server, "POST").len(), 1);
        provider.delete("sub.a.test", &ours[..1]).await.unwrap();
        provider.delete("sub.a.test", &ours[..1]).await.unwrap();
        assert_eq!(posts(&server, "DELETE"), ["DELETE /domains/a.test/records/99"]);
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("digitalocean: no zone for b.test"), "{error}");
        let server = api(|_, count| match count {
            0 => Answer::new(429, "{}").header("retry-after", "0"),
            _ => Answer::new(401, json!({"id": "unauthorized", "message": "bad tok"})),
        });
        let error = provider(&server).delete("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "digitalocean: HTTP 401: bad *** (unauthorized)");
        let unset = json!({"auth_token": "{env.CADDIS_NO_SUCH}"});
        let unset = DigitalOcean::new(&unset, &server.url).unwrap();
        let error = unset.append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().contains("auth_token is empty"), "{error}");
    }

    #[tokio::test]
    async fn aliases_come_and_go() {
        let server = api(|seen, count| match (&*seen.method, &*seen.path) {
            ("GET", "/domains/a.test") => Answer::new(200, "{}"),
            ("GET", path)
                if path.starts_with("/domains/a.test/records?type=CNAME&name=_x.a.test&") =>
            {
                let ours = json!([{"id": 7, "name": "_x", "data": "y.other.test"}]);
                let found = if count > 2 { ours } else { json!([]) };
                Answer::new(200, json!({"domain_records": found}))
            }
            ("POST", "/domains/a.test/records") => Answer::new(201, "{}"),
            ("DELETE", "/domains/a.test/records/7") => Answer::new(204, ""),
            _ => Answer::new(404, "{}"),
        });
        let provider = DigitalOcean::new(&json!({"auth_token": "tok"}), &server.url).unwrap();
        let ours = alias("_x", "y.other.test");
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.delete_alias("a.test", &ours).await.unwrap();
        let writes: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method != "GET").collect();
        assert_eq!(writes.len(), 2);
        let body = writes[0].json();
        assert_eq!((&body["type"], &body["data"]), (&json!("CNAME"), &json!("y.other.test.")));
        assert_eq!(writes[1].method, "DELETE");
    }
}
