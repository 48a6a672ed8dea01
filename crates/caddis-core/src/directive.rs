//! Directives: what turns a segment of a Caddyfile into config values.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
};

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, Token};
use caddis_config::Route;
use serde::Serialize;
use serde_json::Value as Json;

use crate::Registry;

/// One directive.
pub struct Directive {
    /// Its name in a Caddyfile.
    pub name: &'static str,
    /// How it is read.
    pub kind: DirectiveKind,
    /// Whether it has a place in the default order (its place in `Registry::directives`).
    pub ordered: bool,
}

/// How a directive is read.
pub enum DirectiveKind {
    /// An optional matcher token, then arguments that yield one handler object (with its
    /// `handler` key): the common case. The matcher token was taken off and the cursor stands
    /// before the directive's name.
    Handler(fn(&mut Helper<'_>) -> ParseResult<Json>),
    /// Anything else; the cursor stands before the directive's name, a matcher token is still
    /// there (`Helper::extract_matcher_set` takes it off).
    Values(fn(&mut Helper<'_>) -> ParseResult<Vec<ConfigValue>>),
}

/// A set of matchers by name, as in JSON.
pub type MatcherSetConfig = BTreeMap<String, Json>;

/// What a directive yields.
#[derive(Debug, Clone)]
pub enum ConfigValue {
    /// A route of the site.
    Route(Route),
    /// Routes of the site that stay together, in this order (`php_fastcgi` without a matcher).
    Routes(Vec<Route>),
    /// A route (a subroute of `handle_errors`) for the errors of the site.
    ErrorRoute(Route),
    /// Listener addresses of the site.
    Bind {
        /// Hosts, as written.
        addresses: Vec<String>,
        /// Protocols of these listeners, or empty.
        protocols: Vec<String>,
    },
    /// A TLS connection policy of the site.
    ConnectionPolicy(Box<caddis_config::ConnectionPolicy>),
    /// A certificate loader: name (`load_files`, …) and its JSON items.
    CertLoader(String, Json),
    /// An issuer for the site's certificates.
    Issuer(Json),
    /// A certificate manager (`get_certificate`).
    CertManager(Json),
    /// Certificates on demand.
    OnDemand,
    /// `tls force_automate`.
    ForceAutomate,
    /// `reuse_private_keys`.
    ReusePrivateKeys,
    /// `renewal_window_ratio`.
    RenewalWindowRatio(f64),
    /// `key_type`.
    KeyType(String),
    /// A logger of the site.
    AccessLog {
        /// The logger's name, empty for a bare `log`.
        name: String,
        /// Its settings; `None` for a bare `log`.
        log: Option<Box<caddis_config::CustomLog>>,
        /// Hosts it is for instead of the site's own.
        hostnames: Vec<String>,
        /// `no_hostname`.
        no_hostname: bool,
    },
    /// A certificate authority that the site needs.
    PkiCa(String, Box<caddis_config::Ca>),
}

/// What a directive's `parse` works with: the cursor over its tokens and what is known of the
/// site around it.
pub struct Helper<'a> {
    /// The directive's tokens.
    pub d: Dispenser,
    /// The modules.
    pub registry: &'a Registry,
    /// Named matchers of the site, visible here: `@name` to its set.
    pub matchers: HashMap<String, MatcherSetConfig>,
    /// Values of global options, by name, as JSON.
    pub options: &'a BTreeMap<String, Json>,
    /// What lasts as long as the file's adaptation.
    pub shared: &'a mut AdaptState,
    /// The site's keys as written (hosts, ports), for messages and for `bind`-like directives.
    pub keys: &'a [String],
}

/// What lasts as long as one adaptation.
#[derive(Default)]
pub struct AdaptState {
    /// Counter for `groupN` names.
    pub next_group: usize,
    /// Warnings so far.
    pub warnings: Vec<Diagnostic>,
    /// Directive order, where `order` options changed it; else empty.
    pub order: Vec<String>,
    /// Names of named routes defined in the file.
    pub named_routes: Vec<String>,
    /// Names of named routes invoked so far, each where it was invoked first.
    pub invoked: Vec<Token>,
    /// Notes of single directives for themselves (counters, certificate tags), by name.
    pub notes: BTreeMap<&'static str, Box<dyn Any>>,
}

impl AdaptState {
    /// A fresh group name, `group0`, `group1`, …
    pub fn group_name(&mut self) -> String {
        let name = format!("group{}", self.next_group);
        self.next_group += 1;
        name
    }

    /// A directive's own note, made on first use.
    pub fn note<T: Default + 'static>(&mut self, name: &'static str) -> &mut T {
        let slot = self.notes.entry(name).or_insert_with(|| Box::new(T::default()));
        if !slot.is::<T>() {
            *slot = Box::new(T::default());
        }
        slot.downcast_mut().expect("the slot was made for this type")
    }
}

impl Helper<'_> {
    /// Takes a matcher token off: the first argument after the directive's name, if it is `*`,
    /// `/path` or `@name`. The cursor must stand before the directive's name and does afterwards.
    /// `None`: there is none (or `*`).
    ///
    /// # Errors
    /// An undefined `@name`.
    pub fn extract_matcher_set(&mut self) -> ParseResult<Option<MatcherSetConfig>> {
        let mut found = None;
        self.d.next();
        if self.d.next_arg() {
            let (set, taken) = self.matcher_token()?;
            if taken {
                self.d.delete();
            }
            found = set;
        }
        self.d.reset();
        Ok(found)
    }

    /// Reads the current token as a matcher token: the set (`None` for `*`), and whether it is one.
    ///
    /// # Errors
    /// An undefined `@name`.
    pub fn matcher_token(&self) -> ParseResult<(Option<MatcherSetConfig>, bool)> {
        /// Most names that are listed.
        const FEW: usize = 6;
        // Quotes make no difference here, as in Caddy.
        let text = self.d.val();
        if text == "*" {
            return Ok((None, true));
        }
        if text.starts_with('/') {
            let set = BTreeMap::from([("path".to_owned(), Json::from(vec![text.to_owned()]))]);
            return Ok((Some(set), true));
        }
        if text.starts_with('@') {
            let Some(set) = self.matchers.get(text) else {
                let message = format!("unrecognized matcher name: {text}");
                // Caddy names no place here.
                let mut error = Diagnostic::error(message).labelled(self.d.token(), "not defined");
                let names = self.matchers.keys().map(String::as_str);
                if let Some(near) = caddis_caddyfile::nearest(text, names) {
                    return Err(error.meant(near));
                }
                let names: Vec<String> =
                    self.matchers.keys().take(FEW + 1).map(|name| format!("`{name}`")).collect();
                if (1..=FEW).contains(&names.len()) {
                    error = error.help(format!(
                        "defined here: {}; or add `{text} path /{}/*`",
                        names.join(", "),
                        text.trim_start_matches('@')
                    ));
                }
                return Err(error);
            };
            return Ok((Some(set.clone()), true));
        }
        Ok((None, false))
    }

    /// A handler's JSON object: its config with the `handler` key.
    ///
    /// # Errors
    /// None for the shapes of this project, which are all JSON objects.
    pub fn handler(&self, name: &str, config: &impl Serialize) -> ParseResult<Json> {
        inline(name, "handler", config).map_err(|error| self.d.err(error))
    }

    /// One route with one handler, as a directive's whole result.
    pub fn route(&self, set: Option<MatcherSetConfig>, handler: Json) -> Vec<ConfigValue> {
        vec![ConfigValue::Route(Route {
            matcher_sets: set.into_iter().collect(),
            handle: vec![handler],
            ..Route::default()
        })]
    }

    /// Parses the block that follows as routes (`handle_response` and the like): see
    /// `Registry::parse_routes`.
    ///
    /// # Errors
    /// The first mistake in the block.
    pub fn parse_routes(&mut self) -> ParseResult<Vec<Route>> {
        let parse = self.registry.parse_routes;
        parse(self)
    }

    /// Adds a warning at the current token.
    pub fn warn(&mut self, message: impl Into<String>) {
        let warning = self.d.warning(message.into());
        self.shared.warnings.push(warning);
    }

    /// A global option's JSON value.
    pub fn option(&self, name: &str) -> Option<&Json> {
        self.options.get(name)
    }
}

/// A module's JSON object with its inline key in front.
///
/// # Errors
/// The config is no JSON object.
pub fn inline(name: &str, key: &str, config: &impl Serialize) -> Result<Json, String> {
    match serde_json::to_value(config).map_err(|error| error.to_string())? {
        Json::Object(mut object) => {
            object.insert(key.to_owned(), name.into());
            Ok(Json::Object(object))
        }
        Json::Null => Ok(serde_json::json!({ key: name })),
        other => Err(format!("module {name} is no object: {other}")),
    }
}
