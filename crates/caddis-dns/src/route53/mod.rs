//! `dns.providers.route53`: hosted zones of Amazon Route 53.
//!
//! ```text
//! dns route53 {
//!     region                      <region>
//!     profile                     <profile>
//!     access_key_id               <id>
//!     secret_access_key           <key>
//!     session_token               <token>
//!     max_retries                 <number>
//!     route53_max_wait            <duration>
//!     wait_for_route53_sync       <bool>
//!     skip_route53_sync_on_delete <bool>
//!     hosted_zone_id              <id>
//!     debug_logging               <bool>
//! }
//! ```
//! JSON: the same fields, the duration in nanoseconds. Without keys, credentials come from the
//! environment, a profile, the container or the instance ([`crate::aws::CredentialSources`]). Needed are
//! route53:ListHostedZonesByName, ListResourceRecordSets, ChangeResourceRecordSets and, to wait,
//! GetChange.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use caddis_config::ConfigError;
use http::{Method, Request};
use roxmltree::{Document, Node};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    DnsError, DnsFuture, DnsProvider, Field, FieldKind, NameRecords, Provider, Syntax,
    api::{Api, Call, Reply, expand},
    aws::{
        CredentialProvider, CredentialSources, Credentials, PathRule, Signer, encode, payload_hash,
    },
    full_name,
    records::{Change, Data, Entry, Records, each, zones},
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "route53",
    syntax: Syntax {
        argument: None,
        fields: &[
            Field::text("region"),
            Field::text("profile").named(&["profile", "aws_profile"]),
            Field::text("access_key_id"),
            Field::text("secret_access_key"),
            Field::text("session_token").named(&["session_token", "token"]),
            Field::new("max_retries", FieldKind::Int),
            Field::new("route53_max_wait", FieldKind::Duration)
                .named(&["route53_max_wait", "max_wait_dur"]),
            Field::new("wait_for_route53_sync", FieldKind::Bool)
                .named(&["wait_for_route53_sync", "wait_for_propagation"]),
            Field::new("skip_route53_sync_on_delete", FieldKind::Bool),
            Field::text("hosted_zone_id"),
            Field::new("debug_logging", FieldKind::Bool),
        ],
        defaults: || {
            let region = std::env::var("AWS_REGION").ok().filter(|region| !region.is_empty());
            let region = region.unwrap_or_else(|| "us-east-1".to_owned());
            let skip = ("skip_route53_sync_on_delete".to_owned(), Value::Bool(true));
            Map::from_iter([("region".to_owned(), region.into()), skip])
        },
        ..Syntax::NONE
    },
    compile,
};

const VERSION: &str = "/2013-04-01";
const TTL: u64 = 300;
const MAX_WAIT: Duration = Duration::from_secs(60);
const RETRIES: u32 = 5;
/// Refusals that stand for "not now", though their status is 400.
const BUSY: [&str; 3] = ["Throttling", "ThrottlingException", "PriorRequestNotComplete"];
/// All values of a name are written at once, so two writers take turns.
static WRITING: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    region: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    secret_access_key: String,
    #[serde(default)]
    session_token: String,
    #[serde(default)]
    max_retries: i64,
    #[serde(default)]
    route53_max_wait: i64,
    #[serde(default)]
    wait_for_route53_sync: bool,
    #[serde(default)]
    skip_route53_sync_on_delete: bool,
    #[serde(default)]
    hosted_zone_id: String,
    /// What it would log is logged at level debug anyway.
    #[serde(default, rename = "debug_logging")]
    _debug_logging: bool,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Route53::new(json, None)?))
}

#[derive(Debug)]
struct Route53 {
    api: Api,
    attempts: u32,
    /// Of the signature; the service is one for all regions of a partition.
    region: &'static str,
    credentials: CredentialProvider,
    max_wait: Duration,
    wait: bool,
    wait_on_delete: bool,
    hosted_zone_id: String,
    poll: Duration,
}

/// The values of a name, as the API writes them.
#[derive(Debug, Default)]
struct RecordSet {
    ttl: u64,
    values: Vec<String>,
    /// Whether it is an alias of a resource of AWS, or one of several by a routing policy.
    is_special: bool,
}

impl Route53 {
    fn new(json: &Value, base: Option<&str>) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let asked = expand(&config.region);
        let (url, region) = if asked.starts_with("cn-") {
            ("https://api.route53.cn", "cn-northwest-1")
        } else if asked.starts_with("us-gov-") {
            ("https://route53.us-gov.amazonaws.com", "us-gov-west-1")
        } else {
            ("https://route53.amazonaws.com", "us-east-1")
        };
        let attempts = u32::try_from(config.max_retries).ok().filter(|retries| *retries > 0);
        let attempts = attempts.unwrap_or(RETRIES);
        let wait = u64::try_from(config.route53_max_wait).ok().filter(|nanos| *nanos > 0);
        let fixed = Credentials {
            access_key_id: expand(&config.access_key_id),
            secret_access_key: expand(&config.secret_access_key),
            session_token: expand(&config.session_token),
        };
        let credentials = CredentialSources {
            fixed: Some(fixed),
            profile: expand(&config.profile),
            region: asked,
            ..CredentialSources::default()
        };
        let id = expand(&config.hosted_zone_id);
        Ok(Self {
            api: Api::new("route53", base.unwrap_or(url)).attempts(attempts),
            attempts,
            region,
            credentials: credentials.provider(),
            max_wait: wait.map_or(MAX_WAIT, Duration::from_nanos),
            wait: config.wait_for_route53_sync,
            wait_on_delete: config.wait_for_route53_sync && !config.skip_route53_sync_on_delete,
            hosted_zone_id: id.strip_prefix("/hostedzone/").unwrap_or(&id).to_owned(),
            poll: Duration::from_secs(2),
        })
    }

    async fn credentials(&self) -> Result<Credentials, DnsError> {
        self.credentials.get().await.map_err(|error| self.api.fail(error))
    }

    /// The text of a successful answer.
    async fn send(&self, credentials: &Credentials, call: Call) -> Result<String, DnsError> {
        let signer = Signer {
            credentials,
            region: self.region,
            service: "route53",
            paths: PathRule::Normalized,
        };
        let call = call.hiding(&credentials.secret_access_key).hiding(&credentials.session_token);
        let sign = |request: &mut Request<Bytes>| {
            let hash = payload_hash(request.body());
            signer.sign(request, &hash, SystemTime::now()).map_err(|error| self.api.fail(error))
        };
        for attempt in 1.. {
            let reply = self.api.send_signed(&call, sign).await?;
            if reply.status.is_success() {
                return String::from_utf8(reply.body.to_vec())
                    .map_err(|error| self.api.fail(error));
            }
            let (code, error) = self.refusal(&call, &reply);
            if attempt >= self.attempts || !BUSY.contains(&&*code) {
                return Err(error);
            }
            tokio::time::sleep(self.poll * attempt.min(5)).await;
        }
        // Attempts end before their counter does.
        Err(self.api.fail("too many attempts"))
    }

    /// The code and the sentence of a refusal.
    fn refusal(&self, call: &Call, reply: &Reply) -> (String, DnsError) {
        let text = String::from_utf8_lossy(&reply.body);
        let Ok(document) = Document::parse(&text) else {
            return (String::new(), self.api.refused(call, reply));
        };
        let root = document.root_element();
        let of = |name: &str| {
            let found = root.descendants().filter(|node| node.has_tag_name_of(name));
            found.filter_map(|node| node.text()).collect::<Vec<_>>().join("; ")
        };
        let (code, message) = (of("Code"), of("Message"));
        let code = if code.is_empty() { root.tag_name().name().to_owned() } else { code };
        let said = if message.is_empty() { code.clone() } else { format!("{message} ({code})") };
        let error = self.api.refused_with(call, reply.status, &said);
        (code, error)
    }

    fn parse<'a>(&self, text: &'a str) -> Result<Document<'a>, DnsError> {
        Document::parse(text)
            .map_err(|error| self.api.fail(format_args!("unexpected answer: {error}")))
    }

    /// The id of the hosted zone for a name: a public one where there are several.
    async fn zone(&self, credentials: &Credentials, zone: &str) -> Result<String, DnsError> {
        if !self.hosted_zone_id.is_empty() {
            return Ok(self.hosted_zone_id.clone());
        }
        for name in zones(zone) {
            // The listing begins at this name, so all zones of the name are on its first page.
            let path = format!("{VERSION}/hostedzonesbyname?dnsname={}&maxitems=100", encode(name));
            let text = self.send(credentials, Call::new(Method::GET, path)).await?;
            let document = self.parse(&text)?;
            let zones = document.descendants().filter(|node| node.has_tag_name_of("HostedZone"));
            let mut found: Vec<(bool, &str)> = zones
                .filter(|zone| plain(zone.child_text("Name")) == name)
                .map(|zone| {
                    let private = zone.descendants().any(|node| {
                        node.has_tag_name_of("PrivateZone") && node.text() == Some("true")
                    });
                    (private, zone.child_text("Id"))
                })
                .collect();
            found.sort_by_key(|(private, _)| *private);
            if let Some((_, id)) = found.first() {
                return Ok(id.strip_prefix("/hostedzone/").unwrap_or(id).to_owned());
            }
        }
        Err(self.api.no_zone(zone))
    }

    /// The first record set of a name, of this type if one is given; with its type.
    async fn record_set(
        &self,
        credentials: &Credentials,
        id: &str,
        full: &str,
        kind: Option<&str>,
    ) -> Result<Option<(String, RecordSet)>, DnsError> {
        // The listing begins at this name and type.
        let name = encode(&format!("{full}."));
        let id = encode(id);
        let filter = kind.map(|kind| format!("&type={kind}")).unwrap_or_default();
        let path = format!("{VERSION}/hostedzone/{id}/rrset?maxitems=1&name={name}{filter}");
        let text = self.send(credentials, Call::new(Method::GET, path)).await?;
        let document = self.parse(&text)?;
        let mut sets =
            document.descendants().filter(|node| node.has_tag_name_of("ResourceRecordSet"));
        let set = sets.find(|set| {
            plain(set.child_text("Name")) == full
                && kind.is_none_or(|kind| set.child_text("Type") == kind)
        });
        Ok(set.map(|set| {
            let special = ["AliasTarget", "SetIdentifier"];
            let found = RecordSet {
                ttl: set.child_text("TTL").parse().unwrap_or(TTL),
                values: set
                    .descendants()
                    .filter(|node| node.has_tag_name_of("Value"))
                    .filter_map(|node| node.text().map(str::to_owned))
                    .collect(),
                is_special: special
                    .iter()
                    .any(|name| set.children().any(|node| node.has_tag_name_of(name))),
            };
            (set.child_text("Type").to_owned(), found)
        }))
    }

    async fn records_at(&self, zone: &str, name: &str) -> Result<NameRecords, DnsError> {
        let full = full_name(name, zone).to_lowercase();
        let credentials = self.credentials().await?;
        let id = self.zone(&credentials, zone).await?;
        let mut records = NameRecords::default();
        let first = self.record_set(&credentials, &id, &full, None).await?;
        let Some((kind, first)) = first else { return Ok(records) };
        if kind == "CNAME" {
            // It is alone; one at AWS has no value.
            let target = first.values.first().map(String::as_str).unwrap_or_default();
            records.add(&kind, target)?;
            return Ok(records);
        }
        records.is_used = true;
        let services = self.record_set(&credentials, &id, &full, Some("HTTPS")).await?;
        if let Some((kind, services)) = services {
            for value in services.values {
                records.add(&kind, &value)?;
            }
        }
        Ok(records)
    }

    async fn change_one(
        &self,
        zone: &str,
        record: Entry<'_>,
        change: Change,
    ) -> Result<(), DnsError> {
        let full = record.full_name(zone).to_lowercase();
        let credentials = self.credentials().await?;
        let id = self.zone(&credentials, zone).await?;
        let turn = WRITING.lock().await;
        let old = self.record_set(&credentials, &id, &full, Some(record.kind())).await?;
        let old = old.map(|(_, old)| old);
        if old.as_ref().is_some_and(|old| old.is_special) && matches!(record.data, Data::Service(_))
        {
            return Err(self.api.fail(format_args!(
                "{full} has an HTTPS record that is an alias at AWS or has a routing policy, which \
                 stays as it is: remove it to have one set here"
            )));
        }
        let old_ttl = old.as_ref().map(|old| old.ttl);
        let mut values = old.map(|old| old.values).unwrap_or_default();
        let before = values.clone();
        if !change.apply(&mut values, &record) {
            return Ok(());
        }
        let ttl = record.ttl_among(&values, old_ttl, TTL, 0);
        // A set is deleted by telling it as it is.
        let (action, values) =
            if values.is_empty() { ("DELETE", &before) } else { ("UPSERT", &values) };
        let values: String = values
            .iter()
            .map(|value| {
                format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(value))
            })
            .collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <ChangeBatch><Changes><Change><Action>{action}</Action><ResourceRecordSet>\
             <Name>{}.</Name><Type>{}</Type><TTL>{}</TTL>\
             <ResourceRecords>{values}</ResourceRecords>\
             </ResourceRecordSet></Change></Changes></ChangeBatch>\
             </ChangeResourceRecordSetsRequest>",
            escape(&full),
            record.kind(),
            ttl,
        );
        let path = format!("{VERSION}/hostedzone/{}/rrset/", encode(&id));
        let call = Call::new(Method::POST, path).body("application/xml", body);
        let text = self.send(&credentials, call).await?;
        drop(turn);
        let wait = match change {
            Change::Add => self.wait,
            Change::Remove => self.wait_on_delete,
        };
        if wait { self.in_sync(&credentials, &text).await } else { Ok(()) }
    }

    /// Waits until all servers of Route 53 have a change.
    async fn in_sync(&self, credentials: &Credentials, text: &str) -> Result<(), DnsError> {
        let deadline = Instant::now() + self.max_wait;
        let mut text = text.to_owned();
        loop {
            let path = {
                let document = self.parse(&text)?;
                let info = document.descendants().find(|node| node.has_tag_name_of("ChangeInfo"));
                let info = info.ok_or_else(|| self.api.fail("the answer names no change"))?;
                if info.child_text("Status") == "INSYNC" {
                    return Ok(());
                }
                let id = info.child_text("Id");
                let id = id.strip_prefix("/change/").unwrap_or(id);
                format!("{VERSION}/change/{}", encode(id))
            };
            if Instant::now() + self.poll > deadline {
                return Err(self.api.fail(format_args!(
                    "the change is not on all servers after {:?} (route53_max_wait)",
                    self.max_wait
                )));
            }
            tokio::time::sleep(self.poll).await;
            text = self.send(credentials, Call::new(Method::GET, path)).await?;
        }
    }
}

/// What is needed of XML, whose names all lie in one namespace.
trait Element<'a> {
    fn has_tag_name_of(&self, name: &str) -> bool;
    /// The text of a child; empty without it.
    fn child_text(&self, name: &str) -> &'a str;
}

impl<'a> Element<'a> for Node<'a, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.tag_name().name() == name
    }

    fn child_text(&self, name: &str) -> &'a str {
        let child = self.children().find(|child| child.tag_name().name() == name);
        child.and_then(|child| child.text()).unwrap_or_default()
    }
}

/// A name without its final dot and without octal escapes (`\052` is `*`).
fn plain(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.trim_end_matches('.').as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\'
            && let Some((code, after)) = rest.split_at_checked(3)
            && let Ok(code) = std::str::from_utf8(code)
            && let Ok(byte) = u8::from_str_radix(code, 8)
        {
            out.push(byte);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).to_lowercase()
}

/// A text as the content of an element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Records for Route53 {
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        each(entries, move |entry| self.change_one(zone, entry, change))
    }

    fn look<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(self.records_at(zone, name))
    }
}

#[cfg(test)]
mod tests;
