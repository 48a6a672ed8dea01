//! The directive `reverse_proxy`: a table of subdirectives.

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Dispenser, Result, Token};
use caddis_config::{Value, module_object};
use caddis_core::{Helper, response_matcher::ResponseMatcherConfig};
use serde_json::json;

use super::{
    address,
    config::{Config, ResponseHandlerConfig, UpstreamConfig},
    subdirectives::SUBDIRECTIVES,
};
use crate::transport::http::{HttpTransportConfig, parse as parse_http};

/// What is gathered while the block is read.
#[derive(Default)]
pub(super) struct Parsing {
    /// The handler so far.
    pub(super) config: Config,
    /// The scheme that all upstreams share.
    scheme: Option<String>,
    /// The transport.
    transport: Option<Transport>,
    /// Named response matchers.
    pub(super) matchers: BTreeMap<String, ResponseMatcherConfig>,
    /// `handle_response` segments, read at the end.
    pub(super) handle_response: Vec<Dispenser>,
    /// Weights beside addresses, where the policy asks for them.
    weights: Option<Vec<i64>>,
    /// The name of the policy that wants them.
    weighted: Token,
}

enum Transport {
    Http(Box<HttpTransportConfig>),
    Other(String, Value),
}

/// `lb_policy weighted_round_robin` without weights: they stand beside the addresses.
const WEIGHTED: &str = "weighted_round_robin";

/// Reads the directive; the cursor stands before its name.
pub(super) fn parse(h: &mut Helper<'_>) -> Result<Value> {
    h.d.next();
    let mut parsing = Parsing::default();
    if wants_weights(&h.d) {
        parsing.weights = Some(Vec::new());
    }
    let args = h.d.remaining_args();
    parsing.add_upstreams(&h.d, &args)?;
    while h.d.next_block(0) {
        subdirective(h, &mut parsing)?;
    }
    parsing.finish(h)
}

fn subdirective(h: &mut Helper<'_>, parsing: &mut Parsing) -> Result<()> {
    if h.d.val().starts_with('@') {
        let mut segment = h.d.new_from_next_segment();
        return caddis_http::handlers::response_matcher::parse_named(
            &mut segment,
            &mut parsing.matchers,
        );
    }
    match SUBDIRECTIVES.iter().find(|(name, _)| *name == h.d.val()) {
        Some((_, read)) => read(h, parsing),
        None => {
            let names = SUBDIRECTIVES.iter().map(|(name, _)| *name);
            Err(h.d.unrecognized("subdirective", names))
        }
    }
}

/// Whether the block says `lb_policy weighted_round_robin` and nothing more on that line.
fn wants_weights(d: &Dispenser) -> bool {
    let mut look = d.clone();
    look.remaining_args();
    while look.next_block(0) {
        let mut line = look.new_from_next_segment();
        line.next();
        if line.val() == "lb_policy" && line.remaining_args() == [WEIGHTED] {
            return true;
        }
    }
    false
}

impl Parsing {
    /// Adds upstream addresses; with weights among them where the policy asks for those.
    pub(super) fn add_upstreams(&mut self, d: &Dispenser, args: &[String]) -> Result<()> {
        let mut count = 0;
        for text in args {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if let Some(weights) = self.weights.as_mut().filter(|_| is_number && count > 0) {
                let weight = text.parse::<i64>().map_err(|error| {
                    d.err(format_args!("invalid weight value '{text}': {error}"))
                })?;
                weights.extend(std::iter::repeat_n(weight, count));
                count = 0;
                continue;
            }
            count = self
                .add_upstream(d, text)
                .map_err(|error| error.context(format_args!("parsing upstream '{text}'")))?;
        }
        Ok(())
    }

    /// Adds one address; gives the number of upstreams it stands for.
    fn add_upstream(&mut self, d: &Dispenser, text: &str) -> Result<usize> {
        let written = address::parse(text).map_err(|error| d.err(error))?;
        match written.scheme.as_str() {
            "wss" => {
                return Err(
                    d.err("the scheme wss:// is only supported in browsers; use https:// instead")
                );
            }
            "ws" => {
                return Err(
                    d.err("the scheme ws:// is only supported in browsers; use http:// instead")
                );
            }
            "https" | "http" | "h2c" | "" => {}
            other => return Err(d.err(format_args!("unsupported URL scheme {other}://"))),
        }
        if let Some(common) = self.scheme.as_deref().filter(|common| !common.is_empty())
            && common != written.scheme
        {
            return Err(d.err(format_args!(
                "for now, all proxy upstreams must use the same scheme (transport protocol); \
                 expecting '{common}://' but got '{}://'",
                written.scheme
            )));
        }
        let dials = written.dials().map_err(|error| d.err(error))?;
        self.scheme = Some(written.scheme);
        let count = dials.len();
        let upstream = |dial| UpstreamConfig { dial, max_requests: 0 };
        self.config.upstreams.extend(dials.into_iter().map(upstream));
        Ok(count)
    }

    /// `lb_policy`; the cursor stands on it.
    pub(super) fn policy(&mut self, d: &mut Dispenser) -> Result<()> {
        if !d.next_arg() {
            return Err(d.arg_err());
        }
        if self.config.load_balancing.as_ref().is_some_and(|lb| !lb.selection_policy.is_null()) {
            return Err(d.err("load balancing selection policy already specified"));
        }
        let policy =
            if d.val() == WEIGHTED && d.count_remaining_args() == 0 && self.weights.is_some() {
                self.weighted = d.token().clone();
                json!({"policy": WEIGHTED})
            } else {
                crate::selection::parse(d)?
            };
        self.config.balancing().selection_policy = policy;
        Ok(())
    }

    /// `transport`; the cursor stands on it.
    pub(super) fn transport(&mut self, d: &mut Dispenser) -> Result<()> {
        if !d.next_arg() {
            return Err(d.arg_err());
        }
        // As in Caddy, the last of several wins.
        let word = d.token().clone();
        let name = word.text.to_string();
        let mut inner = d.new_from_next_segment();
        self.transport = Some(match name.as_str() {
            "http" => Transport::Http(Box::new(parse_http(&mut inner)?)),
            "fastcgi" => {
                let config = crate::transport::fastcgi::parse(&mut inner)?;
                let payload = serde_json::to_value(config).map_err(|error| d.err(error))?;
                Transport::Other(name, payload)
            }
            _ => {
                let namespace = "http.reverse_proxy.transport";
                return Err(crate::parse::unknown_module(&word, namespace));
            }
        });
        Ok(())
    }

    fn finish(mut self, h: &mut Helper<'_>) -> Result<Value> {
        self.place_weights()?;
        self.place_transport(h)?;
        let segments = std::mem::take(&mut self.handle_response);
        for segment in segments {
            self.read_handle_response(h, segment)?;
        }
        // Entries with a matcher go first.
        self.config.handle_response.sort_by_key(|entry| entry.matcher.is_none());
        h.handler("reverse_proxy", &self.config)
    }

    fn place_weights(&mut self) -> Result<()> {
        let Some(weights) = self.weights.take() else { return Ok(()) };
        if weights.is_empty() {
            // As in Caddy, where weights only stand after the policy's name.
            let message =
                "wrong argument count or unexpected line ending after 'weighted_round_robin'";
            return Err(Diagnostic::error(message).at(&self.weighted).code("caddyfile::argument"));
        }
        let upstreams = self.config.upstreams.len();
        if weights.len() != upstreams {
            let message = format!(
                "weighted_round_robin: {} of {upstreams} upstreams have a weight; each address \
                 needs one, as in 'to app:8000 2'",
                weights.len()
            );
            return Err(Diagnostic::error(message).at(&self.weighted));
        }
        self.config.balancing().selection_policy = json!({"policy": WEIGHTED, "weights": weights});
        Ok(())
    }

    fn place_transport(&mut self, h: &mut Helper<'_>) -> Result<()> {
        let scheme = self.scheme.as_deref().unwrap_or("");
        let transport = match self.transport.take() {
            None if matches!(scheme, "https" | "h2c") => Transport::Http(Box::default()),
            None => return Ok(()),
            Some(transport) => transport,
        };
        self.config.transport = match transport {
            Transport::Other(name, payload) => {
                if scheme == "https" {
                    return Err(h.d.err(format_args!(
                        "upstreams are configured for HTTPS but transport module does not support \
                         TLS: *{name}.Transport"
                    )));
                }
                module_object(payload, "protocol", &name)
            }
            Transport::Http(mut config) => {
                if scheme == "https" {
                    config.tls.get_or_insert_default();
                }
                if config.tls.is_some() {
                    warn_host(h, &self.config);
                    if scheme == "http" {
                        return Err(h.d.err(
                            "upstream address scheme is HTTP but transport is configured for \
                             HTTP+TLS (HTTPS)",
                        ));
                    }
                }
                if scheme == "h2c" {
                    config.versions = vec!["h2c".to_owned(), "2".to_owned()];
                }
                if *config == HttpTransportConfig::default() {
                    return Ok(());
                }
                let payload = serde_json::to_value(&*config).map_err(|error| h.d.err(error))?;
                module_object(payload, "protocol", "http")
            }
        };
        Ok(())
    }

    fn read_handle_response(&mut self, h: &mut Helper<'_>, mut d: Dispenser) -> Result<()> {
        d.next();
        let args = d.remaining_args();
        if args.len() > 1 {
            return Err(d.err(format_args!(
                "too many arguments for 'handle_response': only a single response matcher name is \
                 allowed, but got: [{}]",
                args.join(" ")
            )));
        }
        let matcher = match args.first() {
            Some(name) => Some(self.matcher(&d, name)?),
            None => None,
        };
        let outer = std::mem::replace(&mut h.d, d.new_from_next_segment());
        let routes = h.parse_routes();
        h.d = outer;
        let entry =
            ResponseHandlerConfig { matcher, routes: routes?, ..ResponseHandlerConfig::default() };
        self.config.handle_response.push(entry);
        Ok(())
    }

    /// A named response matcher.
    pub(super) fn matcher(&self, d: &Dispenser, name: &str) -> Result<ResponseMatcherConfig> {
        let Some(short) = name.strip_prefix('@') else {
            return Err(d.err("must use a named response matcher, starting with '@'"));
        };
        self.matchers.get(name).cloned().ok_or_else(|| {
            let error =
                d.err(format_args!("no named response matcher defined with name '{short}'"));
            nearest(error, name, &self.matchers)
        })
    }
}

fn nearest(
    error: Diagnostic,
    name: &str,
    matchers: &BTreeMap<String, ResponseMatcherConfig>,
) -> Diagnostic {
    match caddis_caddyfile::nearest(name, matchers.keys().map(String::as_str)) {
        Some(near) => error.meant(near),
        None => error,
    }
}

/// `header_up Host {upstream_hostport}` is what happens anyway with TLS.
fn warn_host(h: &mut Helper<'_>, config: &Config) {
    let host = config
        .headers
        .as_ref()
        .and_then(|headers| headers.request.as_ref())
        .and_then(|ops| ops.set.get("Host"))
        .and_then(|values| values.first());
    let usual = ["{upstream_hostport}", "{http.reverse_proxy.upstream.hostport}"];
    if host.is_some_and(|host| usual.contains(&host.as_str())) {
        let is_line = |pair: &&[Token]| matches!(pair, [name, field] if name.text == "header_up" && field.text.eq_ignore_ascii_case("host"));
        // Whether the upstreams speak TLS shows at the end of the block; the line is further up.
        let line = h.d.tokens().windows(2).find(is_line).and_then(|pair| pair.first()).cloned();
        let message = "Unnecessary header_up Host: the reverse proxy's default behavior is to pass the \
             configured upstream address to the upstream when proxying to HTTPS";
        match line {
            Some(line) => h.shared.warnings.push(Diagnostic::warning(message).at(&line)),
            None => h.warn(message),
        }
    }
}
