//! `acme_server`: an ACME server in front of a local authority.
//!
//! ```text
//! acme_server [<matcher>] {
//!     ca         <id>
//!     lifetime   <duration>
//!     resolvers  <address…>
//!     challenges <challenge…>
//!     allow_wildcard_names
//!     allow | deny {
//!         domains   <domain…>
//!         ip_ranges <cidr…>
//!     }
//!     sign_with_root
//! }
//! ```

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::{Duration, module_object};
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::Value as Json;

use crate::fields::Fields;
use crate::modules::{next_arg, no_args, one_arg};

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "acme_server", kind: DirectiveKind::Values(parse), ordered: true };

const KNOWN: [&str; 8] = [
    "ca",
    "lifetime",
    "resolvers",
    "challenges",
    "allow_wildcard_names",
    "allow",
    "deny",
    "sign_with_root",
];

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    let matchers = h.extract_matcher_set()?;
    h.d.next();
    no_args(&mut h.d)?;
    let mut server = Fields::default();
    let mut policy = Fields::default();
    let mut has_policy = false;
    let mut challenges = Vec::new();
    let mut ca = None;
    while h.d.next_block(0) {
        let d = &mut h.d;
        let word = d.val().to_owned();
        match word.as_str() {
            "ca" => {
                let id = one_arg(d)?;
                server.text("ca", id.clone());
                ca = Some(id);
            }
            "lifetime" => {
                let text = next_arg(d)?;
                // Caddy names no place here.
                let lifetime = Duration::parse(&text)
                    .map_err(|error| Diagnostic::error(error).labelled(d.token(), "no duration"))?;
                server.integer("lifetime", lifetime.as_nanos());
            }
            "resolvers" => {
                let resolvers = d.remaining_args();
                if resolvers.is_empty() {
                    return Err(d.err("must specify at least one resolver address"));
                }
                server.list("resolvers", resolvers);
            }
            "challenges" => challenges.extend(d.remaining_args()),
            "allow_wildcard_names" => {
                policy.flag("allow_wildcard_names");
                has_policy = true;
            }
            "allow" | "deny" => {
                policy.set(&word, rules(d, &word)?);
                has_policy = true;
            }
            "sign_with_root" => {
                no_args(d)?;
                server.flag("sign_with_root");
            }
            _ => {
                let error = d.err(format_args!("unrecognized ACME server directive: {word}"));
                return Err(d.did_you_mean(error, KNOWN));
            }
        }
    }
    server.list("challenges", challenges);
    if has_policy {
        server.set("policy", Json::from(policy));
    }
    let mut values = h.route(matchers, module_object(server.into(), "handler", "acme_server"));
    values.extend(ca.map(|id| ConfigValue::PkiCa(id, Box::default())));
    Ok(values)
}

fn rules(d: &mut Dispenser, what: &str) -> ParseResult<Json> {
    let (mut domains, mut ranges) = (Vec::new(), Vec::new());
    let nesting = d.nesting();
    while d.next_block(nesting) {
        if d.count_remaining_args() == 0 {
            return Err(d.arg_err());
        }
        match d.val() {
            "domains" => domains.extend(d.remaining_args()),
            "ip_ranges" => ranges.extend(d.remaining_args()),
            other => {
                let message = format_args!("unrecognized '{what}' subdirective: {other}");
                return Err(d.did_you_mean(d.err(message), ["domains", "ip_ranges"]));
            }
        }
    }
    let mut fields = Fields::default();
    fields.list("domains", domains);
    fields.list("ip_ranges", ranges);
    Ok(fields.into())
}
