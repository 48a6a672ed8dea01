//! Site blocks: what their directives yield, by class.

use std::borrow::Cow;
use std::cell::RefCell;

use caddis_caddyfile::{Diagnostic, Dispenser, Segment, ServerBlock, Span, Token};
use caddis_config::{Ca, ConnectionPolicy, CustomLog, Route};
use caddis_core::directive::AdaptState;
use caddis_core::{ConfigValue, Helper, Registry};
use serde_json::Value as Json;

use crate::block::{self, Yielded};
use crate::issuer::SharedIssuer;
use crate::matchers::{self, Definitions};
use crate::options::Options;
use crate::{freeze, recover, trace};

/// Hosts to listen on, with the protocols there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Bind {
    /// Hosts, with a network perhaps.
    pub(crate) addresses: Vec<String>,
    /// Protocols; the server's if empty.
    pub(crate) protocols: Vec<String>,
}

/// A log with the name that it has among the logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NamedLog {
    /// Its name; empty for the default one.
    pub(crate) name: String,
    /// Its settings, if there are any.
    pub(crate) log: Option<CustomLog>,
    /// Hosts instead of the site's own.
    pub(crate) hostnames: Vec<String>,
    /// For no host at all.
    pub(crate) no_hostname: bool,
}

/// What the directives of a site yield, by class.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    pub(crate) routes: RefCell<Vec<Yielded>>,
    pub(crate) error_routes: Vec<Route>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) connection_policies: Vec<ConnectionPolicy>,
    pub(crate) cert_loaders: Vec<(String, Json)>,
    pub(crate) issuers: Vec<SharedIssuer>,
    pub(crate) cert_managers: Vec<Json>,
    pub(crate) on_demand: bool,
    pub(crate) force_automate: bool,
    pub(crate) reuse_private_keys: bool,
    pub(crate) renewal_window_ratio: Option<f64>,
    pub(crate) key_type: Option<String>,
    pub(crate) logs: Vec<NamedLog>,
    pub(crate) cas: Vec<(String, Ca)>,
    pub(crate) invoked: Vec<Token>,
    /// The first `tls` directive.
    pub(crate) tls_at: Option<Span>,
    /// Whether a mistake in it may change what the site listens on and which TLS it has.
    pub(crate) uncertain: bool,
}

impl Pile {
    fn add(&mut self, value: Yielded) {
        match value.value {
            ConfigValue::Route(_) | ConfigValue::Routes(_) => {
                self.routes.get_mut().push(value);
            }
            ConfigValue::ErrorRoute(route) => self.error_routes.push(route),
            ConfigValue::Bind { addresses, protocols } => {
                self.binds.push(Bind { addresses, protocols });
            }
            ConfigValue::ConnectionPolicy(policy) => self.connection_policies.push(*policy),
            ConfigValue::CertLoader(name, items) => self.cert_loaders.push((name, items)),
            ConfigValue::Issuer(json) => self.issuers.push(SharedIssuer::of(&json)),
            ConfigValue::CertManager(json) => self.cert_managers.push(json),
            ConfigValue::OnDemand => self.on_demand = true,
            ConfigValue::ForceAutomate => self.force_automate = true,
            ConfigValue::ReusePrivateKeys => self.reuse_private_keys = true,
            ConfigValue::RenewalWindowRatio(ratio) => {
                self.renewal_window_ratio.get_or_insert(ratio);
            }
            ConfigValue::KeyType(name) => {
                self.key_type.get_or_insert(name);
            }
            ConfigValue::AccessLog { name, log, hostnames, no_hostname } => {
                self.logs.push(NamedLog { name, log: log.map(|log| *log), hostnames, no_hostname });
            }
            ConfigValue::PkiCa(id, ca) => self.cas.push((id, *ca)),
        }
    }
}

/// A site: its keys and what its directives yield.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// Its addresses as written.
    pub(crate) keys: Vec<Token>,
    /// What its directives yield.
    pub(crate) pile: Pile,
}

/// Evaluates the directives of the blocks that are sites.
///
/// Goes on after a mistake; the mistakes are in the order of the file.
pub(crate) fn evaluate(
    blocks: Vec<Cow<'_, ServerBlock>>,
    registry: &Registry,
    options: &Options,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Site> {
    let mut sites = Vec::with_capacity(blocks.len());
    for block in blocks {
        if block.keys.is_empty() {
            let message = "server block without any key is global configuration, and if used, it must be first";
            let mut error = Diagnostic::error(message).code("adapter::late_options");
            error = match (block.open, block.segments.first().and_then(Segment::name)) {
                (Some(brace), _) => error.label(brace, "no address before this brace"),
                (None, Some(token)) => error.labelled(token, "in this block"),
                (None, None) => error,
            };
            errors.push(error.help(
                "move these lines into the block at the top of the file (there is one such block), or write the address of a site before the `{`",
            ));
            continue;
        }
        let block = crate::shorthand::expanded(&block);
        sites.push(evaluate_site(&block, registry, options, shared, errors));
    }
    sites
}

fn evaluate_site(
    block: &ServerBlock,
    registry: &Registry,
    options: &Options,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> Site {
    let mut definitions = Definitions::new();
    for segment in block.segments.iter().filter(|segment| block::is_definition(segment)) {
        trace::defined(shared, segment.name());
        if let Err(error) = matchers::define(segment, registry, &mut definitions) {
            let again =
                |rest: &Segment| matchers::define(rest, registry, &mut Definitions::new()).err();
            errors.extend(recover::all(segment, error, registry, again));
            // Its uses are no further mistakes.
            definitions.entry(segment.directive().to_owned()).or_default();
        }
    }
    let keys: Vec<String> = block.key_texts().map(str::to_owned).collect();
    let mut h = Helper {
        d: Dispenser::default(),
        registry,
        matchers: definitions,
        options: &options.values,
        shared,
        keys: &keys,
    };
    let mut pile = Pile::default();
    for segment in block.segments.iter().filter(|segment| !block::is_definition(segment)) {
        match evaluate_directive(&mut h, segment, block.has_braces) {
            Ok(values) => {
                if segment.directive() == "tls" && pile.tls_at.is_none() {
                    pile.tls_at = segment.name().map(|name| name.span);
                }
                for mut value in values {
                    freeze::value(h.shared, &mut value.value);
                    pile.add(value);
                }
            }
            Err(error) => {
                if error.code == "adapter::unknown_directive" && block::lacks_at(segment, registry)
                {
                    // Its uses are no further mistakes.
                    h.matchers.entry(format!("@{}", segment.directive())).or_default();
                }
                let warnings = h.shared.warnings.len();
                errors.extend(recover::all(segment, error, registry, |rest| {
                    let next = evaluate_directive(&mut h, rest, block.has_braces).err();
                    h.shared.warnings.truncate(warnings);
                    if segment.directive() == "invoke" {
                        h.shared.invoked.clear();
                    }
                    next
                }));
                pile.uncertain |= ["bind", "import", "tls"].contains(&segment.directive());
            }
        }
        pile.invoked.append(&mut h.shared.invoked);
    }
    trace::forget(shared, 0);
    // There may be thousands of sites, most with a few of each.
    pile.routes.get_mut().shrink_to_fit();
    pile.logs.shrink_to_fit();
    Site { keys: block.keys.clone(), pile }
}

fn evaluate_directive(
    h: &mut Helper<'_>,
    segment: &Segment,
    has_braces: bool,
) -> Result<Vec<Yielded>, Diagnostic> {
    let name = segment.directive();
    let Some(directive) = h.registry.directive(name) else {
        let place = segment.name().map(|t| format!("{}:{}", t.file(), t.line)).unwrap_or_default();
        let mut message = format!("{place}: unrecognized directive: {name}");
        if !has_braces {
            message.push_str("\nDid you mean to define a second site? If so, you must use curly braces around each site to separate their configurations.");
        }
        return Err(block::point_at(Diagnostic::error(message), segment, h.registry));
    };
    h.d = Dispenser::from_segment(segment);
    let values = block::run(h, directive)
        .map_err(|error| error.context(format_args!("parsing caddyfile tokens for '{name}'")))?;
    Ok(values.into_iter().map(|value| block::yielded(segment, value)).collect())
}
