//! Header operations at run time: add, set, delete and replace fields, in this order.

use std::borrow::Cow;

use bytes::Bytes;
use caddis_config::ConfigError;
use caddis_core::{ByteString, Exchange, Template};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use regex::Regex;

use super::config::HeaderOpsConfig;
use crate::{
    handlers::support::{field_name, field_value},
    regexp,
};

/// Compiled operations on header fields. Static ones cost nothing but the operation itself.
#[derive(Debug, Default)]
pub struct HeaderOps {
    ops: Vec<OpTemplate>,
    /// All operations, where none has a placeholder.
    fixed: Option<Vec<Op>>,
}

#[derive(Debug, Clone)]
enum Op {
    Clear,
    Add(HeaderName, HeaderValue),
    Set(HeaderName, HeaderValue),
    Delete(HeaderName),
    DeletePattern(Pattern),
    /// In one field, or in all.
    Replace(Option<HeaderName>, Search, String),
}

#[derive(Debug, Clone)]
enum Pattern {
    Prefix(String),
    Suffix(String),
    Contains(String),
}

#[derive(Debug, Clone)]
enum Search {
    Text(String),
    Regexp(Regex),
}

#[derive(Debug)]
enum OpTemplate {
    Add(Template, Template),
    Set(Template, Template),
    Delete(Template),
    Replace { field: Template, search: SearchTemplate, replace: Template },
}

#[derive(Debug)]
enum SearchTemplate {
    Text(Template),
    Regexp(Regex),
    /// An expression with placeholders is compiled for each request, as in Caddy.
    RegexpTemplate(Template),
}

/// Operations whose placeholders are filled in.
pub struct Rendered<'a>(Cow<'a, [Op]>);

impl HeaderOps {
    /// Compiles the JSON shape.
    ///
    /// # Errors
    /// A malformed expression, or both kinds of search in one replacement.
    pub fn compile(config: &HeaderOpsConfig) -> Result<Self, ConfigError> {
        let mut ops = Vec::new();
        // A deletion of everything comes first, so that added fields stay.
        ops.extend(config.delete.iter().filter(|name| *name == "*").map(|name| delete(name)));
        for (name, values) in &config.add {
            for value in values {
                ops.push(OpTemplate::Add(Template::parse(name), Template::parse(value)));
            }
        }
        for (name, values) in &config.set {
            let value = Template::parse(&values.join(","));
            ops.push(OpTemplate::Set(Template::parse(name), value));
        }
        ops.extend(config.delete.iter().filter(|name| *name != "*").map(|name| delete(name)));
        for (field, replacements) in &config.replace {
            for (at, replacement) in replacements.iter().enumerate() {
                let search = search(&replacement.search, &replacement.search_regexp)
                    .map_err(|error| {
                        format!("replacement {at} for header field '{field}': {error}")
                    })
                    .map_err(|error| ConfigError::new(format!("replace.{field}.{at}"), error))?;
                ops.push(OpTemplate::Replace {
                    field: Template::parse(field),
                    search,
                    replace: Template::parse(&replacement.replace),
                });
            }
        }
        let fixed = ops
            .iter()
            .all(|op| op.templates().iter().all(|template| template.as_static().is_some()))
            .then(|| {
                let text = |template: &Template| {
                    Cow::Owned(template.as_static().unwrap_or_default().to_owned())
                };
                ops.iter().filter_map(|op| op.fill(text)).collect()
            });
        Ok(Self { ops, fixed })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// All templates, to see what they ask for.
    pub fn templates(&self) -> Vec<&Template> {
        self.ops.iter().flat_map(OpTemplate::templates).collect()
    }

    /// Fills in the placeholders.
    pub fn render(&self, ex: &Exchange) -> Rendered<'_> {
        match &self.fixed {
            Some(ops) => Rendered(Cow::Borrowed(ops)),
            None => {
                let text = |template: &Template| Cow::Owned(template.render_known(ex).into_owned());
                Rendered(Cow::Owned(self.ops.iter().filter_map(|op| op.fill(text)).collect()))
            }
        }
    }

    /// Applies the operations to header fields that are not part of the exchange.
    pub fn apply(&self, headers: &mut HeaderMap, ex: &Exchange) {
        self.render(ex).apply(headers);
    }

    /// Whether an operation may concern this field.
    pub(super) fn may_touch(&self, name: &HeaderName) -> bool {
        match &self.fixed {
            Some(ops) => ops.iter().any(|op| op.touches(name)),
            None => true,
        }
    }
}

fn delete(name: &str) -> OpTemplate {
    OpTemplate::Delete(Template::parse(name))
}

fn search(text: &str, pattern: &str) -> Result<SearchTemplate, String> {
    if pattern.is_empty() {
        return Ok(SearchTemplate::Text(Template::parse(text)));
    }
    if !text.is_empty() {
        return Err("cannot specify both search and search_regexp".to_owned());
    }
    let template = Template::parse(pattern);
    // Repetitions look like placeholders, but `{2}` or `{1,}` name none.
    let is_repetition = |key: &str| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
    };
    if template.keys().all(is_repetition) {
        return regexp::compile(pattern).map(SearchTemplate::Regexp);
    }
    Ok(SearchTemplate::RegexpTemplate(template))
}

impl OpTemplate {
    fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Add(name, value) | Self::Set(name, value) => vec![name, value],
            Self::Delete(name) => vec![name],
            Self::Replace { field, search, replace } => match search {
                SearchTemplate::Text(text) | SearchTemplate::RegexpTemplate(text) => {
                    vec![field, text, replace]
                }
                SearchTemplate::Regexp(_) => vec![field, replace],
            },
        }
    }

    /// The operation with its texts filled in; `None` where a name or expression is none.
    fn fill<'t>(&self, text: impl Fn(&Template) -> Cow<'t, str>) -> Option<Op> {
        Some(match self {
            Self::Add(name, value) => Op::Add(field_name(&text(name))?, field_value(&text(value))),
            Self::Set(name, value) => Op::Set(field_name(&text(name))?, field_value(&text(value))),
            Self::Delete(name) => {
                let name = text(name).to_ascii_lowercase();
                if name == "*" {
                    return Some(Op::Clear);
                }
                match (name.strip_prefix('*'), name.strip_suffix('*')) {
                    (Some(rest), Some(_)) => {
                        let inner = rest.strip_suffix('*').unwrap_or(rest);
                        Op::DeletePattern(Pattern::Contains(inner.to_owned()))
                    }
                    (Some(end), None) => Op::DeletePattern(Pattern::Suffix(end.to_owned())),
                    (None, Some(start)) => Op::DeletePattern(Pattern::Prefix(start.to_owned())),
                    (None, None) => Op::Delete(field_name(&name)?),
                }
            }
            Self::Replace { field, search, replace } => {
                let field = match &*text(field) {
                    "*" => None,
                    name => Some(field_name(name)?),
                };
                let search = match search {
                    SearchTemplate::Text(search) => Search::Text(text(search).into_owned()),
                    SearchTemplate::Regexp(regexp) => Search::Regexp(regexp.clone()),
                    SearchTemplate::RegexpTemplate(pattern) => {
                        Search::Regexp(regexp::compile(&text(pattern)).ok()?)
                    }
                };
                Op::Replace(field, search, text(replace).into_owned())
            }
        })
    }
}

impl Rendered<'_> {
    /// Applies the operations.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for op in &*self.0 {
            op.apply(headers);
        }
    }

    /// Applies the operations to a request, whose `Host` is kept beside its fields.
    pub fn apply_to_request(&self, headers: &mut HeaderMap, host: &mut ByteString) {
        if !self.0.iter().any(|op| op.touches(&header::HOST)) {
            return self.apply(headers);
        }
        headers.insert(header::HOST, field_value(host));
        self.apply(headers);
        let last = headers.get_all(header::HOST).iter().next_back().cloned();
        headers.remove(header::HOST);
        let text = last.map_or_else(Bytes::new, |last| Bytes::copy_from_slice(last.as_bytes()));
        *host = ByteString::try_from(text).unwrap_or_default();
    }
}

impl Op {
    fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Clear => headers.clear(),
            Self::Add(name, value) => {
                // More fields than a map holds are dropped.
                let _ = headers.try_append(name, value.clone());
            }
            Self::Set(name, value) => {
                let _ = headers.try_insert(name, value.clone());
            }
            Self::Delete(name) => {
                headers.remove(name);
            }
            Self::DeletePattern(pattern) => {
                let names: Vec<HeaderName> =
                    headers.keys().filter(|name| pattern.fits(name.as_str())).cloned().collect();
                for name in names {
                    headers.remove(name);
                }
            }
            Self::Replace(Some(name), search, replace) => {
                if let header::Entry::Occupied(mut entry) = headers.entry(name) {
                    for value in entry.iter_mut() {
                        search.replace(value, replace);
                    }
                }
            }
            Self::Replace(None, search, replace) => {
                for value in headers.values_mut() {
                    search.replace(value, replace);
                }
            }
        }
    }

    fn touches(&self, name: &HeaderName) -> bool {
        match self {
            Self::Clear | Self::Replace(None, ..) => true,
            Self::Add(field, _)
            | Self::Set(field, _)
            | Self::Delete(field)
            | Self::Replace(Some(field), ..) => field == name,
            Self::DeletePattern(pattern) => pattern.fits(name.as_str()),
        }
    }
}

impl Pattern {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Prefix(text) => name.starts_with(text.as_str()),
            Self::Suffix(text) => name.ends_with(text.as_str()),
            Self::Contains(text) => name.contains(text.as_str()),
        }
    }
}

impl Search {
    fn replace(&self, value: &mut HeaderValue, replace: &str) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let new = match self {
            Self::Text(search) if search.is_empty() || !text.contains(search.as_str()) => return,
            Self::Text(search) => text.replace(search.as_str(), replace),
            Self::Regexp(regexp) => match regexp.replace_all(&text, replace) {
                Cow::Borrowed(_) => return,
                Cow::Owned(new) => new,
            },
        };
        *value = field_value(&new);
    }
}
