//! Service bindings: what HTTPS records hold (RFC 9460), as a zone file writes it and as it is sent.
//!
//! ```text
//! 2 . alpn="h3,h2" ech="AEX+DQBB…"
//! ```
//! Parameters are kept as they are sent, by their numbers: those that nothing here knows are neither
//! lost nor changed.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use base64::prelude::{BASE64_STANDARD, Engine};

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

/// A `char-string` in quotes or up to white space, its escapes taken away; and what comes after it
/// (RFC 9460 appendix A).
fn char_string(text: &[u8]) -> Result<(Vec<u8>, &[u8]), DnsError> {
    let quoted = text.first() == Some(&b'"');
    let mut rest = if quoted { text.get(1..).unwrap_or_default() } else { text };
    let mut out = Vec::new();
    loop {
        let Some((&byte, after)) = rest.split_first() else {
            if quoted {
                return Err(DnsError::new("service binding: a quote has no end"));
            }
            return Ok((out, rest));
        };
        match byte {
            b'"' if quoted => {
                if after.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                    return Err(DnsError::new("service binding: no space after a quote"));
                }
                return Ok((out, after));
            }
            byte if !quoted && byte.is_ascii_whitespace() => return Ok((out, rest)),
            b'\\' => {
                let (byte, after) = escape(after)
                    .ok_or_else(|| DnsError::new("service binding: a broken escape"))?;
                out.push(byte);
                rest = after;
            }
            byte => {
                out.push(byte);
                rest = after;
            }
        }
    }
}

/// The octet that an escape stands for: `\044` or `\,`.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, after) = text.split_first()?;
    if !first.is_ascii_digit() {
        return Some((first, after));
    }
    let (digits, after) = text.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| plain)?, after))
}

/// The inside of a quoted `char-string`.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out
}

/// The items of a list, in which `\` escapes commas and itself (RFC 9460 appendix A.1).
fn items(list: &[u8]) -> Result<Vec<Vec<u8>>, DnsError> {
    let (mut all, mut item) = (Vec::new(), Vec::new());
    let mut bytes = list.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => all.push(std::mem::take(&mut item)),
            b'\\' => match bytes.next() {
                Some(byte @ (b',' | b'\\')) => item.push(*byte),
                _ => return Err(DnsError::new("a broken escape in a list")),
            },
            byte => item.push(*byte),
        }
    }
    all.push(item);
    if all.iter().any(Vec::is_empty) {
        return Err(DnsError::new("an empty item in a list"));
    }
    Ok(all)
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

/// The words of a text, one after the other, and what is left of it.
struct Words<'a> {
    rest: &'a str,
}

fn words(text: &str) -> Words<'_> {
    Words { rest: text }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_ascii_start();
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        let word;
        (word, self.rest) = text.split_at(end);
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::{ServiceBinding, ServiceParams};

    /// Reads a text, and reads again what is written for it and sent.
    fn check(text: &str, wire: &[u8]) {
        let binding: ServiceBinding = text.parse().unwrap();
        assert_eq!(binding.to_wire().unwrap(), wire, "{text}");
        assert_eq!(ServiceBinding::from_wire(wire).unwrap(), binding, "{text}");
        let again = binding.to_string();
        assert_eq!(again.parse::<ServiceBinding>().unwrap(), binding, "{again}");
    }

    /// `name` as its labels.
    fn labels(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
        out
    }

    /// RFC 9460 appendix D.1 and D.2.
    #[test]
    fn the_test_vectors_of_the_rfc() {
        let with = |priority: &[u8], name: &str, params: &[u8]| {
            [priority, &if name.is_empty() { vec![0] } else { labels(name) }, params].concat()
        };
        let (com, org) = ("foo.example.com", "foo.example.org");
        check("0 foo.example.com.", &with(&[0, 0], com, &[]));
        check("1 .", &with(&[0, 1], "", &[]));
        check("16 foo.example.com. port=53", &with(&[0, 16], com, b"\0\x03\0\x02\0\x35"));
        check("1 foo.example.com. key667=hello", &with(&[0, 1], com, b"\x02\x9b\0\x05hello"));
        check(
            r#"1 foo.example.com. key667="hello\210qoo""#,
            &with(&[0, 1], com, b"\x02\x9b\0\x09hello\xd2qoo"),
        );
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let other = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53, 0, 1];
        check(
            r#"1 foo.example.com. ipv6hint="2001:db8::1,2001:db8::53:1""#,
            &with(&[0, 1], com, &[b"\0\x06\0\x20", &v6[..], &other].concat()),
        );
        let last = [0x20, 1, 0xd, 0xb8, 1, 0x22, 3, 0x44, 0, 0, 0, 0, 192, 0, 2, 33];
        check(
            "1 example.com. ipv6hint=\"2001:db8:122:344::192.0.2.33\"",
            &with(&[0, 1], "example.com", &[b"\0\x06\0\x10", &last[..]].concat()),
        );
        // Neither the parameters nor what is mandatory come in order.
        check(
            "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
            &with(
                &[0, 16],
                org,
                b"\0\0\0\x04\0\x01\0\x04\0\x01\0\x09\x02h2\x05h3-19\0\x04\0\x04\xc0\0\x02\x01",
            ),
        );
        let odd = with(&[0, 16], org, b"\0\x01\0\x0c\x08f\\oo,bar\x02h2");
        check(r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#, &odd);
        check(r"16 foo.example.org. alpn=f\\\092oo\092,bar,h2", &odd);
    }

    /// RFC 9460 appendix D.3, and more of the kind.
    #[test]
    fn what_cannot_be_is_refused() {
        for params in [
            "key123=abc key123=def",
            "mandatory",
            "alpn",
            "port",
            "ipv4hint",
            "ipv6hint",
            "ech",
            "alpn=h2 no-default-alpn=abc",
            "mandatory=key123",
            "mandatory=mandatory",
            "mandatory=key123,key123 key123=abc",
            "no-default-alpn",
            "key65535=x",
            "key+1=x",
            "key70000",
            "key",
            "nonsense=1",
            "=x",
            "port=65536",
            "ipv4hint=::1",
            "ech=?",
            "alpn=h2,,h3",
            r"alpn=h2\\x",
            "alpn=\"h2",
            "alpn=\"h2\"port=1",
            r"key9=\25",
            r"key11=\256",
            "key11=\\",
        ] {
            let read = format!("1 foo.example.com. {params}").parse::<ServiceBinding>();
            assert!(read.is_err(), "{params}: {read:?}");
        }
        for text in ["", "1", "x .", "-1 .", "65536 ."] {
            assert!(text.parse::<ServiceBinding>().is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_and_later_parameters_stay() {
        for (text, want) in [
            (r"1 . key65534=\000x ohttp alpn=h2", r#"1 . alpn="h2" key8 key65534="\000x""#),
            ("1 svc.test. dohpath=/q{?dns}", r#"1 svc.test. dohpath="/q{?dns}""#),
            ("1\t.  tls-supported-groups=29,23", r#"1 . key9="\000\029\000\023""#),
            ("1 . docpath=dns,x", r#"1 . key10="\003dns\001x""#),
            (r"1 . key1=\002h2 KEY3=\001\187", r#"1 . alpn="h2" port="443""#),
            ("1 . key11=a=b", "1 . key11=\"a=b\""),
        ] {
            let read: ServiceBinding = text.parse().unwrap();
            assert_eq!(read.to_string(), want);
            assert_eq!(want.parse::<ServiceBinding>().unwrap(), read);
        }
    }

    #[test]
    fn broken_data_is_no_panic() {
        let text = "1 svc.test. mandatory=alpn alpn=h2,h3 port=1 ipv4hint=192.0.2.1 ech=AAA=";
        let wire = text.parse::<ServiceBinding>().unwrap().to_wire().unwrap();
        for end in 0..wire.len() {
            let mut bad = wire.clone();
            bad[end] ^= 0xff;
            let _ = ServiceBinding::from_wire(&bad);
            if let Ok(part) = ServiceBinding::from_wire(&wire[..end]) {
                assert_eq!(part.to_wire().unwrap(), wire[..end]);
            }
        }
        // Not in order, and twice.
        assert!(ServiceBinding::from_wire(b"\0\x01\0\0\x0b\0\0\0\x0a\0\0").is_err());
        assert!(ServiceBinding::from_wire(b"\0\x01\0\0\x0b\0\0\0\x0b\0\0").is_err());
    }

    #[test]
    fn parameters_are_set_beside_others() {
        let mut params: ServiceParams = "port=8443 alpn=h2 ech=AAA=".parse().unwrap();
        params.set_alpn(&["h3", "h2"]).unwrap();
        params.set_ech(b"list").unwrap();
        assert_eq!(params.to_string(), r#"alpn="h3,h2" port="8443" ech="bGlzdA==""#);
        assert_eq!(params.ech(), Some(&b"list"[..]));
        assert!(params.set_alpn::<&str>(&[]).is_err());
        assert!(params.set_alpn(&[""]).is_err());
        assert!(params.set_ech(&[0; 70_000]).is_err());
    }

    #[test]
    fn only_the_same_priority_and_target_are_replaced() {
        let ours: ServiceBinding = "2 . alpn=h2".parse().unwrap();
        assert!(ours.is_own());
        for (written, want) in [
            ("2 . alpn=h3", true),
            ("2 .", true),
            ("2  . who=knows", true),
            ("1 . alpn=h3", false),
            ("2 svc.test. alpn=h3", false),
            ("", false),
        ] {
            assert_eq!(ours.replaces(written), want, "{written}");
        }
    }
}
