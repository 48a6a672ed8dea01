//! `dns.providers.rfc2136`: any name server that takes dynamic updates (RFC 2136) signed with a
//! shared key (TSIG, RFC 8945), such as BIND, Knot or PowerDNS.
//!
//! ```text
//! dns rfc2136 {
//!     key_name <name>
//!     key_alg  <hmac-sha256>
//!     key      <base64>
//!     server   <host>[:<port>]
//! }
//! ```
//! JSON: the same fields. Algorithms: hmac-sha1, -sha224, -sha256, -sha384, -sha512. The server
//! gets updates over UDP, and over TCP where it does not answer there. Without a time to live of
//! its own a record has one minute.

mod tsig;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine};
use caddis_config::ConfigError;
use serde::Deserialize;
use serde_json::Value;

use self::tsig::{Signer, Verdict};
use crate::{
    DnsError, DnsFuture, DnsProvider, Field, NameRecords, Provider, ServiceBinding, Syntax,
    api::expand,
    full_name,
    query::{
        CNAME, HTTPS, Record, SOA, TXT, over_tcp, over_udp, parse, question, resolvers, write_name,
    },
    records::{Change, Data, Entry, Records, zones},
    syntax::demand,
};

/// The module.
pub(crate) static PROVIDER: Provider = Provider {
    name: "rfc2136",
    syntax: Syntax {
        fields: &[
            Field::text("key_name"),
            Field::text("key_alg"),
            Field::text("key"),
            Field::text("server"),
        ],
        check: |json| {
            demand(
                json,
                &[
                    ("key", "rfc2136: missing key"),
                    ("key_name", "rfc2136: missing key_name"),
                    ("key_alg", "rfc2136: missing key_alg"),
                    ("server", "rfc2136: missing server"),
                ],
            )
        },
        ..Syntax::NONE
    },
    compile,
};

const TTL: u64 = 60;
/// How long the server may take over UDP; two tries.
const UDP_TIMEOUT: Duration = Duration::from_secs(3);
const TCP_TIMEOUT: Duration = Duration::from_secs(15);
/// Opcode UPDATE in the flags (RFC 2136 §2.2).
const UPDATE: u16 = 5 << 11;
const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;
const NXDOMAIN: u16 = 3;
const NOTAUTH: u16 = 9;
const NOTZONE: u16 = 10;

const ALGORITHMS: [(&str, hmac::Algorithm); 5] = [
    ("hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
    ("hmac-sha224", hmac::HMAC_SHA224),
    ("hmac-sha256", hmac::HMAC_SHA256),
    ("hmac-sha384", hmac::HMAC_SHA384),
    ("hmac-sha512", hmac::HMAC_SHA512),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    key_name: String,
    #[serde(default)]
    key_alg: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    server: String,
}

fn compile(json: &Value) -> Result<Arc<dyn DnsProvider>, ConfigError> {
    Ok(Arc::new(Rfc2136::new(json)?))
}

#[derive(Debug)]
struct Rfc2136 {
    /// Lower case, without the final dot.
    key_name: String,
    algorithm: &'static str,
    /// None where the key is an empty placeholder.
    key: Option<hmac::Key>,
    server: String,
}

impl Rfc2136 {
    fn new(json: &Value) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json.clone())?;
        let name = expand(&config.key_alg).to_lowercase();
        let name = name.trim_end_matches('.');
        let algorithm = ALGORITHMS.iter().find(|(known, _)| *known == name);
        let (algorithm, hmac) = algorithm.ok_or_else(|| {
            let known = ALGORITHMS.map(|(name, _)| name).join(", ");
            ConfigError::new("key_alg", format!("unknown algorithm '{name}'; known: {known}"))
        })?;
        let key: String =
            expand(&config.key).chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let key = BASE64_STANDARD.decode(&key).or_else(|_| BASE64_STANDARD_NO_PAD.decode(&key));
        let key = key.map_err(|_| ConfigError::new("key", "the key is not base64"))?;
        let server = expand(&config.server);
        Ok(Self {
            key_name: expand(&config.key_name).trim_end_matches('.').to_lowercase(),
            algorithm,
            key: (!key.is_empty()).then(|| hmac::Key::new(*hmac, &key)),
            server: match server.trim() {
                "" => String::new(),
                server => resolvers(&[server.to_owned()]).into_iter().next().unwrap_or_default(),
            },
        })
    }

    fn signer(&self) -> Result<Signer<'_>, DnsError> {
        let empty = [("key_name", &self.key_name), ("server", &self.server)];
        let empty = empty.iter().find(|(_, value)| value.is_empty()).map(|(field, _)| *field);
        let (Some(key), None) = (&self.key, empty) else {
            let field = empty.unwrap_or("key");
            return Err(self.fail(format_args!(
                "{field} is empty; if it is a placeholder, is its variable set?"
            )));
        };
        Ok(Signer { name: &self.key_name, algorithm: self.algorithm, key })
    }

    /// Makes changes in a zone, or its parent, if what they demand is so; whether it is.
    async fn update(
        &self,
        zone: &str,
        demands: &[Line],
        changes: &[Line],
    ) -> Result<bool, DnsError> {
        let signer = self.signer()?;
        let mut last = self.fail("no zone");
        // The server may keep the names in another zone than the one that resolvers told.
        for home in zones(zone) {
            let message = message(home, demands, changes)?;
            let reply = self.ask(&signer, &message).await?;
            match reply.code {
                0 => return Ok(true),
                NXDOMAIN if !demands.is_empty() => return Ok(false),
                NOTAUTH | NOTZONE => {
                    last = self.refused(&reply, home);
                    if reply.error != 0 {
                        break;
                    }
                }
                _ => return Err(self.refused(&reply, home)),
            }
        }
        Err(last)
    }

    /// The records of a name and type, or the alias that the name is.
    async fn query(&self, name: &str, kind: u16) -> Result<Vec<Record>, DnsError> {
        let id = fastrand::u16(..);
        let reply = self.ask(&self.signer()?, &question(id, name, kind)?).await?;
        if !matches!(reply.code, 0 | NXDOMAIN) {
            return Err(self.refused(&reply, name));
        }
        let answer = parse(&reply.message, id).ok_or_else(|| self.fail("malformed answer"))?;
        let mut records = answer.answers;
        let name = name.to_lowercase();
        records.retain(|record| record.name == name && [kind, CNAME].contains(&record.kind));
        Ok(records)
    }

    /// Sets an HTTPS record.
    async fn put_service(
        &self,
        zone: &str,
        entry: &Entry<'_>,
        binding: &ServiceBinding,
    ) -> Result<(), DnsError> {
        // PowerDNS compares what is to go as it is written: a record that came to it in another
        // spelling than its own stays, unless its set goes.
        for takes_set in [false, true] {
            let lines =
                self.service_lines(&entry.full_name(zone), entry, binding, takes_set).await?;
            if lines.is_empty() {
                break;
            }
            self.update(zone, &[], &lines).await?;
        }
        Ok(())
    }

    /// The lines of an update that sets an HTTPS record; none where it is so already. Records that
    /// give way are taken away one by one, or with the whole set, whose others are added again.
    async fn service_lines(
        &self,
        name: &str,
        entry: &Entry<'_>,
        binding: &ServiceBinding,
        takes_set: bool,
    ) -> Result<Vec<Line>, DnsError> {
        let data = binding.to_wire()?;
        let mut found = self.query(name, HTTPS).await?;
        found.retain(|record| record.kind == HTTPS);
        let (old, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|record| {
            let old = ServiceBinding::from_wire(&record.data);
            old.is_ok_and(|old| old.priority == binding.priority && old.target == binding.target)
        });
        if let [old] = &*old
            && old.data == data
        {
            return Ok(Vec::new());
        }
        // All of a set live equally long: the new one as long as those that stay.
        let ttl = others.first().map_or_else(|| ttl_of(entry), |other| other.ttl);
        let mut lines: Vec<Line> = if takes_set {
            let others =
                others.into_iter().map(|other| Line::add(name, HTTPS, other.ttl, other.data));
            std::iter::once(Line::remove_set(name, HTTPS)).chain(others).collect()
        } else {
            old.into_iter().map(|old| Line::remove(name, HTTPS, old.data)).collect()
        };
        lines.push(Line::add(name, HTTPS, ttl, data));
        Ok(lines)
    }

    async fn records_at(&self, zone: &str, name: &str) -> Result<NameRecords, DnsError> {
        let full = full_name(name, zone);
        // Asked as a condition of an update, since no wildcard answers to that.
        if !self.update(zone, &[Line::is_used(&full)], &[]).await? {
            return Ok(NameRecords::default());
        }
        let mut records = NameRecords { is_used: true, ..NameRecords::default() };
        for record in self.query(&full, HTTPS).await? {
            if record.kind == CNAME {
                records.alias = Some(String::from_utf8_lossy(&record.data).into_owned());
            } else {
                let read = ServiceBinding::from_wire(&record.data);
                records.services.push(read.map_err(|error| {
                    self.fail(format_args!("HTTPS record of {full} cannot be read: {error}"))
                })?);
            }
        }
        Ok(records)
    }

    /// Sends a message.
    async fn ask(&self, signer: &Signer<'_>, message: &[u8]) -> Result<Reply, DnsError> {
        let fail = |error: &dyn std::fmt::Display| self.fail(error);
        let (signed, mac) = signer.sign(message, now())?;
        for _ in 0..2 {
            match tokio::time::timeout(UDP_TIMEOUT, over_udp(&self.server, &signed)).await {
                Ok(Ok(answer)) => match signer.verify(&answer, &signed, &mac, now()) {
                    Ok(Verdict::Truncated) => break,
                    Ok(Verdict::Code(code, error)) => {
                        return Ok(Reply { code, error, message: answer });
                    }
                    Err(reason) => return Err(fail(&reason)),
                },
                // Nobody there, or only behind TCP.
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
        let asked = tokio::time::timeout(TCP_TIMEOUT, over_tcp(&self.server, &signed)).await;
        let answer = asked.map_err(|_| fail(&"i/o timeout"))?.map_err(|error| fail(&error))?;
        match signer.verify(&answer, &signed, &mac, now()) {
            Ok(Verdict::Code(code, error)) => Ok(Reply { code, error, message: answer }),
            Ok(Verdict::Truncated) => Err(fail(&"truncated answer over TCP")),
            Err(reason) => Err(fail(&reason)),
        }
    }

    fn refused(&self, reply: &Reply, zone: &str) -> DnsError {
        let name = &self.key_name;
        match reply.error {
            16 => self.fail(format_args!("BADSIG: the server has another key by the name {name}")),
            17 => self.fail(format_args!(
                "BADKEY: the server knows no key {name} with {}",
                self.algorithm
            )),
            18 => self.fail("BADTIME: the clocks of this machine and the server differ"),
            22 => self.fail("BADTRUNC: the server wants another length of signature"),
            _ => self.fail(format_args!("{}, zone {zone}", code_name(reply.code))),
        }
    }

    fn fail(&self, text: impl std::fmt::Display) -> DnsError {
        DnsError(format!("rfc2136: {}: {text}", self.server))
    }
}

/// An answer whose signature was checked.
struct Reply {
    code: u16,
    /// The code of its signature.
    error: u16,
    message: Vec<u8>,
}

/// Response codes in words.
fn code_name(code: u16) -> String {
    match code {
        1 => "FORMERR: the server cannot read the update".into(),
        2 => "SERVFAIL: the server failed".into(),
        3 => "NXDOMAIN: no such name".into(),
        4 => "NOTIMP: the server takes no updates".into(),
        5 => "REFUSED: the key may not do that".into(),
        9 => "NOTAUTH: the server does not keep this zone, or refuses the key".into(),
        10 => "NOTZONE: the name lies outside the zone".into(),
        code => format!("response code {code}"),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A line of an update: a change to a record, or a demand.
struct Line {
    name: String,
    kind: u16,
    class: u16,
    ttl: u32,
    data: Vec<u8>,
}

impl Line {
    /// Adds to a set (RFC 2136 §2.5.1).
    fn add(name: &str, kind: u16, ttl: u32, data: Vec<u8>) -> Self {
        Self { name: name.to_owned(), kind, class: IN, ttl, data }
    }

    /// Takes exactly this record away from a set (§2.5.4).
    fn remove(name: &str, kind: u16, data: Vec<u8>) -> Self {
        Self { name: name.to_owned(), kind, class: NONE, ttl: 0, data }
    }

    /// Takes a set away (§2.5.2).
    fn remove_set(name: &str, kind: u16) -> Self {
        Self { name: name.to_owned(), kind, class: ANY, ttl: 0, data: Vec::new() }
    }

    /// Demands that the name has a record of any type (§2.4.4).
    fn is_used(name: &str) -> Self {
        Self { name: name.to_owned(), kind: ANY, class: ANY, ttl: 0, data: Vec::new() }
    }
}

/// Time to live in seconds.
fn ttl_of(entry: &Entry<'_>) -> u32 {
    u32::try_from(entry.ttl(TTL, 0)).unwrap_or(u32::MAX >> 1)
}

/// The type of a record and its data as it is sent.
fn sent(data: Data<'_>) -> Result<(u16, Vec<u8>), DnsError> {
    let mut out = Vec::with_capacity(64);
    let kind = match data {
        Data::Text(text) => {
            if text.is_empty() {
                out.push(0);
            }
            for part in text.as_bytes().chunks(255) {
                out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                out.extend(part);
            }
            TXT
        }
        Data::Alias(target) => {
            write_name(&mut out, target)?;
            CNAME
        }
        Data::Service(binding) => {
            out = binding.to_wire()?;
            HTTPS
        }
    };
    Ok((kind, out))
}

/// An update of a zone without signature (RFC 2136 §2).
fn message(zone: &str, demands: &[Line], changes: &[Line]) -> Result<Vec<u8>, DnsError> {
    let count =
        |lines: &[Line]| u16::try_from(lines.len()).map_err(|_| DnsError::new("too many records"));
    let mut out = Vec::with_capacity(256);
    out.extend(fastrand::u16(..).to_be_bytes());
    for word in [UPDATE, 1, count(demands)?, count(changes)?, 0] {
        out.extend(word.to_be_bytes());
    }
    write_name(&mut out, zone)?;
    out.extend([SOA.to_be_bytes(), IN.to_be_bytes()].concat());
    for line in demands.iter().chain(changes) {
        write_name(&mut out, &line.name)?;
        out.extend(line.kind.to_be_bytes());
        out.extend(line.class.to_be_bytes());
        out.extend(line.ttl.to_be_bytes());
        let length = u16::try_from(line.data.len()).map_err(|_| DnsError::new("text too long"))?;
        out.extend(length.to_be_bytes());
        out.extend(&line.data);
    }
    Ok(out)
}

impl Records for Rfc2136 {
    fn change<'a>(
        &'a self,
        zone: &'a str,
        entries: Vec<Entry<'a>>,
        change: Change,
    ) -> DnsFuture<'a> {
        Box::pin(async move {
            if let ([entry], Change::Add) = (&*entries, change)
                && let Data::Service(binding) = entry.data
            {
                return self.put_service(zone, entry, binding).await;
            }
            let line = |entry: &Entry<'_>| {
                let name = entry.full_name(zone);
                let (kind, data) = sent(entry.data)?;
                Ok(match change {
                    Change::Add => Line::add(&name, kind, ttl_of(entry), data),
                    Change::Remove => Line::remove(&name, kind, data),
                })
            };
            let lines: Vec<Line> = entries.iter().map(line).collect::<Result<_, DnsError>>()?;
            self.update(zone, &[], &lines).await.map(drop)
        })
    }

    fn look<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(self.records_at(zone, name))
    }
}

#[cfg(test)]
mod tests;
