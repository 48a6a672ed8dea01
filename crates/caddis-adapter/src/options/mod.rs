//! Global options: the block without keys at the top of a file.

mod acme;
mod admin;
mod events;
mod listen;
mod observe;
mod order;
mod pki;
mod servers;
mod simple;
mod storage;
mod tls;
mod wrappers;

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, Segment, nearest};
use caddis_config::tls::{Ech, OnDemandConfig};
use caddis_config::{AdminConfig, Ca, Duration, EventsApp, Filesystems, Metrics};
use caddis_core::Registry;
use caddis_core::directive::AdaptState;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::issuer::SharedIssuer;
use crate::servers::ServerOptions;
use crate::site::{Bind, NamedLog};
use crate::{plugins, recover};

/// One global option.
pub(crate) struct GlobalOption {
    name: &'static str,
    /// Reads it; the cursor stands before its name.
    parse: fn(&mut OptionCx<'_>) -> ParseResult<()>,
}

/// What an option's parser works with.
pub(crate) struct OptionCx<'a> {
    /// The option's tokens.
    d: Dispenser,
    /// Its name.
    name: &'static str,
    /// What is set so far.
    options: &'a mut Options,
    /// Modules.
    registry: &'a Registry,
    /// What lasts as long as the adaptation.
    shared: &'a mut AdaptState,
}

impl OptionCx<'_> {
    /// Sets the option's value.
    fn set(&mut self, value: impl Into<Json>) {
        self.options.values.insert(self.name.to_owned(), value.into());
    }

    /// An unknown word of the option, in Caddy's sentence, with the nearest known one.
    fn unknown(&self, message: String, known: &[&str]) -> Diagnostic {
        self.d.did_you_mean(self.d.err(message), known.iter().copied())
    }
}

/// What the options say.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Values by name, as directives may ask for them. An option without a value is `true`.
    pub(crate) values: BTreeMap<String, Json>,
    pub(crate) default_bind: Option<Vec<Bind>>,
    pub(crate) servers: Vec<ServerOptions>,
    pub(crate) logs: Vec<NamedLog>,
    pub(crate) cas: BTreeMap<String, Ca>,
    pub(crate) cert_issuers: Vec<SharedIssuer>,
    pub(crate) on_demand: Option<OnDemandConfig>,
    pub(crate) ech: Option<Ech>,
    pub(crate) admin: Option<AdminConfig>,
    pub(crate) events: Option<EventsApp>,
    pub(crate) filesystems: Option<Filesystems>,
    pub(crate) metrics: Option<Metrics>,
}

impl Options {
    /// Whether an option is there.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text; empty if it is not set.
    pub(crate) fn text(&self, name: &str) -> String {
        self.values.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.values.get(name).and_then(Json::as_i64)
    }

    /// A decimal number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.values.get(name).and_then(Json::as_f64)
    }

    /// A duration.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.integer(name).map(Duration::from_nanos)
    }

    /// A value of another shape.
    pub(crate) fn decoded<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.values.get(name)?.clone()).ok()
    }

    /// Port of plain HTTP.
    pub(crate) fn http_port(&self) -> String {
        self.integer("http_port").unwrap_or(80).to_string()
    }

    /// Port of HTTPS.
    pub(crate) fn https_port(&self) -> String {
        self.integer("https_port").unwrap_or(443).to_string()
    }

    /// Words of `auto_https`.
    pub(crate) fn auto_https(&self) -> Vec<String> {
        self.decoded("auto_https").unwrap_or_default()
    }
}

/// Every option.
const ALL: &[&[GlobalOption]] = &[
    simple::OPTIONS,
    admin::OPTIONS,
    listen::OPTIONS,
    order::OPTIONS,
    observe::OPTIONS,
    storage::OPTIONS,
    acme::OPTIONS,
    tls::OPTIONS,
    pki::OPTIONS,
    events::OPTIONS,
    servers::OPTIONS,
];

fn all() -> impl Iterator<Item = &'static GlobalOption> {
    ALL.iter().flat_map(|group| group.iter())
}

/// Options that say nothing about what sites listen on, how their routes are ordered and which
/// certificates they have.
const APART: &[&str] = &[
    "admin",
    "debug",
    "email",
    "events",
    "filesystem",
    "grace_period",
    "log",
    "metrics",
    "persist_config",
    "pki",
    "shutdown_delay",
    "skip_install_trust",
    "storage",
    "storage_check",
    "storage_clean_interval",
];

/// Whether sites may be other ones without this option, or that for which its name was mistyped.
pub(crate) fn shapes_sites(name: &str) -> bool {
    let known = all().map(|option| option.name);
    let meant = if is_option(name) { Some(name) } else { nearest(name, known) };
    meant.is_some_and(|meant| !APART.contains(&meant))
}

/// Whether a word is the name of a global option.
pub(crate) fn is_option(name: &str) -> bool {
    all().any(|option| option.name == name)
}

/// Evaluates the options block.
///
/// Goes on after a mistake; the mistakes are in the order of the file.
pub(crate) fn evaluate(
    segments: &[Segment],
    registry: &Registry,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> Options {
    let mut options = Options::default();
    for segment in segments {
        let mut run = |segment: &Segment| {
            let Some(option) = all().find(|option| option.name == segment.directive()) else {
                return Some(unknown(segment, registry));
            };
            let d = Dispenser::from_segment(segment);
            let options = &mut options;
            let mut cx = OptionCx { d, name: option.name, options, registry, shared };
            let error = (option.parse)(&mut cx).err()?;
            let name = segment.directive();
            Some(error.context(format_args!("parsing caddyfile tokens for '{name}'")))
        };
        if let Some(error) = run(segment) {
            errors.extend(recover::all(segment, error, registry, run));
        }
    }
    if let Err(error) = servers::arrange(&mut options.servers) {
        errors.push(error);
    }
    options
}

fn unknown(segment: &Segment, registry: &Registry) -> Diagnostic {
    let name = segment.directive();
    let Some(token) = segment.name() else {
        return Diagnostic::error("unrecognized global option: ");
    };
    let message = format!("{}:{}: unrecognized global option: {name}", token.file(), token.line);
    let error = Diagnostic::error(message)
        .code("adapter::unknown_option")
        .labelled(token, "no such option");
    let is_directive = registry.directive(name).is_some();
    let directive = is_directive.then(|| {
        format!("`{name}` is a directive: it belongs into the block of a site, after its address")
    });
    match directive.or_else(|| plugins::directive_help(name)) {
        Some(help) => error.help(help),
        None => match nearest(name, all().map(|option| option.name)) {
            Some(near) => error.meant(near),
            None => error,
        },
    }
}
