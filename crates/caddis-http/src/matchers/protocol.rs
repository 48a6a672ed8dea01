//! `protocol`: how the request came.
//!
//! ```text
//! protocol grpc|https|http|http/1.0[+]|http/1.1[+]|http/2[+]|http/3[+]
//! ```
//!
//! JSON: the name as a string. An unknown name never matches.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use http::{Version, header};
use serde_json::Value as Json;

use super::shape;

/// `http.matchers.protocol`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.protocol", parse, compile };

enum Protocol {
    Grpc,
    Tls(bool),
    Is(Version),
    AtLeast(Version),
    Unknown,
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut name;
    loop {
        if !d.next_arg() {
            return Err(d.err("expected exactly one protocol"));
        }
        name = d.val().to_owned();
        if !d.next() {
            break;
        }
    }
    Ok(name.into())
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let name: String = shape(json)?;
    Ok(Box::new(match name.as_str() {
        "grpc" => Protocol::Grpc,
        "https" => Protocol::Tls(true),
        "http" => Protocol::Tls(false),
        "http/1.0" => Protocol::Is(Version::HTTP_10),
        "http/1.0+" => Protocol::AtLeast(Version::HTTP_10),
        "http/1.1" => Protocol::Is(Version::HTTP_11),
        "http/1.1+" => Protocol::AtLeast(Version::HTTP_11),
        "http/2" => Protocol::Is(Version::HTTP_2),
        "http/2+" => Protocol::AtLeast(Version::HTTP_2),
        "http/3" => Protocol::Is(Version::HTTP_3),
        "http/3+" => Protocol::AtLeast(Version::HTTP_3),
        _ => Protocol::Unknown,
    }))
}

impl Matcher for Protocol {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let version = ex.request.version;
        Ok(match self {
            Self::Grpc => ex
                .request
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")),
            Self::Tls(tls) => ex.connection.tls.is_some() == *tls,
            Self::Is(want) => version == *want,
            Self::AtLeast(least) => version >= *least,
            Self::Unknown => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{matches, parse};
    use super::*;

    #[test]
    fn compares_versions() {
        for (name, want) in [
            ("http", true),
            ("https", false),
            ("http/1.0", false),
            ("http/1.0+", true),
            ("http/1.1", true),
            ("http/2+", false),
            ("grpc", false),
            ("gopher", false),
        ] {
            assert_eq!(matches(&MODULE, &format!("protocol {name}"), "/"), want, "{name}");
        }
        assert_eq!(parse(&MODULE, "protocol"), Err("expected exactly one protocol".into()));
    }
}
