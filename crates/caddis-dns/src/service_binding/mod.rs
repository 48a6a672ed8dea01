//! Service bindings: what HTTPS records hold (RFC 9460), as a zone file writes it and as it is sent.
//!
//! ```text
//! 2 . alpn="h3,h2" ech="AEX+DQBB…"
//! ```
//! Parameters are kept as they are sent, by their numbers: those that nothing here knows are neither
//! lost nor changed.

mod presentation;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use base64::prelude::{BASE64_STANDARD, Engine};

use self::presentation::{char_string, escaped, items, words};
use crate::{
    DnsError,
    query::{Reader, write_name},
};

/// The parameters of RFC 9460 §14.3.2 and those that came later; names are written up to
/// [`LAST_WRITTEN`], since not every service knows the later ones.
const NAMES: [&str; 11] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
    "tls-supported-groups",
    "docpath",
];
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOH_PATH: u16 = 7;
const OHTTP: u16 = 8;
const TLS_SUPPORTED_GROUPS: u16 = 9;
const DOC_PATH: u16 = 10;
/// The last parameter that is written with a name of its own.
const LAST_WRITTEN: u16 = DOH_PATH;
/// Reserved: it is no parameter.
const INVALID_KEY: u16 = u16::MAX;

/// The data of an HTTPS (or SVCB) record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceBinding {
    /// 0: the name is an alias of the target. Else lower ones come first.
    pub priority: u16,
    /// The name of the server, without the final dot; empty for the record's own name, which is
    /// written as a dot.
    pub target: String,
    /// The parameters.
    pub params: ServiceParams,
}

impl ServiceBinding {
    /// Whether it names no other server than the record's own name, as a service rather than as an
    /// alias.
    pub fn is_own(&self) -> bool {
        self.priority > 0 && self.target.is_empty()
    }

    /// Whether a record's data, as a zone file has it, has the same priority and target. Its
    /// parameters may be anything, even unreadable.
    pub fn replaces(&self, written: &str) -> bool {
        let mut words = words(written);
        let priority = words.next().and_then(|word| word.parse().ok());
        let target = words.next().map(plain_name);
        priority == Some(self.priority)
            && target.is_some_and(|target| target.eq_ignore_ascii_case(&self.target))
    }

    /// As it is sent (RFC 9460 §2.2).
    ///
    /// # Errors
    /// The target is no name.
    pub fn to_wire(&self) -> Result<Vec<u8>, DnsError> {
        let mut out = self.priority.to_be_bytes().to_vec();
        write_name(&mut out, &self.target)?;
        for (key, value) in &self.params.0 {
            out.extend(key.to_be_bytes());
            // Values are no longer than this.
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(value);
        }
        Ok(out)
    }

    /// From what was sent.
    ///
    /// # Errors
    /// It is cut off, or its parameters are not in order or not as they have to be.
    pub fn from_wire(data: &[u8]) -> Result<Self, DnsError> {
        let cut = || DnsError::new("service binding is cut off");
        let mut reader = Reader { message: data, at: 0 };
        let priority = reader.u16().ok_or_else(cut)?;
        let target = reader.name().ok_or_else(cut)?;
        let mut params = BTreeMap::new();
        while reader.at < data.len() {
            let key = reader.u16().ok_or_else(cut)?;
            let length = usize::from(reader.u16().ok_or_else(cut)?);
            let value = data.get(reader.at..reader.at + length).ok_or_else(cut)?;
            reader.at += length;
            if params.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DnsError::new("service binding: parameters are not in order"));
            }
            check(key, value)?;
            params.insert(key, value.to_vec());
        }
        let params = ServiceParams(params);
        params.check()?;
        Ok(Self { priority, target, params })
    }
}

impl FromStr for ServiceBinding {
    type Err = DnsError;

    /// Reads what a zone file has (RFC 9460 §2.1).
    fn from_str(text: &str) -> Result<Self, DnsError> {
        let mut words = words(text);
        let (Some(priority), Some(target)) = (words.next(), words.next()) else {
            return Err(DnsError::new("service binding needs a priority and a target"));
        };
        let priority = priority.parse().map_err(|_| {
            DnsError(format!("service binding: priority {priority:?} is no number up to 65535"))
        })?;
        Ok(Self { priority, target: plain_name(target).to_owned(), params: words.rest.parse()? })
    }
}

impl fmt::Display for ServiceBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.", self.priority, self.target)?;
        if !self.params.0.is_empty() {
            write!(f, " {}", self.params)?;
        }
        Ok(())
    }
}

/// The parameters of a service binding: their values as they are sent, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceParams(BTreeMap<u16, Vec<u8>>);

impl ServiceParams {
    /// Sets the protocols that the server speaks over TLS and QUIC (`alpn`).
    ///
    /// # Errors
    /// There are none; one of them is empty or longer than 255 octets.
    pub fn set_alpn<S: AsRef<str>>(&mut self, protocols: &[S]) -> Result<(), DnsError> {
        let mut value = Vec::new();
        for protocol in protocols {
            let protocol = protocol.as_ref().as_bytes();
            let Ok(length @ 1..) = u8::try_from(protocol.len()) else {
                return Err(DnsError::new("alpn: a protocol has 1 to 255 octets"));
            };
            value.push(length);
            value.extend(protocol);
        }
        check(ALPN, &value)?;
        self.0.insert(ALPN, value);
        Ok(())
    }

    /// Sets the list of ECH configurations (`ech`, RFC 9848 §3).
    ///
    /// # Errors
    /// It is longer than a parameter can be.
    pub fn set_ech(&mut self, config_list: &[u8]) -> Result<(), DnsError> {
        check(ECH, config_list)?;
        self.0.insert(ECH, config_list.to_vec());
        Ok(())
    }

    /// The list of ECH configurations, if there is one.
    pub fn ech(&self) -> Option<&[u8]> {
        self.0.get(&ECH).map(Vec::as_slice)
    }

    /// What a parameter demands of the others (RFC 9460 §7.1.1 and §8).
    fn check(&self) -> Result<(), DnsError> {
        if self.0.contains_key(&NO_DEFAULT_ALPN) && !self.0.contains_key(&ALPN) {
            return Err(DnsError::new("no-default-alpn needs alpn beside it"));
        }
        let mandatory = self.0.get(&MANDATORY).map(Vec::as_slice).unwrap_or_default();
        for key in numbers(mandatory) {
            if !self.0.contains_key(&key) {
                return Err(DnsError(format!("mandatory names {}, which is absent", Key(key))));
            }
        }
        Ok(())
    }
}

impl FromStr for ServiceParams {
    type Err = DnsError;

    fn from_str(text: &str) -> Result<Self, DnsError> {
        let mut params = BTreeMap::new();
        let mut rest = text.as_bytes();
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                break;
            }
            let end = rest.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace());
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            let key = Key::named(name)?;
            let value;
            (value, rest) = match after.strip_prefix(b"=") {
                Some(after) => char_string(after)?,
                None => (Vec::new(), after),
            };
            let fail = |error: DnsError| DnsError(format!("{key}: {error}"));
            let value = if is_generic(name) {
                check(key.0, &value).map(|()| value)
            } else {
                sent(key.0, &value)
            };
            let value = value.map_err(fail)?;
            if params.insert(key.0, value).is_some() {
                return Err(DnsError(format!("{key} is there twice")));
            }
        }
        let params = Self(params);
        params.check()?;
        Ok(params)
    }
}

impl fmt::Display for ServiceParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let space = if at > 0 { " " } else { "" };
            write!(f, "{space}{}", Key(*key))?;
            if !value.is_empty() {
                write!(f, "=\"{}\"", escaped(&shown(*key, value)))?;
            }
        }
        Ok(())
    }
}

/// The number of a parameter.
#[derive(Debug, Clone, Copy)]
struct Key(u16);

impl Key {
    /// By its name, or `key` with a number (RFC 9460 §2.1).
    fn named(name: &[u8]) -> Result<Self, DnsError> {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let unknown = || DnsError(format!("service binding: unknown parameter {name:?}"));
        let known = (0_u16..).zip(NAMES).find(|(_, known)| *known == name);
        if let Some((key, _)) = known {
            return Ok(Self(key));
        }
        let digits = name.strip_prefix("key").ok_or_else(unknown)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let key = digits.parse().ok().filter(|key| plain && *key != INVALID_KEY);
        key.map(Self).ok_or_else(unknown)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) if self.0 <= LAST_WRITTEN => f.write_str(name),
            _ => write!(f, "key{}", self.0),
        }
    }
}

/// Whether a parameter is written by its number, which says that its value is written as it is sent
/// (RFC 9460 §2.1).
fn is_generic(name: &[u8]) -> bool {
    name.split_at_checked(3).is_some_and(|(key, _)| key.eq_ignore_ascii_case(b"key"))
}

/// Whether a parameter's value is as it has to be.
fn check(key: u16, value: &[u8]) -> Result<(), DnsError> {
    let fits = match key {
        MANDATORY => {
            // In order, each once, and not itself (RFC 9460 §8).
            let keys: Vec<u16> = numbers(value).collect();
            let ordered = keys.is_sorted_by(|one, next| one < next);
            value.len().is_multiple_of(2) && ordered && keys.first().is_some_and(|key| *key > 0)
        }
        ALPN => !value.is_empty() && texts(value).is_some(),
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4_HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6_HINT => !value.is_empty() && value.len().is_multiple_of(16),
        ECH => !value.is_empty(),
        INVALID_KEY => false,
        _ => true,
    };
    if !fits || value.len() > usize::from(u16::MAX) {
        return Err(DnsError(format!("service binding: the value of {} cannot be", Key(key))));
    }
    Ok(())
}

/// A value as it is sent, from what a zone file has once its escapes are taken away.
fn sent(key: u16, value: &[u8]) -> Result<Vec<u8>, DnsError> {
    let text = || std::str::from_utf8(value).map_err(|_| DnsError::new("value is no text"));
    let out = match key {
        MANDATORY => {
            let keys = value.split(|byte| *byte == b',').map(Key::named);
            let mut keys: Vec<u16> =
                keys.map(|key| key.map(|key| key.0)).collect::<Result<_, _>>()?;
            keys.sort_unstable();
            keys.iter().flat_map(|key| key.to_be_bytes()).collect()
        }
        ALPN | DOC_PATH => {
            let mut out = Vec::new();
            for item in items(value)? {
                out.push(u8::try_from(item.len()).map_err(|_| DnsError::new("item too long"))?);
                out.extend(item);
            }
            out
        }
        PORT => text()?.parse::<u16>().map_err(DnsError::new)?.to_be_bytes().to_vec(),
        TLS_SUPPORTED_GROUPS => {
            let groups = text()?.split(',').map(str::parse::<u16>);
            let groups: Vec<u16> = groups.collect::<Result<_, _>>().map_err(DnsError::new)?;
            groups.iter().flat_map(|group| group.to_be_bytes()).collect()
        }
        IPV4_HINT => {
            let all = text()?.split(',').map(str::parse::<Ipv4Addr>);
            let all: Vec<_> = all.collect::<Result<_, _>>().map_err(DnsError::new)?;
            all.iter().flat_map(Ipv4Addr::octets).collect()
        }
        IPV6_HINT => {
            let all = text()?.split(',').map(str::parse::<Ipv6Addr>);
            let all: Vec<_> = all.collect::<Result<_, _>>().map_err(DnsError::new)?;
            all.iter().flat_map(Ipv6Addr::octets).collect()
        }
        ECH => BASE64_STANDARD.decode(value).map_err(DnsError::new)?,
        _ => value.to_vec(),
    };
    check(key, &out)?;
    Ok(out)
}

/// A value as a zone file has it, but for escapes of single octets.
fn shown(key: u16, value: &[u8]) -> Vec<u8> {
    let join = |all: Vec<String>| all.join(",").into_bytes();
    match key {
        MANDATORY => join(numbers(value).map(|key| Key(key).to_string()).collect()),
        ALPN => {
            let mut out = Vec::new();
            for item in texts(value).unwrap_or_default() {
                if !out.is_empty() {
                    out.push(b',');
                }
                for byte in item {
                    if matches!(byte, b',' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
            }
            out
        }
        PORT => join(numbers(value).map(|port| port.to_string()).collect()),
        IPV4_HINT => {
            let (all, _) = value.as_chunks::<4>();
            join(all.iter().map(|octets| Ipv4Addr::from(*octets).to_string()).collect())
        }
        IPV6_HINT => {
            let (all, _) = value.as_chunks::<16>();
            join(all.iter().map(|octets| Ipv6Addr::from(*octets).to_string()).collect())
        }
        ECH => BASE64_STANDARD.encode(value).into_bytes(),
        _ => value.to_vec(),
    }
}

/// Texts of which each comes after its length; none where they do not fit or one is empty.
fn texts(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while let Some((&length, after)) = value.split_first() {
        let (text, after) = after.split_at_checked(usize::from(length))?;
        if text.is_empty() {
            return None;
        }
        all.push(text);
        value = after;
    }
    Some(all)
}

fn numbers(value: &[u8]) -> impl Iterator<Item = u16> {
    let (all, _) = value.as_chunks::<2>();
    all.iter().map(|octets| u16::from_be_bytes(*octets))
}

/// A name without its final dot.
fn plain_name(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
