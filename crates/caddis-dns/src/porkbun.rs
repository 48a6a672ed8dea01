//! `dns.providers.porkbun`: domains at Porkbun.
//!
//! ```text
//! dns porkbun {
//!     api_key        <key>
//!     api_secret_key <key>
//! }
//! ```
//! JSON: `{"name": "porkbun", "api_key": "…", "api_secret_key": "…"}`. The domain's "API access"
//! has to be on.

use std::sync::Arc;

use caddis_config::ConfigError;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, Syntax,
    api::{Api, Call, Reply, Secret},
    aws::encode,
    full_name,
    records::{Change, Entry, Records, Steps, each, relative, zones},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "porkbun",
    syntax: Syntax {
        fields: &[Field::text("api_key"), Field::text("api_secret_key")],
        check: |json| {
            demand(
                json,
                &[("api_key", "No api_key set"), ("api_secret_key", "No api_secret_key set")],
            )
        },
        ..Syntax::NONE
    },
    compile,
};

const API: &str = "https://api.porkbun.com/api/json/v3";
/// The least that the API takes.
const TTL: u64 = 600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    api_key: String,
    #[serde(default)]
    api_secret_key: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Porkbun::new(json, API)?))
}

#[derive(Debug)]
struct Porkbun {
    api: Api,
    key: Secret,
    secret: Secret,
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    id: Value,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

impl Porkbun {
    fn new(json: &Value, base: &str) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        Ok(Self {
            api: Api::new("porkbun", base),
            key: Secret::trimmed(&config.api_key),
            secret: Secret::trimmed(&config.api_secret_key),
        })
    }

    /// Every call is a POST with the keys in its body.
    fn call(&self, path: String, mut body: Value) -> Result<Call, DnsError> {
        let key = self.api.required("api_key", &self.key)?;
        let secret = self.api.required("api_secret_key", &self.secret)?;
        if let Some(body) = body.as_object_mut() {
            body.insert("apikey".into(), key.into());
            body.insert("secretapikey".into(), secret.into());
        }
        Ok(Call::new(Method::POST, path).hiding(key).hiding(secret).json(&body))
    }

    /// The API says "ERROR" with several statuses, even 200.
    fn judge(&self, call: &Call, reply: &Reply) -> Result<Answer, DnsError> {
        match serde_json::from_slice::<Answer>(&reply.body) {
            Ok(answer) if reply.status.is_success() && answer.status == "SUCCESS" => Ok(answer),
            _ => Err(self.api.refused(call, reply)),
        }
    }

    /// The domain that a zone lies in, the name relative to that, and the records which the path
    /// tells that is made of both.
    async fn find<'a>(
        &self,
        zone: &'a str,
        full: &str,
        path: impl Fn(&str, &str) -> String + Send + Sync,
    ) -> Result<(&'a str, String, Vec<Record>), DnsError> {
        for home in zones(zone) {
            let Some(name) = relative(full, home) else { continue };
            let name = if name == "@" { String::new() } else { name };
            let call = self.call(path(&encode(home), &encode(&name)), json!({}))?;
            let reply = self.api.send(&call).await?;
            let said: Answer = serde_json::from_slice(&reply.body).unwrap_or_default();
            let unknown = matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
                || reply.status.is_success();
            if unknown && said.status == "ERROR" && said.message.contains("nvalid domain") {
                continue;
            }
            return Ok((home, name, self.judge(&call, &reply)?.records));
        }
        Err(self.api.no_zone(zone))
    }

    async fn change_one(
        &self,
        zone: &str,
        entry: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let path = |home: &str, name: &str| {
            let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
            format!("/dns/retrieveByNameType/{home}/{}{tail}", entry.kind())
        };
        let (home, name, found) = self.find(zone, &entry.full_name(zone), path).await?;
        let found = found.into_iter().map(|record| (record.id, record.content));
        let steps = Steps::of(change, &entry, found);
        if steps.add {
            // Names are absolute without a dot.
            let body = json!({
                "type": entry.kind(),
                "name": name,
                "content": entry.bare(),
                "ttl": entry.ttl(TTL, TTL).to_string(),
            });
            let call = self.call(format!("/dns/create/{}", encode(home)), body)?;
            self.judge(&call, &self.api.send(&call).await?)?;
        }
        for id in steps.remove {
            let id = match id {
                Value::String(id) => id,
                id => id.to_string(),
            };
            let path = format!("/dns/delete/{}/{}", encode(home), encode(&id));
            let call = self.call(path, json!({}))?;
            self.judge(&call, &self.api.send(&call).await?)?;
        }
        Ok(())
    }
}

impl Records for Porkbun {
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
            // There is no call for all types of one name.
            let path = |home: &str, _: &str| format!("/dns/retrieve/{home}");
            let (_, _, found) = self.find(zone, &full, path).await?;
            let mut records = NameRecords::default();
            for record in found.iter().filter(|record| record.name.eq_ignore_ascii_case(&full)) {
                records.add(&record.kind, &record.content)?;
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::Porkbun;
    use crate::{
        DnsProvider,
        testing::{
            Answer, Kept, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, change_beside, kept,
            set_service_beside, txt, values,
        },
    };

    fn fake(values: &[(&str, &str)]) -> Server {
        let records: Vec<(String, String)> =
            values.iter().map(|(id, value)| ((*id).into(), (*value).into())).collect();
        let records = Mutex::new(records);
        api(move |seen, _| {
            let mut records = records.lock().unwrap();
            let body = seen.json();
            assert_eq!((&body["apikey"], &body["secretapikey"]), (&json!("pk"), &json!("sk")));
            let success = Answer::new(200, json!({"status": "SUCCESS"}));
            match &*seen.path {
                "/dns/retrieveByNameType/a.test/TXT/_acme-challenge.sub" => {
                    let all: Vec<Value> = records
                        .iter()
                        .map(|(id, value)| json!({"id": id, "content": value}))
                        .collect();
                    Answer::new(200, json!({"status": "SUCCESS", "records": all}))
                }
                "/dns/create/a.test" => {
                    assert_eq!(body["name"], "_acme-challenge.sub");
                    assert_eq!(body["ttl"], "600");
                    records.push(("9".into(), body["content"].as_str().unwrap().into()));
                    success
                }
                path if path.starts_with("/dns/delete/a.test/") => {
                    let id = path.rsplit_once('/').unwrap().1;
                    records.retain(|record| record.0 != id);
                    success
                }
                _ => Answer::new(400, json!({"status": "ERROR", "message": "Invalid domain."})),
            }
        })
    }

    fn provider(server: &Server) -> Porkbun {
        let json = json!({"api_key": " pk", "api_secret_key": "sk\n"});
        Porkbun::new(&json, &server.url).unwrap()
    }

    #[tokio::test]
    async fn values_beside_ours_stay() {
        let server = fake(&[("1", "one"), ("2", "two")]);
        let provider = provider(&server);
        change_beside(&provider, "sub.a.test", "two").await;
        let lines = server.lines();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("/create/"), count("/delete/")), (1, 1));
        assert!(lines.contains(&"POST /dns/delete/a.test/9".to_owned()));
    }

    #[tokio::test]
    async fn refusals_are_told() {
        let server = fake(&[]);
        let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
        assert!(error.to_string().starts_with("porkbun: no zone for b.test"), "{error}");
        for status in [200, 403] {
            let server = api(move |_, count| match count {
                0 => Answer::new(429, "{}").header("retry-after", "0"),
                _ => Answer::new(
                    status,
                    json!({"status": "ERROR", "message": "Invalid API key. (002) sk"}),
                ),
            });
            let error = provider(&server).append("b.test", &[txt("x", "y")]).await.unwrap_err();
            let want = format!("porkbun: HTTP {status}: Invalid API key. (002) ***");
            assert_eq!(error.to_string(), want);
        }
    }

    #[tokio::test]
    async fn aliases_come_and_go() {
        let server = api(|seen, count| match &*seen.path {
            "/dns/retrieveByNameType/a.test/CNAME/_x" => {
                let ours = json!([{"id": "7", "content": "y.other.test"}]);
                let found = if count > 1 { ours } else { json!([]) };
                Answer::new(200, json!({"status": "SUCCESS", "records": found}))
            }
            "/dns/create/a.test" | "/dns/delete/a.test/7" => {
                Answer::new(200, json!({"status": "SUCCESS"}))
            }
            _ => Answer::new(400, json!({"status": "ERROR", "message": "Invalid domain."})),
        });
        let (provider, ours) = (provider(&server), alias("_x", "y.other.test"));
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.append_alias("a.test", &ours).await.unwrap();
        provider.delete_alias("a.test", &ours).await.unwrap();
        let writes: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|seen| !seen.path.contains("/retrieveByNameType/"))
            .collect();
        assert_eq!(writes.len(), 2, "{:?}", server.lines());
        let body = writes[0].json();
        assert_eq!((&body["type"], &body["content"]), (&json!("CNAME"), &json!("y.other.test")));
        assert!(writes[1].path.ends_with("/delete/a.test/7"));
    }

    #[tokio::test]
    async fn services_take_the_place_of_ours() {
        let all = kept();
        let records = all.clone();
        let server = api(move |seen, _| {
            let mut records = records.lock().unwrap();
            let shown = |is_asked: &dyn Fn(&Kept) -> bool| {
                let shown = records.iter().filter(|record| is_asked(record));
                let shown: Vec<Value> = shown
                    .map(|record| {
                        let Kept { id, name, kind, value } = record;
                        let name = format!("{name}.a.test");
                        json!({"id": id.to_string(), "name": name, "type": kind, "content": value})
                    })
                    .collect();
                Answer::new(200, json!({"status": "SUCCESS", "records": shown}))
            };
            let success = Answer::new(200, json!({"status": "SUCCESS"}));
            match &*seen.path {
                "/dns/retrieve/a.test" => shown(&|_| true),
                "/dns/retrieveByNameType/a.test/HTTPS/www" => {
                    shown(&|record| record.name == "www" && record.kind == "HTTPS")
                }
                "/dns/create/a.test" => {
                    let body = seen.json();
                    assert_eq!((&body["name"], &body["type"]), (&json!("www"), &json!("HTTPS")));
                    let value = body["content"].as_str().unwrap().into();
                    let (name, kind) = ("www".into(), "HTTPS".into());
                    records.push(Kept { id: 9, name, kind, value });
                    success
                }
                "/dns/delete/a.test/3" => {
                    records.retain(|record| record.id != 3);
                    success
                }
                _ => Answer::new(400, json!({"status": "ERROR", "message": "Invalid domain."})),
            }
        });
        set_service_beside(&provider(&server), "a.test").await;
        let records = all.lock().unwrap();
        assert_eq!(values(&records, "www", "HTTPS"), [THEIR_SERVICE, OUR_SERVICE]);
        let is_write = |line: &&String| !line.contains("/retrieve");
        assert_eq!(server.lines().iter().filter(is_write).count(), 2);
    }
}
