//! The known placeholders (spec placeholders.md) as an enum with an open tail: a name is looked at
//! once, when its template is compiled.

use std::{
    borrow::Cow,
    time::{Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, Version};
use smol_str::SmolStr;
use time::{OffsetDateTime, format_description::well_known::Rfc2822, macros::format_description};

use crate::{
    Exchange, Target, Value,
    error::status_text,
    exchange::{proto, split_host_port},
    file_text,
    target::{encode_query, query_pairs},
};

/// One placeholder; the variant says where its value comes from.
#[derive(Debug, Clone)]
pub enum Placeholder {
    /// `env.NAME`, `system.*`, `time.*`, `file.PATH`: known without a request.
    Global(SmolStr),
    /// `http.request.header.NAME`.
    Header(HeaderName),
    /// `http.request.cookie.NAME`.
    Cookie(SmolStr),
    /// `http.request.uri.query.NAME`.
    Query(SmolStr),
    /// `http.vars.NAME`.
    Var(SmolStr),
    /// `http.request.*` without parameters.
    Request(RequestField),
    /// `http.request.uri.path.N` and `http.request.orig_uri.path.N`.
    Segment {
        /// Of the target before rewrites.
        original: bool,
        /// From 0, after the leading slash.
        index: usize,
    },
    /// `http.request.host.labels.N`, 0 is the rightmost.
    Label(usize),
    /// `http.request.remote.host/N[,M]`.
    RemoteHostMasked {
        /// Bits to keep of an IPv4 address.
        v4: u8,
        /// Bits to keep of an IPv6 address.
        v6: u8,
    },
    /// `http.request.tls.*`, by the rest of the key.
    Tls(SmolStr),
    /// `http.error`, `http.error.*`, by the rest of the key.
    Error(SmolStr),
    /// Everything else, by its whole key: values set by handlers, then their sources.
    Dynamic(SmolStr),
}

/// A fixed property of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the placeholders' own names")]
pub enum RequestField {
    Method,
    Scheme,
    Proto,
    ProtoName,
    Host,
    Port,
    HostPort,
    Local,
    LocalHost,
    LocalPort,
    Remote,
    RemoteHost,
    RemotePort,
    Uri,
    UriEscaped,
    Path,
    PathEscaped,
    PathDir,
    PathFile,
    PathFileBase,
    PathFileExt,
    Query,
    QueryEscaped,
    PrefixedQuery,
    Duration,
    DurationMs,
    Uuid,
    OrigMethod,
    OrigUri,
    OrigPath,
    OrigPathDir,
    OrigPathFile,
    OrigQuery,
    OrigPrefixedQuery,
    ClientIp,
    TrustedProxy,
    ShuttingDown,
    TimeUntilShutdown,
}

const REQUEST_FIELDS: &[(&str, RequestField)] = {
    use RequestField as F;
    &[
        ("http.request.method", F::Method),
        ("http.request.scheme", F::Scheme),
        ("http.request.proto", F::Proto),
        ("http.request.proto_name", F::ProtoName),
        ("http.request.host", F::Host),
        ("http.request.port", F::Port),
        ("http.request.hostport", F::HostPort),
        ("http.request.local", F::Local),
        ("http.request.local.host", F::LocalHost),
        ("http.request.local.port", F::LocalPort),
        ("http.request.remote", F::Remote),
        ("http.request.remote.host", F::RemoteHost),
        ("http.request.remote.port", F::RemotePort),
        ("http.request.uri", F::Uri),
        ("http.request.uri_escaped", F::UriEscaped),
        ("http.request.uri.path", F::Path),
        ("http.request.uri.path_escaped", F::PathEscaped),
        ("http.request.uri.path.dir", F::PathDir),
        ("http.request.uri.path.file", F::PathFile),
        ("http.request.uri.path.file.base", F::PathFileBase),
        ("http.request.uri.path.file.ext", F::PathFileExt),
        ("http.request.uri.query", F::Query),
        ("http.request.uri.query_escaped", F::QueryEscaped),
        ("http.request.uri.prefixed_query", F::PrefixedQuery),
        ("http.request.duration", F::Duration),
        ("http.request.duration_ms", F::DurationMs),
        ("http.request.uuid", F::Uuid),
        ("http.request.orig_method", F::OrigMethod),
        ("http.request.orig_uri", F::OrigUri),
        ("http.request.orig_uri.path", F::OrigPath),
        ("http.request.orig_uri.path.dir", F::OrigPathDir),
        ("http.request.orig_uri.path.file", F::OrigPathFile),
        ("http.request.orig_uri.query", F::OrigQuery),
        ("http.request.orig_uri.prefixed_query", F::OrigPrefixedQuery),
        ("http.vars.client_ip", F::ClientIp),
        ("http.vars.trusted_proxy", F::TrustedProxy),
        ("http.shutting_down", F::ShuttingDown),
        ("http.time_until_shutdown", F::TimeUntilShutdown),
    ]
};

impl Placeholder {
    /// Classifies a key (the text between the braces); every key is valid.
    pub fn parse(key: &str) -> Self {
        if let Some((_, field)) = REQUEST_FIELDS.iter().find(|(name, _)| *name == key) {
            return Self::Request(*field);
        }
        let after = |prefix: &str| key.strip_prefix(prefix);
        if let Some(name) = after("http.request.header.")
            && let Ok(name) = HeaderName::try_from(name)
        {
            return Self::Header(name);
        }
        if let Some(name) = after("http.request.cookie.") {
            return Self::Cookie(name.into());
        }
        if let Some(name) = after("http.request.uri.query.") {
            return Self::Query(name.into());
        }
        if let Some(name) = after("http.vars.") {
            return Self::Var(name.into());
        }
        if let Some(index) = after("http.request.uri.path.").and_then(|n| n.parse().ok()) {
            return Self::Segment { original: false, index };
        }
        if let Some(index) = after("http.request.orig_uri.path.").and_then(|n| n.parse().ok()) {
            return Self::Segment { original: true, index };
        }
        if let Some(index) = after("http.request.host.labels.").and_then(|n| n.parse().ok()) {
            return Self::Label(index);
        }
        if let Some(bits) = after("http.request.remote.host/") {
            let (v4, v6) = bits.split_once(',').unwrap_or((bits, "128"));
            if let (Ok(v4), Ok(v6)) = (v4.parse(), v6.parse()) {
                return Self::RemoteHostMasked { v4, v6 };
            }
        }
        if let Some(rest) = after("http.request.tls.") {
            return Self::Tls(rest.into());
        }
        if key == "http.error" {
            return Self::Error(SmolStr::default());
        }
        if let Some(rest) = after("http.error.") {
            return Self::Error(rest.into());
        }
        let global = ["env.", "system.", "time.now", "file."];
        if global.iter().any(|prefix| key.starts_with(prefix)) {
            return Self::Global(key.into());
        }
        Self::Dynamic(key.into())
    }

    /// The value in this exchange; `None` where the placeholder is unknown.
    pub fn value<'a>(&'a self, ex: &'a Exchange) -> Option<Value<'a>> {
        match self {
            Self::Request(field) => request_field(*field, ex),
            Self::Header(name) => Some(header_value(&ex.request.headers, name)),
            Self::Cookie(name) => cookie(&ex.request.headers, name).map(Value::string),
            Self::Query(name) => Some(query_value(&ex.request.target, name)),
            Self::Var(name) => Some(ex.var(name).cloned().unwrap_or(Value::Null)),
            Self::Segment { original, index } => {
                let target = if *original { &ex.original.target } else { &ex.request.target };
                let path = target.path();
                let path = path.strip_prefix('/').unwrap_or(path);
                Some(path.split('/').nth(*index).map_or(Value::Str("".into()), Value::str))
            }
            Self::Label(index) => Some(
                ex.host()
                    .rsplit('.')
                    .nth(*index)
                    .map_or(Value::Str("".into()), |label| Value::string(label.to_lowercase())),
            ),
            Self::RemoteHostMasked { v4, v6 } => {
                let ip = ex.connection.remote?.ip().to_canonical();
                let bits = if ip.is_ipv4() { *v4 } else { *v6 };
                Some(Value::string(masked(ip, bits)))
            }
            Self::Tls(field) => tls_field(field, ex),
            Self::Error(field) => error_field(field, ex),
            Self::Global(_) => self.global_value(),
            Self::Dynamic(key) => dynamic(key, ex),
        }
    }

    /// The value where it needs no request.
    pub fn global_value(&self) -> Option<Value<'static>> {
        let Self::Global(key) = self else { return None };
        if let Some(name) = key.strip_prefix("env.") {
            return Some(Value::string(std::env::var(name).unwrap_or_default()));
        }
        if let Some(path) = key.strip_prefix("file.") {
            return Some(Value::string(file_text::of(path)));
        }
        match key.as_str() {
            "system.hostname" => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .ok()
                .map(|name| Value::string(name.trim())),
            "system.slash" => Some(Value::str(std::path::MAIN_SEPARATOR_STR)),
            "system.os" => Some(Value::str(std::env::consts::OS)),
            "system.arch" => Some(Value::str(match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            })),
            "system.wd" => std::env::current_dir()
                .ok()
                .map(|path| Value::string(path.to_string_lossy().into_owned())),
            other => time_field(other),
        }
    }
}

/// Values of a header joined by commas; absent gives `Null` (known, empty).
pub fn header_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Value<'a> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Value::Null };
    let first = String::from_utf8_lossy(first.as_bytes());
    let Some(second) = values.next() else { return Value::Str(first) };
    let mut joined = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        joined.push(',');
        joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Value::string(joined)
}

/// The value of a cookie, by case-insensitive name.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

fn query_value(target: &Target, name: &str) -> Value<'static> {
    let mut joined: Option<String> = None;
    for (key, value) in query_pairs(target.query().unwrap_or("")) {
        if key == name {
            match &mut joined {
                Some(all) => {
                    all.push(',');
                    all.push_str(&value);
                }
                None => joined = Some(value),
            }
        }
    }
    joined.map_or(Value::Str("".into()), Value::string)
}

fn request_field(field: RequestField, ex: &Exchange) -> Option<Value<'_>> {
    use RequestField as F;
    let request = &ex.request;
    let (target, original) = (&request.target, &ex.original.target);
    Some(match field {
        F::Method => Value::str(request.method.as_str()),
        F::OrigMethod => Value::str(ex.original.method.as_str()),
        F::Scheme => Value::str(ex.scheme()),
        F::Proto => Value::str(proto(request.version)),
        F::ProtoName => Value::str(match request.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        }),
        F::Host => Value::str(ex.host()),
        F::Port => {
            let port = split_host_port(&request.host).1;
            port.parse().map_or_else(|_| Value::str(port), Value::Int)
        }
        F::HostPort => Value::str(&request.host),
        F::Local => match ex.connection.local {
            Some(local) => Value::string(address_text(local)),
            None => Value::str(&ex.connection.local_name),
        },
        F::LocalHost => match ex.connection.local {
            Some(local) => Value::string(local.ip().to_canonical().to_string()),
            None => Value::str(&ex.connection.local_name),
        },
        F::LocalPort => Value::Int(ex.connection.local.map_or(0, |local| local.port().into())),
        F::Remote => Value::string(ex.connection.remote_text()),
        F::RemoteHost => match ex.connection.remote {
            Some(remote) => Value::string(remote.ip().to_canonical().to_string()),
            None => Value::str("@"),
        },
        F::RemotePort => match ex.connection.remote {
            Some(remote) => Value::Int(remote.port().into()),
            None => Value::Str("".into()),
        },
        F::Uri => Value::str(target.as_str()),
        F::UriEscaped => Value::string(encode_query(target.as_str())),
        F::Path => Value::str(target.path()),
        F::PathEscaped => Value::string(encode_query(target.path())),
        F::PathDir => Value::str(split_path(target.path()).0),
        F::PathFile => Value::str(split_path(target.path()).1),
        F::PathFileBase => Value::str(split_extension(target.path()).0),
        F::PathFileExt => Value::str(split_extension(target.path()).1),
        F::Query => Value::str(target.query().unwrap_or("")),
        F::QueryEscaped => Value::string(encode_query(target.query().unwrap_or(""))),
        F::PrefixedQuery => prefixed(target.query()),
        F::Duration => Value::string(go_duration(ex.start.elapsed())),
        F::DurationMs => Value::Float(ex.start.elapsed().as_secs_f64() * 1e3),
        F::Uuid => Value::str(ex.uuid.get_or_init(|| random_uuid().into())),
        F::OrigUri => Value::str(original.as_sent()),
        F::OrigPath => Value::str(original.path()),
        F::OrigPathDir => Value::str(split_path(original.path()).0),
        F::OrigPathFile => Value::str(split_path(original.path()).1),
        F::OrigQuery => Value::str(original.query().unwrap_or("")),
        F::OrigPrefixedQuery => prefixed(original.query()),
        F::ClientIp => match ex.client_ip {
            Some(ip) => Value::string(ip.to_string()),
            None => Value::Str("".into()),
        },
        F::TrustedProxy => Value::Bool(ex.trusted_proxy),
        F::ShuttingDown => Value::Bool(ex.shutdown_at.is_some()),
        F::TimeUntilShutdown => match ex.shutdown_at {
            Some(at) => Value::string(go_duration(at.saturating_duration_since(Instant::now()))),
            None => Value::Str("".into()),
        },
    })
}

/// An address and port; IPv4 as such, also where a socket for both families gave it.
pub(crate) fn address_text(address: std::net::SocketAddr) -> String {
    std::net::SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

fn prefixed(query: Option<&str>) -> Value<'static> {
    match query {
        Some(query) if !query.is_empty() => Value::string(format!("?{query}")),
        _ => Value::Str("".into()),
    }
}

fn split_path(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |at| at + 1))
}

/// Go's `path.Base` without `path.Ext`, and the latter. A path that ends with a slash has no
/// extension.
fn split_extension(path: &str) -> (&str, &str) {
    let trimmed = path.trim_end_matches('/');
    let file = match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => return ("/", ""),
        _ => split_path(trimmed).1,
    };
    // The extension is that of what follows the last slash, which may be nothing.
    if trimmed.len() < path.len() {
        return (file, "");
    }
    file.rfind('.').map_or((file, ""), |at| file.split_at(at))
}

fn masked(ip: std::net::IpAddr, bits: u8) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(ip) & keep))
        }
        std::net::IpAddr::V6(ip) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv6Addr::from(u128::from(ip) & keep))
        }
    }
}

fn tls_field(field: &str, ex: &Exchange) -> Option<Value<'static>> {
    let tls = ex.connection.tls.as_ref()?;
    Some(match field {
        "version" => Value::str(match tls.version {
            0x0304 => "tls1.3",
            _ => "tls1.2",
        }),
        "cipher_suite" => Value::str(tls.cipher_name),
        "resumed" => Value::Bool(tls.resumed),
        "proto" => Value::string(tls.alpn.as_str()),
        "proto_mutual" => Value::Bool(true),
        "server_name" => Value::string(tls.server_name.as_str()),
        "ech" => Value::Bool(tls.ech),
        _ => return dynamic(&format!("http.request.tls.{field}"), ex),
    })
}

fn error_field(field: &str, ex: &Exchange) -> Option<Value<'static>> {
    let error = ex.error.as_ref()?;
    Some(match field {
        "" => Value::string(error_text(error)),
        "status_code" => Value::Int(error.status.as_u16().into()),
        "status_text" => Value::str(status_text(error.status)),
        // A handler may have said that its message is empty on purpose.
        "message" if error.message.is_empty() => dynamic("http.error.message", ex)
            .unwrap_or_else(|| Value::str(status_text(error.status))),
        "message" => Value::string(error.message.clone()),
        "trace" => Value::Str("".into()),
        "id" => Value::string(error.id.clone()),
        _ => return None,
    })
}

/// The whole of an error in one line, as Caddy writes it (it adds a place in its source).
fn error_text(error: &crate::exchange::ErrorInfo) -> String {
    let text = format!("{{id={}}}: HTTP {}", error.id, error.status.as_u16());
    if error.message.is_empty() { text } else { format!("{text}: {}", error.message) }
}

fn dynamic(key: &str, ex: &Exchange) -> Option<Value<'static>> {
    if let Some((_, value)) = ex.values.iter().find(|(name, _)| name == key) {
        return Some(value.clone());
    }
    ex.sources
        .iter()
        .rev()
        .filter(|(prefix, _)| key.starts_with(prefix))
        .find_map(|(_, source)| source.value(key, ex))
}

fn time_field(key: &str) -> Option<Value<'static>> {
    let now = OffsetDateTime::from(SystemTime::now());
    Some(match key {
        "time.now" => Value::string(go_time(now)),
        "time.now.http" => {
            let date = now.format(&Rfc2822).ok()?;
            Value::string(date.replace("+0000", "GMT"))
        }
        "time.now.common_log" => Value::string(
            now.format(format_description!(
                "[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000"
            ))
            .ok()?,
        ),
        "time.now.year" => Value::string(now.year().to_string()),
        "time.now.unix" => Value::string(now.unix_timestamp().to_string()),
        "time.now.unix_ms" => Value::string((now.unix_timestamp_nanos() / 1_000_000).to_string()),
        _ => return None,
    })
}

/// A time as Go writes it, for example `2026-08-01 12:00:00.5 +0000 UTC`.
pub(crate) fn go_time(time: OffsetDateTime) -> String {
    let shape =
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond] +0000 UTC");
    time.format(shape).unwrap_or_default()
}

/// A duration as Go writes it, for example `1.5ms`.
pub fn go_duration(duration: std::time::Duration) -> String {
    caddis_config::Duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)).to_string()
}

pub(crate) fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The keys a name could be meant to be, for "did you mean".
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    REQUEST_FIELDS.iter().map(|(name, _)| *name)
}

/// Text of a value that may be absent.
pub fn text_or_empty(value: Option<Value<'_>>) -> Cow<'static, str> {
    value.map_or(Cow::Borrowed(""), |value| Cow::Owned(value.text().into_owned()))
}
