//! `encode`: compresses responses.
//!
//! ```text
//! encode [<matcher>] [<formats...>] {
//!     gzip           [<level>]
//!     zstd           [<level>] { ... }
//!     minimum_length <bytes>
//!     match          <response matcher>
//! }
//! ```
//!
//! JSON: [`EncodeConfig`]. The filter chooses the coding by `Accept-Encoding`; its response filter
//! decides by the response whether that is applied.

mod body;
mod sniff;

use std::{collections::BTreeMap, sync::Arc};

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, ModuleMap};
use caddis_core::{
    Body, CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule,
    Helper, Response, ResponseFilter, ResponseMatcher, Result,
    response_matcher::ResponseMatcherConfig,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use self::body::EncodedBody;
use super::response_matcher::parse_named;
use crate::encoders::{self, Coding};

/// `http.handlers.encode`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.encode", compile };

/// The directive `encode`.
pub static DIRECTIVE: Directive =
    Directive { name: "encode", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncodeConfig {
    /// `http.encoders` by name.
    #[serde(
        skip_serializing_if = "ModuleMap::is_empty",
        deserialize_with = "caddis_config::nullable"
    )]
    pub encodings: ModuleMap,
    /// Which of them is preferred.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub prefer: Vec<String>,
    /// Only longer bodies are compressed; 512 if 0.
    #[serde(skip_serializing_if = "caddis_config::Omit::is_omitted")]
    pub minimum_length: i64,
    /// Only such responses; common types of text if `None`.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matcher: Option<ResponseMatcherConfig>,
}

const DEFAULT_MINIMUM: u64 = 512;

/// Types that are worth it (spec D047), as prefixes.
const DEFAULT_TYPES: &[&str] = &[
    "application/atom+xml*",
    "application/eot*",
    "application/font*",
    "application/geo+json*",
    "application/graphql+json*",
    "application/graphql-response+json*",
    "application/javascript*",
    "application/json*",
    "application/ld+json*",
    "application/manifest+json*",
    "application/opentype*",
    "application/otf*",
    "application/rss+xml*",
    "application/truetype*",
    "application/ttf*",
    "application/vnd.api+json*",
    "application/vnd.ms-fontobject*",
    "application/wasm*",
    "application/x-httpd-cgi*",
    "application/x-javascript*",
    "application/x-opentype*",
    "application/x-otf*",
    "application/x-perl*",
    "application/x-protobuf*",
    "application/x-ttf*",
    "application/xhtml+xml*",
    "application/xml*",
    "font/ttf*",
    "font/otf*",
    "image/svg+xml*",
    "image/vnd.microsoft.icon*",
    "image/x-icon*",
    "multipart/bag*",
    "multipart/mixed*",
    "text/*",
];

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let config = parse_config(&mut h.d)?;
    h.handler("encode", &config)
}

fn parse_config(d: &mut Dispenser) -> ParseResult<EncodeConfig> {
    let mut config = EncodeConfig::default();
    d.next();
    let mut formats = d.remaining_args();
    let mut matchers = BTreeMap::new();
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "minimum_length" => {
                if !d.next_arg() {
                    return Err(d.arg_err());
                }
                let text = d.val();
                config.minimum_length = text.parse().map_err(|_| {
                    Diagnostic::error(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
                        .labelled(d.token(), "not a whole number")
                })?;
            }
            "match" => {
                parse_named(&mut d.new_from_next_segment(), &mut matchers)?;
                config.matcher = matchers.get("match").cloned();
            }
            name => {
                let Some(module) = encoders::ALL.iter().find(|module| module.name == name) else {
                    let id = format!("http.encoders.{name}");
                    let error = d.err(format_args!(
                        "getting module named '{id}': module not registered: {id}"
                    ));
                    let known = ["minimum_length", "match", "gzip", "zstd"];
                    return Err(d.did_you_mean(error, known));
                };
                let json = (module.parse)(&mut d.new_from_next_segment())?;
                config.encodings.insert(module.name.to_owned(), json);
                config.prefer.push(module.name.to_owned());
            }
        }
    }
    if config.prefer.is_empty() && formats.is_empty() {
        formats = vec!["zstd".into(), "gzip".into()];
    }
    for name in formats {
        if !encoders::ALL.iter().any(|module| module.name == name) {
            return Err(d.err(format_args!(
                "finding encoder module '': module not registered: http.encoders.{name}"
            )));
        }
        config.encodings.insert(name.clone(), json!({}));
        config.prefer.push(name);
    }
    Ok(config)
}

struct Encode {
    prefer: Vec<String>,
    /// One response filter for each coding, shared by all requests.
    codings: Vec<(&'static str, Arc<Encoder>)>,
}

/// Compresses with one coding.
struct Encoder {
    coding: Coding,
    minimum: u64,
    matcher: Arc<ResponseMatcher>,
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> std::result::Result<Handler, ConfigError> {
    let config: EncodeConfig = cx.decode(json, "handler")?;
    let matcher = config.matcher.unwrap_or_else(|| ResponseMatcherConfig {
        status_code: Vec::new(),
        headers: BTreeMap::from([(
            "Content-Type".to_owned(),
            Some(DEFAULT_TYPES.iter().map(|&text| text.to_owned()).collect()),
        )]),
    });
    let matcher = ResponseMatcher::compile(&matcher).map_err(|error| error.under("match"))?;
    let matcher = Arc::new(matcher);
    let minimum = match u64::try_from(config.minimum_length) {
        Ok(0) => DEFAULT_MINIMUM,
        Ok(minimum) => minimum,
        // Caddy does not compress either where the minimum is negative.
        Err(_) => u64::MAX,
    };
    let mut codings = Vec::new();
    for (name, json) in &config.encodings {
        let module = encoders::ALL.iter().find(|module| module.name == name);
        let module = module.ok_or_else(|| {
            caddis_core::compile::unknown_module("http.encoders", name, "encodings")
        })?;
        let coding =
            (module.compile)(json).map_err(|error| error.under(name).under("encodings"))?;
        let encoder = Encoder { coding, minimum, matcher: matcher.clone() };
        codings.push((module.name, Arc::new(encoder)));
    }
    let mut prefer = config.prefer;
    for (at, name) in prefer.iter().enumerate() {
        let message = if !codings.iter().any(|(known, _)| known == name) {
            format!("encoding {name} not enabled")
        } else if prefer[..at].contains(name) {
            format!("encoding {name} is duplicated in prefer")
        } else {
            continue;
        };
        return Err(ConfigError::new("prefer", message));
    }
    if prefer.is_empty() {
        prefer = ["zstd", "gzip"].map(str::to_owned).to_vec();
    }
    Ok(Handler::filter(Encode { prefer, codings }))
}

/// Whether a body may be changed on its way.
fn may_transform(headers: &HeaderMap) -> bool {
    headers
        .get(header::CACHE_CONTROL)
        .is_none_or(|value| !value.as_bytes().windows(12).any(|part| part == b"no-transform"))
}

impl Filter for Encode {
    fn apply(&self, ex: &mut Exchange) -> Result<Flow> {
        let headers = &mut ex.request.headers;
        if !headers.contains_key(header::ACCEPT_ENCODING)
            || !may_transform(headers)
            || headers.contains_key(header::SEC_WEBSOCKET_KEY)
        {
            return Ok(Flow::Continue);
        }
        let chosen = encoders::accepted(headers, &self.prefer)
            .iter()
            .find_map(|name| self.codings.iter().find(|(known, _)| known == name));
        if let Some((name, encoder)) = chosen {
            strip_suffix(headers, name);
            ex.on_response(encoder.clone());
        }
        Ok(Flow::Continue)
    }
}

/// Takes our suffix off a tag in `If-None-Match`: those who made the tag do not know of it.
fn strip_suffix(headers: &mut HeaderMap, coding: &str) {
    let Some(tag) = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()) else {
        return;
    };
    if tag.starts_with("W/") {
        return;
    }
    if let Some(before) = tag.strip_suffix(&format!("-{coding}\""))
        && let Ok(tag) = HeaderValue::from_str(&format!("{before}\""))
    {
        headers.insert(header::IF_NONE_MATCH, tag);
    }
}

impl ResponseFilter for Encoder {
    fn apply(&self, ex: &mut Exchange, response: &mut Response) {
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            vary(response.headers_mut());
            return;
        }
        if status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::PARTIAL_CONTENT
            || (ex.original.method == Method::CONNECT && status.is_success())
            || !self.is_long_enough(ex, response)
        {
            return;
        }
        if !response.headers().contains_key(header::CONTENT_TYPE)
            && let Body::Full(bytes) = response.body()
        {
            let kind = HeaderValue::from_static(sniff::detect(bytes));
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        let headers = response.headers();
        if headers.get(header::CONTENT_ENCODING).is_some_and(|value| !value.is_empty())
            || !may_transform(headers)
            || !self.matcher.matches(status, headers)
        {
            return;
        }
        let Ok(mut coder) = self.coding.start() else { return };
        self.change_headers(response.headers_mut());
        *response.body_mut() = match response.body_mut().take() {
            Body::Empty => Body::Empty,
            Body::Full(bytes) => match coder.write(&bytes).and_then(|()| {
                // Everything fits in memory, so it comes out at once.
                let first = coder.take();
                Ok((first, coder.finish()?))
            }) {
                Ok((first, rest)) if first.is_empty() => rest.into(),
                Ok((first, rest)) => bytes::Bytes::from([first, rest].concat()).into(),
                Err(_) => Body::Empty,
            },
            source @ Body::Stream(_) => Body::stream(EncodedBody::new(source, coder)),
        };
    }
}

impl Encoder {
    fn is_long_enough(&self, ex: &Exchange, response: &Response) -> bool {
        match response.body().exact_len() {
            // The answer to a HEAD tells its length in the header.
            Some(0) => {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                ex.original.method == Method::HEAD && length.unwrap_or(0) > self.minimum
            }
            Some(length) => length > self.minimum,
            None => self.minimum != u64::MAX,
        }
    }

    fn change_headers(&self, headers: &mut HeaderMap) {
        let name = self.coding.name();
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::ACCEPT_RANGES);
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
        vary(headers);
        // The compressed body is another representation, so its strong tag differs.
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        if let Some(tag) = tag.filter(|tag| !tag.is_empty() && !tag.starts_with("W/")) {
            let tag = format!("{}-{name}\"", tag.strip_suffix('"').unwrap_or(tag));
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                headers.insert(header::ETAG, tag);
            }
        }
    }
}

/// Adds `Accept-Encoding` to `Vary`, unless it is there.
fn vary(headers: &mut HeaderMap) {
    let present = headers.get_all(header::VARY).iter().any(|value| {
        let fields = value.to_str().unwrap_or_default().split(',');
        fields.into_iter().any(|field| field.trim().eq_ignore_ascii_case("accept-encoding"))
    });
    if !present {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

#[cfg(test)]
mod tests;
