//! `dns.providers.ovh`: zones at OVH.
//!
//! ```text
//! dns ovh {
//!     endpoint           <name or URL>
//!     application_key    <key>
//!     application_secret <secret>
//!     consumer_key       <key>
//! }
//! ```
//! JSON: the same fields. An empty one is taken from `OVH_ENDPOINT`, `OVH_APPLICATION_KEY`,
//! `OVH_APPLICATION_SECRET` or `OVH_CONSUMER_KEY`. The keys need the rights GET, POST and DELETE on
//! `/domain/zone/*`.
//!
//! In July 2026 the API took HTTPS records, but refused their parameter `ech` ("Invalid SvcParam
//! key"), which is then told; nothing is changed.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use caddis_config::ConfigError;
use http::{HeaderName, HeaderValue, Method, Request};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, Syntax,
    api::{Api, Call, Reply, Secret, expand, is_absent},
    aws::{encode, hex},
    full_name,
    records::{Change, Entry, Records, Steps, relative, zones},
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "ovh",
    syntax: Syntax {
        fields: &[
            Field::text("endpoint"),
            Field::text("application_key"),
            Field::text("application_secret"),
            Field::text("consumer_key"),
        ],
        ..Syntax::NONE
    },
    compile,
};

/// The names of OVH's APIs.
const ENDPOINTS: [(&str, &str); 7] = [
    ("ovh-eu", "https://eu.api.ovh.com/1.0"),
    ("ovh-ca", "https://ca.api.ovh.com/1.0"),
    ("ovh-us", "https://api.us.ovhcloud.com/1.0"),
    ("kimsufi-eu", "https://eu.api.kimsufi.com/1.0"),
    ("kimsufi-ca", "https://ca.api.kimsufi.com/1.0"),
    ("soyoustart-eu", "https://eu.api.soyoustart.com/1.0"),
    ("soyoustart-ca", "https://ca.api.soyoustart.com/1.0"),
];
/// The least that the API takes.
const TTL: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    application_key: String,
    #[serde(default)]
    application_secret: String,
    #[serde(default)]
    consumer_key: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    let config: Config = caddis_config::decode(json.clone())?;
    Ok(Arc::new(Ovh::new(config)?))
}

#[derive(Debug)]
struct Ovh {
    api: Api,
    application_key: Secret,
    application_secret: Secret,
    consumer_key: Secret,
    /// Seconds that the server's clock is ahead of ours.
    ahead: OnceCell<i64>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "subDomain")]
    name: Option<String>,
    #[serde(default)]
    target: String,
}

impl Ovh {
    fn new(config: Config) -> Result<Self, ConfigError> {
        let secret = |text: &str, variable: &str| match text {
            "" => Secret::new(&format!("{{env.{variable}}}")),
            text => Secret::new(text),
        };
        let endpoint = match &*expand(&config.endpoint) {
            "" => match &*expand("{env.OVH_ENDPOINT}") {
                "" => "ovh-eu".to_owned(),
                endpoint => endpoint.to_owned(),
            },
            endpoint => endpoint.to_owned(),
        };
        let base = ENDPOINTS.iter().find(|(name, _)| *name == endpoint);
        let base = match base {
            Some((_, url)) => (*url).to_owned(),
            None if endpoint.contains("://") => endpoint,
            None => {
                let known = ENDPOINTS.map(|(name, _)| name).join(", ");
                let text = format!("unknown endpoint '{endpoint}'; known: {known}, or a URL");
                return Err(ConfigError::new("endpoint", text));
            }
        };
        Ok(Self {
            api: Api::new("ovh", base),
            application_key: secret(&config.application_key, "OVH_APPLICATION_KEY"),
            application_secret: secret(&config.application_secret, "OVH_APPLICATION_SECRET"),
            consumer_key: secret(&config.consumer_key, "OVH_CONSUMER_KEY"),
            ahead: OnceCell::new(),
        })
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Result<Call, DnsError> {
        let key = self.api.required("application_key", &self.application_key)?;
        let secret = self.api.required("application_secret", &self.application_secret)?;
        let consumer = self.api.required("consumer_key", &self.consumer_key)?;
        Call::new(method, path)
            .hiding(secret)
            .secret(HeaderName::from_static("x-ovh-application"), key)?
            .secret(HeaderName::from_static("x-ovh-consumer"), consumer)
    }

    async fn send(&self, call: &Call) -> Result<Reply, DnsError> {
        let clock = async || {
            let theirs: i64 = self.api.json(&Call::new(Method::GET, "/auth/time")).await?;
            Ok::<i64, DnsError>(theirs.saturating_sub(now()))
        };
        let ahead = *self.ahead.get_or_try_init(clock).await?;
        let sign = |request: &mut Request<Bytes>| {
            let at = now().saturating_add(ahead).to_string();
            let signature = signature(
                &self.application_secret,
                &self.consumer_key,
                request.method().as_str(),
                &request.uri().to_string(),
                request.body(),
                &at,
            );
            for (name, value) in [("x-ovh-timestamp", at), ("x-ovh-signature", signature)] {
                let value = HeaderValue::from_str(&value).map_err(|error| self.api.fail(error))?;
                request.headers_mut().insert(name, value);
            }
            Ok(())
        };
        self.api.send_signed(call, sign).await
    }

    /// The answer's JSON; none where there is no such thing.
    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<Option<T>, DnsError> {
        let call = self.call(Method::GET, path)?;
        let reply = self.send(&call).await?;
        if is_absent(&reply) {
            return Ok(None);
        }
        if reply.status.is_success() {
            self.api.read(&reply).map(Some)
        } else {
            Err(self.api.refused(&call, &reply))
        }
    }

    async fn zone<'a>(&self, zone: &'a str) -> Result<&'a str, DnsError> {
        for name in zones(zone) {
            if self.get::<Value>(format!("/domain/zone/{}", encode(name))).await?.is_some() {
                return Ok(name);
            }
        }
        Err(self.api.no_zone(zone))
    }

    /// The ids of records with this name; `filter` is a further part of the query, with a `&`.
    async fn ids(&self, home: &str, name: &str, filter: &str) -> Result<Vec<u64>, DnsError> {
        let (home, name) = (encode(home), encode(name));
        let path = format!("/domain/zone/{home}/record?{filter}subDomain={name}");
        Ok(self.get(path).await?.unwrap_or_default())
    }

    /// The records of this type with exactly this name.
    async fn find(
        &self,
        home: &str,
        name: &str,
        kind: &str,
    ) -> Result<Vec<(u64, String)>, DnsError> {
        let mut found = Vec::new();
        for id in self.ids(home, name, &format!("fieldType={kind}&")).await? {
            let path = format!("/domain/zone/{}/record/{id}", encode(home));
            if let Some(record) = self.get::<Record>(path).await?
                && record.name.is_none_or(|found| found.eq_ignore_ascii_case(name))
            {
                found.push((id, record.target));
            }
        }
        Ok(found)
    }

    /// A name as the API has it below a zone of the account.
    fn name(&self, full: &str, home: &str) -> Result<String, DnsError> {
        let name = relative(full, home).ok_or_else(|| self.api.no_zone(full))?;
        Ok(if name == "@" { String::new() } else { name })
    }

    async fn done(&self, call: Call) -> Result<(), DnsError> {
        let reply = self.send(&call).await?;
        if reply.status.is_success() { Ok(()) } else { Err(self.api.refused(&call, &reply)) }
    }

    /// Changes are seen when the zone is written anew.
    async fn refresh(&self, home: &str) -> Result<(), DnsError> {
        let path = format!("/domain/zone/{}/refresh", encode(home));
        self.done(self.call(Method::POST, path)?).await
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The signature of a request: SHA-1 over secret, consumer key, method, URL, body and time.
fn signature(
    secret: &str,
    consumer: &str,
    method: &str,
    url: &str,
    body: &[u8],
    at: &str,
) -> String {
    let mut text = format!("{secret}+{consumer}+{method}+{url}+").into_bytes();
    text.extend(body);
    text.push(b'+');
    text.extend(at.as_bytes());
    format!("$1${}", hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref()))
}

impl Ovh {
    async fn change_one(
        &self,
        zone: &str,
        home: &str,
        entry: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let name = self.name(&entry.full_name(zone), home)?;
        let found = self.find(home, &name, entry.kind()).await?;
        let steps = Steps::of(change, &entry, found);
        let path = format!("/domain/zone/{}/record", encode(home));
        if steps.add {
            let body = json!({
                "fieldType": entry.kind(),
                "subDomain": name,
                "target": entry.absolute(),
                "ttl": entry.ttl(TTL, TTL),
            });
            self.done(self.call(Method::POST, &path)?.json(&body)).await?;
        }
        for id in steps.remove {
            self.done(self.call(Method::DELETE, format!("{path}/{id}"))?).await?;
        }
        Ok(())
    }
}

impl Records for Ovh {
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        Box::pin(async move {
            let home = self.zone(zone).await?;
            for entry in entries {
                self.change_one(zone, home, entry, change).await?;
            }
            self.refresh(home).await
        })
    }

    fn look<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(async move {
            let home = self.zone(zone).await?;
            let name = self.name(&full_name(name, zone), home)?;
            let is_used = !self.ids(home, &name, "").await?.is_empty();
            let mut records = NameRecords { is_used, ..NameRecords::default() };
            // Each record is a call, so only what matters is read.
            for kind in ["CNAME", "HTTPS"] {
                for (_, target) in self.find(home, &name, kind).await? {
                    records.add(kind, &target)?;
                }
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::{Config, Ovh, now, signature};
    use crate::{
        DnsProvider,
        testing::{
            Answer, Kept, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, change_beside, kept,
            set_service_beside, txt, values,
        },
    };

    /// The zone `a.test`; every signature is checked, by a clock an hour ahead.
    fn fake(values: &[(u64, &str)]) -> Server {
        let records: Vec<(u64, String)> =
            values.iter().map(|(id, value)| (*id, (*value).to_owned())).collect();
        let records = Mutex::new(records);
        api(move |seen, _| {
            if seen.path == "/auth/time" {
                return Answer::new(200, now() + 3600);
            }
            let at = seen.header("x-ovh-timestamp");
            assert!((at.parse::<i64>().unwrap() - now() - 3600).abs() < 60, "{at}");
            let url = format!("http://{}{}", seen.header("host"), seen.path);
            let want = signature("as", "ck", &seen.method, &url, seen.body.as_bytes(), at);
            assert_eq!(seen.header("x-ovh-signature"), want);
            assert_eq!(seen.header("x-ovh-application"), "ak");
            let mut records = records.lock().unwrap();
            let tail = seen.path.strip_prefix("/domain/zone/a.test");
            match (&*seen.method, tail) {
                ("GET", Some("")) => Answer::new(200, "{}"),
                ("GET", Some("/record?fieldType=TXT&subDomain=_acme-challenge.sub")) => {
                    let ids: Vec<u64> = records.iter().map(|record| record.0).collect();
                    Answer::new(200, json!(ids))
                }
                ("GET", Some(path)) => {
                    let id: u64 = path.strip_prefix("/record/").unwrap().parse().unwrap();
                    let found = records.iter().find(|record| record.0 == id).unwrap();
                    Answer::new(200, json!({"id": id, "target": found.1}))
                }
                ("POST", Some("/record")) => {
                    let target = seen.json()["target"].as_str().unwrap().to_owned();
                    records.push((9, format!("\"{target}\"")));
                    Answer::new(200, json!({"id": 9}))
                }
                ("POST", Some("/refresh")) => Answer::new(200, Value::Null),
                ("DELETE", Some(path)) => {
                    let id: u64 = path.strip_prefix("/record/").unwrap().parse().unwrap();
                    records.retain(|record| record.0 != id);
                    Answer::new(200, Value::Null)
                }
                _ => Answer::new(404, json!({"message": "This service does not exist"})),
            }
        })
    }

    fn provider(server: &Server) -> Ovh {
        let config = json!({
            "endpoint": server.url,
            "application_key": "ak",
            "application_secret": "as",
            "consumer_key": "ck",
        });
        Ovh::new(serde_json::from_value::<Config>(config).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let server = fake(&[(1, "\"one\""), (2, "two")]);
        let provider = provider(&server);
        change_beside(&provider, "sub.a.test", "one").await;
        let lines = server.lines();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("POST /domain/zone/a.test/record"), 1);
        assert_eq!(count("DELETE /domain/zone/a.test/record/9"), 1);
        assert_eq!((count("DELETE"), count("refresh"), count("/auth/time")), (1, 3, 1));
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("ovh: no zone for b.test"), "{error}");
        let server = api(|_, count| match count {
            0 => Answer::new(200, now()),
            1 => Answer::new(429, "{}").header("retry-after", "0"),
            _ => Answer::new(403, json!({"errorCode": "INVALID_KEY", "message": "Invalid ck"})),
        });
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert_eq!(error.to_string(), "ovh: HTTP 403: Invalid *** (INVALID_KEY)");
    }

    #[test]
    fn endpoints_have_names() {
        let with = |endpoint: &str| {
            let config = json!({"endpoint": endpoint});
            Ovh::new(serde_json::from_value(config).unwrap())
        };
        assert_eq!(with("ovh-ca").unwrap().api.base(), "https://ca.api.ovh.com/1.0");
        let error = with("ovh-mars").unwrap_err().to_string();
        assert!(error.starts_with("endpoint: unknown endpoint 'ovh-mars'"), "{error}");
    }

    /// The example of OVH's guide to its API.
    #[test]
    fn signatures() {
        let text = signature(
            "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF",
            "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1",
            "GET",
            "https://eu.api.ovh.com/1.0/domains/",
            b"",
            "1366560945",
        );
        assert_eq!(text, "$1$d3705e8afb27a0d2970a322b96550abfc67bb798");
    }

    #[tokio::test]
    async fn aliases_come_and_go() {
        let server = api(|seen, count| {
            let tail = seen.path.strip_prefix("/domain/zone/a.test");
            match (&*seen.method, tail) {
                ("GET", None) => Answer::new(200, now()),
                ("GET", Some("")) => Answer::new(200, "{}"),
                ("GET", Some("/record?fieldType=CNAME&subDomain=_x")) => {
                    Answer::new(200, if count > 4 { json!([7]) } else { json!([]) })
                }
                ("GET", Some("/record/7")) => Answer::new(200, json!({"target": "y.other.test."})),
                ("POST", Some("/record" | "/refresh")) | ("DELETE", Some("/record/7")) => {
                    Answer::new(200, Value::Null)
                }
                _ => Answer::new(404, "{}"),
            }
        });
        let (provider, ours) = (provider(&server), alias("_x", "y.other.test"));
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.delete_alias("a.test", &ours).await.unwrap();
        let writes: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.method != "GET" && !seen.path.ends_with("/refresh"))
            .collect();
        assert_eq!(writes.len(), 2, "{:?}", server.lines());
        let body = writes[0].json();
        assert_eq!(
            (&body["fieldType"], &body["target"]),
            (&json!("CNAME"), &json!("y.other.test."))
        );
        assert_eq!(writes[1].method, "DELETE");
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let records = all.clone();
        let server = api(move |seen, _| {
            let mut records = records.lock().unwrap();
            let path = seen.path.strip_prefix("/domain/zone/a.test").unwrap_or(&seen.path);
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            match (&*seen.method, path) {
                ("GET", "/auth/time") => Answer::new(200, now()),
                ("GET", "") => Answer::new(200, "{}"),
                ("GET", "/record") => {
                    let (kind, name) = query.split_once("subDomain=").unwrap();
                    let is_asked = |record: &&Kept| {
                        let kinds = ["", &format!("fieldType={}&", record.kind)];
                        record.name == name && kinds.contains(&kind)
                    };
                    let ids: Vec<u64> =
                        records.iter().filter(is_asked).map(|record| record.id).collect();
                    Answer::new(200, json!(ids))
                }
                ("GET", path) => {
                    let id: u64 = path.strip_prefix("/record/").unwrap().parse().unwrap();
                    let found = records.iter().find(|record| record.id == id).unwrap();
                    let name = &found.name;
                    Answer::new(200, json!({"subDomain": name, "target": found.value}))
                }
                ("POST", "/record") => {
                    let body = seen.json();
                    assert_eq!((&body["subDomain"], &body["ttl"]), (&json!("www"), &json!(300)));
                    let value = body["target"].as_str().unwrap().into();
                    let (name, kind) = ("www".into(), body["fieldType"].as_str().unwrap().into());
                    records.push(Kept { id: 9, name, kind, value });
                    Answer::new(200, "{}")
                }
                ("DELETE", "/record/3") => {
                    records.retain(|record| record.id != 3);
                    Answer::new(200, Value::Null)
                }
                ("POST", "/refresh") => Answer::new(200, Value::Null),
                _ => Answer::new(400, "{}"),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let records = all.lock().unwrap();
        assert_eq!(values(&records, "www", "HTTPS"), [THEIR_SERVICE, OUR_SERVICE]);
        assert_eq!(records.len(), 4);
    }
}
