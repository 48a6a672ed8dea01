//! Encodings, checksums, paths and URLs.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Args, Res};
use crate::{handlers::templates::value::Val, path::clean};

pub(super) fn of_codings(args: &Args<'_>) -> Res<Option<Val>> {
    let text = || args.text(0);
    Ok(Some(Val::str(&match args.name {
        "b64enc" => BASE64_STANDARD.encode(text()?),
        "b64dec" => decoded(from_base64(&text()?)),
        "b32enc" => base32(text()?.as_bytes()),
        "b32dec" => decoded(from_base32(&text()?)),
        "adler32sum" => adler32(text()?.as_bytes()).to_string(),
        "base" | "osBase" => base(&text()?).to_owned(),
        "dir" | "osDir" => {
            let text = text()?;
            clean(text.rfind('/').map_or("", |at| &text[..=at])).into_owned()
        }
        "ext" | "osExt" => crate::path::extension(&text()?).to_owned(),
        "clean" | "osClean" => clean(&text()?).into_owned(),
        "isAbs" | "osIsAbs" => return Ok(Some(Val::Bool(text()?.starts_with('/')))),
        "urlParse" => return url_parse(args, &text()?).map(Some),
        "urlJoin" => url_join(args)?,
        _ => return Ok(None),
    })))
}

/// The text, or what is wrong with it, which sprig gives in its place.
fn decoded(bytes: Result<Vec<u8>, String>) -> String {
    match bytes {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => error,
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    BASE64_STANDARD.decode(&plain).map_err(|error| {
        let at = match error {
            InvalidByte(at, _) => at,
            InvalidLastSymbol(at, _) => at.saturating_sub(1),
            InvalidLength(_) | InvalidPadding => plain.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 §6.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let number = (0..5)
            .fold(0u64, |number, at| number << 8 | u64::from(chunk.get(at).copied().unwrap_or(0)));
        let used = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let place = (number >> (35 - 5 * at)) & 31;
            let letter = usize::try_from(place).ok().and_then(|place| BASE32.get(place));
            let letter = letter.filter(|_| at < used).map_or('=', |byte| char::from(*byte));
            out.push(letter);
        }
    }
    out
}

fn from_base32(text: &str) -> Result<Vec<u8>, String> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let digits = text.trim_end_matches('=');
    let wrong = |at: usize| format!("illegal base32 data at input byte {at}");
    if let Some(at) = digits.bytes().position(|byte| !BASE32.contains(&byte)) {
        return Err(wrong(at));
    }
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(8) || padding > 6 || matches!(digits.len() % 8, 1 | 3 | 6) {
        return Err(wrong(digits.len()));
    }
    let mut out = Vec::with_capacity(digits.len() * 5 / 8);
    let (mut number, mut bits) = (0u32, 0);
    for (at, byte) in digits.bytes().enumerate() {
        let place = BASE32.iter().position(|known| *known == byte).ok_or_else(|| wrong(at))?;
        number = (number << 5 | place as u32) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((number >> bits & 0xff) as u8);
        }
    }
    Ok(out)
}

/// RFC 1950 §9.
fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

const PARTS: [&str; 8] =
    ["scheme", "host", "hostname", "path", "query", "opaque", "fragment", "userinfo"];

/// A URL's parts (RFC 3986 §3), as Go tells them.
fn url_parse(args: &Args<'_>, text: &str) -> Res {
    let wrong =
        |what: &str| args.failed(format_args!("unable to parse url: parse {text:?}: {what}"));
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(wrong("net/url: invalid control character in URL"));
    }
    let decode =
        |part: &str| caddis_core::target::decode(part).ok_or_else(|| wrong("invalid URL escape"));
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some(("", _)) => return Err(wrong("missing protocol scheme")),
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_lowercase(), rest),
        _ => (String::new(), rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut opaque = "";
    let (mut authority, mut path) = ("", rest);
    if !scheme.is_empty() && !rest.starts_with('/') {
        (opaque, path) = (rest, "");
    } else if let Some(after) = rest.strip_prefix("//") {
        (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    }
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hostname = caddis_core::exchange::split_host_port(host).0;
    let values = [
        scheme,
        host.to_owned(),
        hostname.to_owned(),
        decode(path)?,
        query.to_owned(),
        opaque.to_owned(),
        decode(fragment)?,
        userinfo.to_owned(),
    ];
    let pairs = PARTS.iter().zip(values);
    Ok(Val::map(
        pairs.map(|(key, value)| ((*key).to_owned(), Val::str(&value))).collect::<BTreeMap<_, _>>(),
    ))
}

/// A URL of its parts.
fn url_join(args: &Args<'_>) -> Res<String> {
    let map = args.map(0)?;
    let map = map.borrow();
    let part = |key: &str| match map.get(key) {
        None => Ok(String::new()),
        Some(Val::Str(text)) => Ok(text.to_string()),
        Some(other) => {
            let kind = other.type_name();
            Err(args.failed(format_args!(
                "unable to parse {key} key, must be of type string, but {kind} found"
            )))
        }
    };
    let (scheme, host, path, query) =
        (part("scheme")?, part("host")?, part("path")?, part("query")?);
    let (opaque, fragment, userinfo) = (part("opaque")?, part("fragment")?, part("userinfo")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&scheme);
        out.push(':');
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() || !userinfo.is_empty() {
            if !host.is_empty() || !path.is_empty() || !userinfo.is_empty() {
                out.push_str("//");
            }
            if !userinfo.is_empty() {
                out.push_str(&userinfo);
                out.push('@');
            }
            out.push_str(&host);
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out.push_str(&caddis_core::target::encode_path(&path));
    } else {
        out.push_str(&opaque);
    }
    if !query.is_empty() {
        out.push('?');
        out.push_str(&query);
    }
    if !fragment.is_empty() {
        out.push('#');
        out.push_str(&caddis_core::target::encode_path(&fragment));
    }
    Ok(out)
}
