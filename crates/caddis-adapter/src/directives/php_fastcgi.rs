//! `php_fastcgi`: PHP files to a FastCGI server, directories to their index file.
//!
//! ```text
//! php_fastcgi [<matcher>] <upstream…> {
//!     root      <path>
//!     split     <suffix…>
//!     index     <file> | off
//!     try_files <file…>
//!     env       <key> <value>
//!     resolve_root_symlink
//!     dial_timeout | read_timeout | write_timeout <duration>
//!     capture_stderr
//!     <subdirectives of reverse_proxy…>
//! }
//! ```

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, Token};
use caddis_config::{Route, module_object};
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::{Value as Json, json};

use super::proxied::{each_word, reverse_proxy, take_args, texts};
use crate::fields::Fields;
use crate::modules::{duration, next_arg};
use crate::routes;

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "php_fastcgi", kind: DirectiveKind::Values(parse), ordered: true };

/// What the directive says apart from the proxy.
struct Php {
    root: String,
    suffixes: Vec<String>,
    index: String,
    try_files: Vec<String>,
    env: BTreeMap<String, String>,
    resolve_root_symlink: bool,
    capture_stderr: bool,
    /// Nanoseconds by field.
    timeouts: BTreeMap<&'static str, i64>,
    /// The name of another transport, which is a mistake.
    transport_at: Option<Token>,
}

/// The subdirectives that `reverse_proxy` does not have.
const OWN: &[&str] = &[
    "root",
    "split",
    "env",
    "index",
    "try_files",
    "resolve_root_symlink",
    "dial_timeout",
    "read_timeout",
    "write_timeout",
    "capture_stderr",
];

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    let matchers = h.extract_matcher_set()?;
    h.d.next();
    let mut tokens = h.d.new_from_next_segment();
    let mut php = Php {
        root: String::new(),
        suffixes: vec![".php".to_owned()],
        index: "index.php".to_owned(),
        try_files: Vec::new(),
        env: BTreeMap::new(),
        resolve_root_symlink: false,
        capture_stderr: false,
        timeouts: BTreeMap::new(),
        transport_at: None,
    };
    each_word(&mut tokens, |d| php.word(d))?;
    let mut all = Vec::new();
    if php.index != "off" {
        all.extend(php.index_routes());
    }
    let mut handler = reverse_proxy(h, tokens, OWN)?;
    if handler.get("transport").is_some() {
        let message = "transport already specified";
        return Err(match php.transport_at {
            Some(at) => Diagnostic::error(message)
                .at(&at)
                .help("php_fastcgi has its own transport; its options stand in this block"),
            None => h.d.err(message),
        });
    }
    let paths: Vec<String> = php.suffixes.iter().map(|suffix| format!("*{suffix}")).collect();
    handler["transport"] = php.transport();
    all.push(route(json!({ "path": paths }), handler));
    if let Some(set) = matchers {
        return Ok(h.route(Some(set), routes::subroute(&all)));
    }
    Ok(vec![ConfigValue::Routes(all)])
}

impl Php {
    fn word(&mut self, d: &mut Dispenser) -> ParseResult<()> {
        match d.val() {
            "root" => {
                self.root = next_arg(d)?;
                d.delete_n(2);
            }
            "split" => {
                self.suffixes = take_args(d);
                if self.suffixes.is_empty() {
                    return Err(d.arg_err());
                }
            }
            "env" => match take_args(d).as_slice() {
                [key, value] => {
                    self.env.insert(key.clone(), value.clone());
                }
                _ => return Err(d.arg_err()),
            },
            "index" => match take_args(d).as_slice() {
                [index] => self.index.clone_from(index),
                _ => return Err(d.arg_err()),
            },
            "try_files" => {
                self.try_files = take_args(d);
                if self.try_files.is_empty() {
                    return Err(d.arg_err());
                }
            }
            "resolve_root_symlink" => {
                take_args(d);
                self.resolve_root_symlink = true;
            }
            "capture_stderr" => {
                take_args(d);
                self.capture_stderr = true;
            }
            "transport" => self.transport_at = name_after(d),
            "dial_timeout" => self.timeout(d, "dial_timeout")?,
            "read_timeout" => self.timeout(d, "read_timeout")?,
            "write_timeout" => self.timeout(d, "write_timeout")?,
            _ => {}
        }
        Ok(())
    }

    fn timeout(&mut self, d: &mut Dispenser, field: &'static str) -> ParseResult<()> {
        let text = next_arg(d)?;
        let timeout = duration(d, &text, &format!("bad timeout value {text}"))?;
        self.timeouts.insert(field, timeout.as_nanos());
        d.delete_n(2);
        Ok(())
    }

    /// The redirect to the directory's name with a slash, and the rewrite to the index file.
    fn index_routes(&mut self) -> Vec<Route> {
        let in_directory = format!("{{http.request.uri.path}}/{}", self.index);
        let mut policy = "first_exist_fallback";
        let mut redirects = true;
        if self.try_files.is_empty() {
            let path = "{http.request.uri.path}".to_owned();
            self.try_files = vec![path, in_directory.clone(), self.index.clone()];
        } else {
            if !self.try_files.last().is_some_and(|last| last.ends_with(".php")) {
                policy = "";
            }
            redirects = self.try_files.contains(&in_directory);
        }
        let mut found = Vec::new();
        if redirects {
            let location = "{http.request.orig_uri.path}/{http.request.orig_uri.prefixed_query}";
            found.push(route(
                json!({ "file": { "try_files": [in_directory] }, "not": [{ "path": ["*/"] }] }),
                json!({
                    "handler": "static_response",
                    "status_code": 308,
                    "headers": { "Location": [location] },
                }),
            ));
        }
        let mut file = Fields::default();
        file.list("try_files", self.try_files.clone());
        file.text("try_policy", policy.to_owned());
        file.list("split_path", self.suffixes.clone());
        found.push(route(
            json!({ "file": Json::from(file) }),
            json!({ "handler": "rewrite", "uri": "{http.matchers.file.relative}" }),
        ));
        found
    }

    fn transport(self) -> Json {
        let mut fields = Fields::default();
        fields.text("root", self.root);
        fields.list("split_path", self.suffixes);
        if self.resolve_root_symlink {
            fields.flag("resolve_root_symlink");
        }
        if !self.env.is_empty() {
            fields.set("env", texts(self.env));
        }
        for (field, nanos) in self.timeouts {
            fields.integer(field, nanos);
        }
        if self.capture_stderr {
            fields.flag("capture_stderr");
        }
        module_object(fields.into(), "protocol", "fastcgi")
    }
}

fn route(matchers: Json, handler: Json) -> Route {
    let set = match matchers {
        Json::Object(set) => set.into_iter().collect(),
        _ => Default::default(),
    };
    Route { matcher_sets: vec![set], handle: vec![handler], ..Route::default() }
}

/// The next word of the line, which is not taken.
fn name_after(d: &mut Dispenser) -> Option<Token> {
    let token = d.next_arg().then(|| d.token().clone());
    if token.is_some() {
        d.prev();
    }
    token
}
