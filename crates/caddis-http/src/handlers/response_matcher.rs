//! The Caddyfile syntax of response matchers.
//!
//! ```text
//! @name {
//!     status <code...>
//!     header [!]<field> [<value>]
//! }
//! @name status <code...>
//! @name header <field> <value>
//! ```

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_core::response_matcher::ResponseMatcherConfig;

use super::support::canonical;

/// Reads one named response matcher; the dispenser stands before its name.
///
/// # Errors
/// A name that is taken, or a mistake in the matcher.
pub fn parse_named(
    d: &mut Dispenser,
    matchers: &mut BTreeMap<String, ResponseMatcherConfig>,
) -> ParseResult<()> {
    d.next();
    let name = d.val().to_owned();
    if matchers.contains_key(&name) {
        return Err(d.err(format!("matcher is defined more than once: {name}")));
    }
    let mut matcher = ResponseMatcherConfig::default();
    let nesting = d.nesting();
    while d.next_arg() || d.next_block(nesting) {
        match d.val() {
            "header" => parse_header(&mut d.new_from_next_segment(), &mut matcher)?,
            "status" => parse_status(d, &mut matcher)?,
            other => {
                let error = d.err(format!("unrecognized response matcher {other}"));
                return Err(d.did_you_mean(error, ["header", "status"]));
            }
        }
    }
    matchers.insert(name, matcher);
    Ok(())
}

fn parse_status(d: &mut Dispenser, matcher: &mut ResponseMatcherConfig) -> ParseResult<()> {
    let args = d.remaining_args();
    if args.is_empty() {
        return Err(d.arg_err());
    }
    for arg in &args {
        let number = arg.strip_suffix("xx").filter(|digit| digit.len() == 1).unwrap_or(arg);
        let code: u16 = number.parse().map_err(|_| {
            d.err(format!(
                "bad status value '{number}': strconv.Atoi: parsing {number:?}: invalid syntax"
            ))
        })?;
        matcher.status_code.push(code);
    }
    Ok(())
}

fn parse_header(d: &mut Dispenser, matcher: &mut ResponseMatcherConfig) -> ParseResult<()> {
    while d.next() {
        if !d.next_arg() {
            return Err(d.err("malformed header matcher: expected field"));
        }
        let field = d.val().to_owned();
        if let Some(absent) = field.strip_prefix('!') {
            if absent.is_empty() {
                let message =
                    "malformed header matcher: must have field name following ! character";
                return Err(d.err(message));
            }
            matcher.headers.insert(absent.to_owned(), None);
            if d.next_arg() {
                return Err(d.err(
                    "malformed header matcher: null matching headers cannot have a field value",
                ));
            }
        } else {
            if !d.next_arg() {
                let message = "malformed header matcher: expected both field and value";
                return Err(d.err(message));
            }
            let values = matcher.headers.entry(canonical(&field).into_owned()).or_default();
            values.get_or_insert_default().push(d.val().to_owned());
        }
        if d.next_block(0) {
            return Err(d.err("malformed header matcher: blocks are not supported"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<serde_json::Value, String> {
        let tokens = caddis_caddyfile::tokenize("Caddyfile", text).expect("tokens");
        let mut matchers = BTreeMap::new();
        parse_named(&mut Dispenser::new(tokens), &mut matchers).map_err(|e| e.to_string())?;
        Ok(serde_json::to_value(matchers).expect("json"))
    }

    #[test]
    fn forms() {
        assert_eq!(
            parse("@a {\n status 2xx 404\n header x-a *\n header X-A b\n header !X-B\n}"),
            Ok(json!({"@a": {"status_code": [2, 404],
                "headers": {"X-A": ["*", "b"], "X-B": null}}}))
        );
        assert_eq!(parse("@a status 500"), Ok(json!({"@a": {"status_code": [500]}})));
        assert_eq!(parse("@a header X *"), Ok(json!({"@a": {"headers": {"X": ["*"]}}})));
        assert!(parse("@a nope").is_err());
        assert!(parse("@a status abc").is_err());
        assert!(parse("@a header X").is_err());
    }
}
