//! `tls`: whether the connection is a TLS one.
//!
//! ```text
//! tls [early_data]
//! ```
//!
//! JSON: `{"handshake_complete": bool}`, or `{}` for any TLS connection. Early data is never
//! accepted here, so a handshake is always complete.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::shape;

/// `http.matchers.tls`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.tls", parse, compile };

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_complete: Option<bool>,
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut tls = Tls::default();
    loop {
        if d.next_arg() {
            if d.val() != "early_data" {
                return Err(d.err(format_args!("unrecognized option '{}'", d.val())));
            }
            tls.handshake_complete = Some(false);
        }
        if d.next_arg() {
            return Err(d.arg_err());
        }
        if d.next_block(0) {
            return Err(d.err("malformed tls matcher: blocks are not supported yet"));
        }
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(tls).map_err(|error| d.err(error))
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    Ok(Box::new(shape::<Tls>(json)?))
}

impl Matcher for Tls {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        Ok(ex.connection.tls.is_some() && self.handshake_complete != Some(false))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{matches, parse};
    use super::*;

    #[test]
    fn reads_its_option() {
        assert_eq!(parse(&MODULE, "tls"), Ok(json!({})));
        assert_eq!(parse(&MODULE, "tls early_data"), Ok(json!({"handshake_complete": false})));
        assert_eq!(parse(&MODULE, "tls x"), Err("unrecognized option 'x'".into()));
        assert!(!matches(&MODULE, "tls", "/"));
    }
}
