//! `header`: header fields of the request.
//!
//! ```text
//! header <field> <value>
//! header !<field>
//! ```
//!
//! JSON: `{"Field": ["values"]}`; `null` means that the field is absent, `[]` that it is there.
//! Values may have `*` at either end, or be `*` alone for any. Different fields must all match, of
//! a field's values one must.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Matcher, MatcherModule, Result, Template, response_matcher::HeaderPattern,
};
use http::HeaderName;
use serde_json::Value as Json;

use super::{no_block, shape};
use crate::handlers::support::canonical;

/// `http.matchers.header`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.header", parse, compile };

/// A field, with those that the request keeps elsewhere.
pub(super) enum Field {
    Host,
    TransferEncoding,
    Name(HeaderName),
    /// No valid name, so it is never there.
    Never,
}

enum Pattern {
    Static(HeaderPattern),
    Dynamic(Template),
}

enum Want {
    Absent,
    Present,
    OneOf(Vec<Pattern>),
}

struct Header(Vec<(Field, Want)>);

impl Field {
    pub(super) fn parse(name: &str) -> Self {
        match HeaderName::try_from(name) {
            Ok(http::header::HOST) => Self::Host,
            Ok(http::header::TRANSFER_ENCODING) => Self::TransferEncoding,
            Ok(name) => Self::Name(name),
            Err(_) => Self::Never,
        }
    }

    /// The first result that the function has for a value of the field.
    pub(super) fn any<T>(&self, ex: &Exchange, mut of: impl FnMut(&str) -> Option<T>) -> Option<T> {
        match self {
            Self::Host => (!ex.request.host.is_empty()).then(|| of(&ex.request.host)).flatten(),
            Self::TransferEncoding => ex.request.chunked.then(|| of("chunked")).flatten(),
            Self::Name(name) => {
                ex.request.headers.get_all(name).iter().find_map(|value| match std::str::from_utf8(
                    value.as_bytes(),
                ) {
                    Ok(text) => of(text),
                    Err(_) => of(&String::from_utf8_lossy(value.as_bytes())),
                })
            }
            Self::Never => None,
        }
    }

    fn is_present(&self, ex: &Exchange) -> bool {
        self.any(ex, |_| Some(())).is_some()
    }
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut fields: BTreeMap<String, Option<Vec<String>>> = BTreeMap::new();
    loop {
        if !d.next_arg() {
            return Err(d.err("malformed header matcher: expected field"));
        }
        let field = d.val().to_owned();
        if let Some(field) = field.strip_prefix('!') {
            if field.is_empty() {
                return Err(
                    d.err("malformed header matcher: must have field name following ! character")
                );
            }
            fields.insert(field.to_owned(), None);
            if d.next_arg() {
                return Err(d.err(
                    "malformed header matcher: null matching headers cannot have a field value",
                ));
            }
        } else {
            if !d.next_arg() {
                return Err(d.err("malformed header matcher: expected both field and value"));
            }
            let values = fields.entry(canonical(&field).into_owned()).or_default();
            values.get_or_insert_default().push(d.val().to_owned());
        }
        no_block(d, "header")?;
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(fields).map_err(|error| d.err(error))
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let fields: BTreeMap<String, Option<Vec<String>>> = shape(json)?;
    let compiled = fields.iter().map(|(name, values)| {
        let want = match values {
            None => Want::Absent,
            Some(values) if values.is_empty() => Want::Present,
            Some(values) => Want::OneOf(values.iter().map(|value| pattern(value)).collect()),
        };
        (Field::parse(name), want)
    });
    Ok(Box::new(Header(compiled.collect())))
}

fn pattern(value: &str) -> Pattern {
    let template = Template::parse(value);
    match template.as_static() {
        Some(text) => Pattern::Static(HeaderPattern::parse(text)),
        None => Pattern::Dynamic(template),
    }
}

impl Matcher for Header {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        let ex = &*ex;
        Ok(self.0.iter().all(|(field, want)| match want {
            Want::Absent => !field.is_present(ex),
            Want::Present => field.is_present(ex),
            Want::OneOf(patterns) => patterns.iter().any(|pattern| {
                let fits = |pattern: &HeaderPattern| {
                    field.any(ex, |value| pattern.matches(value).then_some(())).is_some()
                };
                match pattern {
                    Pattern::Static(pattern) => fits(pattern),
                    Pattern::Dynamic(template) => fits(&HeaderPattern::parse(&template.render(ex))),
                }
            }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{compile, matcher, parse};
    use super::*;

    fn exchange(values: &[&str]) -> Box<Exchange> {
        let mut ex = Exchange::for_test("/?v=ab");
        for value in values {
            ex.request.headers.append("x-token", value.parse().expect("value"));
        }
        ex
    }

    #[test]
    fn compares_values() {
        let cases: [(&str, &[&str], bool); 12] = [
            ("header !X-Token", &[], true),
            ("header !X-Token", &[""], false),
            ("header x-token secret", &["zzz", "secret"], true),
            ("header X-Token secret", &["Secret"], false),
            ("header X-Token pre*", &["prefixed"], true),
            ("header X-Token *post", &["a-post"], true),
            ("header X-Token *mid*", &["xmidx"], true),
            ("header X-Token *", &[""], true),
            ("header X-Token *", &[], false),
            ("header X-Token {http.request.uri.query.v}*", &["abc"], true),
            ("header Host example.*", &[], true),
            ("header X-Token a\nheader X-Token b\nheader Host *", &["b"], true),
        ];
        for (text, values, want) in cases {
            let got = matcher(&MODULE, text).matches(&mut exchange(values)).expect("no error");
            assert_eq!(got, want, "{text} {values:?}");
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(
            parse(&MODULE, "header !Foo\nheader bar foo\nheader Bar b"),
            Ok(json!({"Foo": null, "Bar": ["foo", "b"]}))
        );
        let present = compile(&MODULE, &json!({"X-Token": []})).expect("compiles");
        assert!(present.matches(&mut exchange(&[""])).expect("no error"));
        assert!(!present.matches(&mut exchange(&[])).expect("no error"));
        let error = "malformed header matcher: expected both field and value";
        assert_eq!(parse(&MODULE, "header X"), Err(error.into()));
    }
}
