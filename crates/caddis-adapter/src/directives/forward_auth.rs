//! `forward_auth`: asks another server whether a request may go on.
//!
//! ```text
//! forward_auth [<matcher>] <upstream…> {
//!     uri          <to>
//!     copy_headers <field…> | { <field> … }       Field>Renamed
//!     <subdirectives of reverse_proxy…>
//! }
//! ```

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, Token, nearest};
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::{Value as Json, json};

use super::proxied::{add_defaults, each_word, reverse_proxy};
use crate::modules::next_arg;

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "forward_auth", kind: DirectiveKind::Values(parse), ordered: true };

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    let matchers = h.extract_matcher_set()?;
    h.d.next();
    let mut tokens = h.d.new_from_next_segment();
    let mut uri = String::new();
    let mut headers = BTreeMap::new();
    let mut mistyped = None;
    each_word(&mut tokens, |d| {
        if mistyped.is_none() && d.val() != "uri" && nearest(d.val(), ["uri"]).is_some() {
            mistyped = Some(d.token().clone());
        }
        word(d, &mut uri, &mut headers)
    })?;
    if uri.is_empty() {
        tokens.reset();
        tokens.next();
        return Err(lacks_uri(&tokens, mistyped.as_ref()));
    }
    let mut handler = reverse_proxy(h, tokens, &["uri", "copy_headers"])?;
    add_defaults(
        &mut handler,
        json!({
            "headers": { "request": { "set": {
                "X-Forwarded-Method": ["{http.request.method}"],
                "X-Forwarded-Uri": ["{http.request.uri}"],
            } } },
            // As a GET the request keeps its body for the handlers after this one.
            "rewrite": { "method": "GET", "uri": uri },
            "handle_response": [],
        }),
    );
    if let Some(Json::Array(handlers)) = handler.get_mut("handle_response") {
        handlers.insert(0, good_response(&headers));
    }
    Ok(h.route(matchers, handler))
}

/// The mistake that nothing says what is asked; `mistyped` is a word that was probably meant to.
fn lacks_uri(d: &Dispenser, mistyped: Option<&Token>) -> Diagnostic {
    let mut error = d.err("the 'uri' subdirective is required");
    // Caddy names the place before the first token.
    error.place = Some((Default::default(), 0));
    error.imports = None;
    if let Some(token) = mistyped {
        error.labels.clear();
        return error.labelled(token, "not known here").meant("uri");
    }
    error.lacks = Some("uri /");
    error.help("name what is asked, such as `uri /auth`")
}

fn word(
    d: &mut Dispenser,
    uri: &mut String,
    headers: &mut BTreeMap<String, String>,
) -> ParseResult<()> {
    match d.val() {
        "uri" => {
            let given = next_arg(d)?;
            if !uri.is_empty() {
                return Err(d.err(format_args!("cannot re-declare uri: {given}")));
            }
            *uri = given;
            d.delete_n(2);
        }
        "copy_headers" => {
            let mut fields = d.remaining_args();
            let mut has_block = false;
            let nesting = d.nesting();
            while d.next_block(nesting) {
                has_block = true;
                fields.push(d.val().to_owned());
            }
            d.delete_n(fields.len() + 1);
            if has_block {
                d.delete_n(2);
            }
            for field in fields {
                let mut parts = field.split('>');
                let from = parts.next().unwrap_or_default().to_owned();
                let to = parts.next().map_or_else(|| from.clone(), str::to_owned);
                headers.insert(from, to);
            }
            if headers.is_empty() {
                return Err(d.arg_err());
            }
        }
        _ => {}
    }
    Ok(())
}

/// After a good answer the request goes on, with some of the answer's headers.
fn good_response(headers: &BTreeMap<String, String>) -> Json {
    // Without a handler the answer would count as not handled.
    let mut routes = vec![json!({ "handle": [{ "handler": "vars" }] })];
    for (from, to) in headers {
        let to = canonical(to);
        let value = format!("{{http.reverse_proxy.header.{}}}", canonical(from));
        // What the client sent must not get through where the answer has nothing.
        routes.push(json!({
            "handle": [{ "handler": "headers", "request": { "delete": [to] } }],
        }));
        routes.push(json!({
            "match": [{ "not": [{ "vars": { value.clone(): [""] } }] }],
            "handle": [{ "handler": "headers", "request": { "set": { to: [value] } } }],
        }));
    }
    json!({ "match": { "status_code": [2] }, "routes": routes })
}

/// A header's name as Go writes it.
fn canonical(name: &str) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(fits) {
        return name.to_owned();
    }
    let mut start = true;
    name.chars()
        .map(|c| {
            let shown = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            start = c == '-';
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn header_names() {
        assert_eq!(canonical("remote-USER"), "Remote-User");
        assert_eq!(canonical("a b"), "a b");
    }
}
