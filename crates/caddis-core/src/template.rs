//! Strings with placeholders, compiled once.

use std::borrow::Cow;

use smol_str::SmolStr;

use crate::{Exchange, Value, placeholder::Placeholder};

/// A string with `{placeholders}`; a static one costs nothing at run time.
///
/// `\{` and `\}` are literal braces (spec L152). More than 100 unclosed braces are literal.
#[derive(Debug, Clone)]
pub struct Template {
    raw: SmolStr,
    parts: Parts,
}

#[derive(Debug, Clone)]
enum Parts {
    Static(SmolStr),
    Mixed(Box<[Part]>),
}

#[derive(Debug, Clone)]
enum Part {
    Literal(SmolStr),
    /// The placeholder and its text between the braces.
    Placeholder(Placeholder, SmolStr),
}

/// What an unknown placeholder becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing (Go's `ReplaceAll`).
    Empty,
    /// Itself (Go's `ReplaceKnown`).
    Keep,
}

impl Template {
    /// Compiles a string; every string is valid.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '\\']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix('\\') {
                if after.starts_with(['{', '}']) {
                    literal.push_str(&after[..1]);
                    rest = &after[1..];
                } else {
                    literal.push('\\');
                    rest = after;
                }
                continue;
            }
            match rest.strip_prefix('{').and_then(|inner| Some((inner, closing(inner)?))) {
                Some((inner, end)) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                    }
                    let key = &inner[..end];
                    parts.push(Part::Placeholder(Placeholder::parse(key), key.into()));
                    rest = &inner[end + 1..];
                }
                None => {
                    literal.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        let parts = if parts.is_empty() {
            Parts::Static(literal.into())
        } else {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            Parts::Mixed(parts.into())
        };
        Self { raw: text.into(), parts }
    }

    /// The source text.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The text, where no placeholder is in it.
    pub fn as_static(&self) -> Option<&str> {
        match &self.parts {
            Parts::Static(text) => Some(text),
            Parts::Mixed(_) => None,
        }
    }

    /// Unknown placeholders become nothing.
    pub fn render<'a>(&'a self, ex: &'a Exchange) -> Cow<'a, str> {
        self.render_with(ex, Unknown::Empty)
    }

    /// Unknown placeholders stay as they are.
    pub fn render_known<'a>(&'a self, ex: &'a Exchange) -> Cow<'a, str> {
        self.render_with(ex, Unknown::Keep)
    }

    /// The text with each placeholder's value put through `map` (for escaping); the function gets
    /// the placeholder's key and its value.
    pub fn render_map(
        &self,
        ex: &Exchange,
        unknown: Unknown,
        mut map: impl FnMut(&str, Cow<'_, str>, &mut String),
    ) -> String {
        let mut out = String::with_capacity(self.raw.len() + 16);
        match &self.parts {
            Parts::Static(text) => out.push_str(text),
            Parts::Mixed(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => out.push_str(text),
                        Part::Placeholder(placeholder, key) => match placeholder.value(ex) {
                            Some(value) => map(key, value.text(), &mut out),
                            None if unknown == Unknown::Keep => {
                                out.push('{');
                                out.push_str(key);
                                out.push('}');
                            }
                            None => {}
                        },
                    }
                }
            }
        }
        out
    }

    /// The single placeholder's typed value where the string is just one placeholder.
    pub fn single_value<'a>(&'a self, ex: &'a Exchange) -> Option<Value<'a>> {
        match &self.parts {
            Parts::Mixed(parts) => match &**parts {
                [Part::Placeholder(placeholder, _)] => placeholder.value(ex),
                _ => None,
            },
            Parts::Static(_) => None,
        }
    }

    /// The single placeholder's typed value where the string is just one placeholder and that needs
    /// no request.
    pub fn global_value(&self) -> Option<Value<'static>> {
        match &self.parts {
            Parts::Mixed(parts) => match &**parts {
                [Part::Placeholder(placeholder, _)] => placeholder.global_value(),
                _ => None,
            },
            Parts::Static(_) => None,
        }
    }

    /// The keys of all placeholders in it.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let parts: &[Part] = match &self.parts {
            Parts::Static(_) => &[],
            Parts::Mixed(parts) => parts,
        };
        parts.iter().filter_map(|part| match part {
            Part::Placeholder(_, key) => Some(key.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Renders with a rule for unknown placeholders.
    pub fn render_with<'a>(&'a self, ex: &'a Exchange, unknown: Unknown) -> Cow<'a, str> {
        match &self.parts {
            Parts::Static(text) => Cow::Borrowed(text),
            Parts::Mixed(parts) => {
                if let [Part::Placeholder(placeholder, _)] = &**parts
                    && let Some(Value::Str(text)) = placeholder.value(ex)
                {
                    return text;
                }
                Cow::Owned(self.render_map(ex, unknown, |_, value, out| out.push_str(&value)))
            }
        }
    }

    /// Fills in the placeholders that need no request (`env.*`, `system.*`, `time.*`, `file.*`);
    /// others stay (`Keep`) or become nothing (`Empty`).
    pub fn render_global(text: &str, unknown: Unknown) -> String {
        let template = Self::parse(text);
        match &template.parts {
            Parts::Static(text) => text.to_string(),
            Parts::Mixed(parts) => {
                let mut out = String::new();
                for part in parts {
                    match part {
                        Part::Literal(text) => out.push_str(text),
                        Part::Placeholder(placeholder, key) => match placeholder.global_value() {
                            Some(value) => value.write(&mut out),
                            None if unknown == Unknown::Keep => {
                                out.push('{');
                                out.push_str(key);
                                out.push('}');
                            }
                            None => {}
                        },
                    }
                }
                out
            }
        }
    }
}

impl Template {
    /// Fills in the placeholders that need no request, where each must have a value (Go's
    /// `ReplaceOrErr`).
    ///
    /// # Errors
    /// Caddy's sentence on the first placeholder that is unknown or empty.
    pub fn render_global_all(text: &str) -> Result<String, String> {
        let template = Self::parse(text);
        let parts = match &template.parts {
            Parts::Static(text) => return Ok(text.to_string()),
            Parts::Mixed(parts) => parts,
        };
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Placeholder(placeholder, key) => {
                    let before = out.len();
                    let value = placeholder.global_value();
                    let value =
                        value.ok_or_else(|| format!("unrecognized placeholder {{{key}}}"))?;
                    value.write(&mut out);
                    if out.len() == before {
                        return Err(format!("evaluated placeholder {{{key}}} is empty"));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Where the placeholder that starts here ends: at the first brace that is not escaped. An open
/// brace before it means that none starts here.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let end =
        (0..bytes.len()).find(|&at| bytes[at] == b'}' && (at == 0 || bytes[at - 1] != b'\\'))?;
    (!inner[..end].contains('{')).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders() {
        let ex = Exchange::for_test("/a/b.txt?x=1");
        let cases = [
            ("plain", "plain"),
            ("{http.request.uri.path} {nope} \\{x\\}", "/a/b.txt  {x}"),
            ("{http.request.method}", "GET"),
            ("{http.request.uri.query.x}-{http.request.uri.path.file.ext}", "1-.txt"),
            ("{unclosed", "{unclosed"),
            ("{a{http.request.method}}", "{aGET}"),
        ];
        for (text, want) in cases {
            assert_eq!(Template::parse(text).render(&ex), want, "{text}");
        }
        assert_eq!(Template::parse("{nope}").render_known(&ex), "{nope}");
    }

    #[test]
    fn all_or_an_error() {
        let render = |text| Template::render_global_all(text);
        assert_eq!(render("/x/{system.slash}y").as_deref(), Ok("/x//y"));
        assert_eq!(
            render("{http.request.host}").unwrap_err(),
            "unrecognized placeholder {http.request.host}"
        );
        assert_eq!(
            render("/x/{env.CADDIS_UNSET}").unwrap_err(),
            "evaluated placeholder {env.CADDIS_UNSET} is empty"
        );
    }
}
