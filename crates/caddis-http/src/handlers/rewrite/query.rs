//! Operations on the query's parameters. Afterwards the query is written anew, sorted by key.

use std::collections::BTreeMap;

use caddis_config::ConfigError;
use caddis_core::{
    Exchange, Target, Template,
    target::{encode_query, query_pairs},
};
use regex::Regex;

use super::{QueryArgument, QueryOps};
use crate::regexp;

#[derive(Debug)]
pub(super) struct Query {
    rename: Vec<Pair>,
    set: Vec<Pair>,
    add: Vec<Pair>,
    replace: Vec<Replace>,
    delete: Vec<Template>,
}

#[derive(Debug)]
struct Pair {
    key: Template,
    val: Template,
}

#[derive(Debug)]
struct Replace {
    key: Template,
    search: Template,
    regexp: Option<Regex>,
    replace: Template,
}

fn pairs(arguments: &[QueryArgument]) -> Vec<Pair> {
    arguments
        .iter()
        .map(|one| Pair { key: Template::parse(&one.key), val: Template::parse(&one.val) })
        .collect()
}

impl Query {
    pub(super) fn compile(ops: &QueryOps) -> Result<Self, ConfigError> {
        let mut replace = Vec::with_capacity(ops.replace.len());
        for (at, op) in ops.replace.iter().enumerate() {
            let regexp = (!op.search_regexp.is_empty())
                .then(|| regexp::compile(&op.search_regexp))
                .transpose()
                .map_err(|error| {
                    let message = format!(
                        "compiling regular expression {} in query rewrite replace operation: \
                         replacement for query field '{}': {error}",
                        op.search_regexp, op.key
                    );
                    ConfigError::new(format!("query.replace.{at}"), message)
                })?;
            replace.push(Replace {
                key: Template::parse(&op.key),
                search: Template::parse(&op.search),
                regexp,
                replace: Template::parse(&op.replace),
            });
        }
        Ok(Self {
            rename: pairs(&ops.rename),
            set: pairs(&ops.set),
            add: pairs(&ops.add),
            replace,
            delete: ops.delete.iter().map(|key| Template::parse(key)).collect(),
        })
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        let pairs = self.rename.iter().chain(&self.set).chain(&self.add);
        let mut all: Vec<_> = pairs.flat_map(|pair| [&pair.key, &pair.val]).collect();
        all.extend(self.replace.iter().flat_map(|op| [&op.key, &op.search, &op.replace]));
        all.extend(&self.delete);
        all
    }

    pub(super) fn apply(&self, target: &mut Target, ex: &Exchange) {
        let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in query_pairs(target.query().unwrap_or("")) {
            query.entry(key).or_default().push(value);
        }
        for pair in &self.rename {
            let (old, new) = (pair.key.render(ex), pair.val.render(ex));
            if old.is_empty() || new.is_empty() {
                continue;
            }
            if let Some(values) = query.remove(&*old) {
                query.insert(new.into_owned(), values);
            }
        }
        for pair in &self.set {
            let key = pair.key.render(ex).into_owned();
            if !key.is_empty() {
                query.insert(key, vec![pair.val.render(ex).into_owned()]);
            }
        }
        for pair in &self.add {
            let key = pair.key.render(ex).into_owned();
            if !key.is_empty() {
                query.entry(key).or_default().push(pair.val.render(ex).into_owned());
            }
        }
        for op in &self.replace {
            op.apply(&mut query, ex);
        }
        for key in &self.delete {
            query.remove(&*key.render(ex));
        }
        let encoded = encode(&query);
        target.set_query((!encoded.is_empty()).then_some(encoded.as_str()));
    }
}

impl Replace {
    /// Replaces in the values of all parameters: Caddy 2.10 does not look at the key.
    fn apply(&self, query: &mut BTreeMap<String, Vec<String>>, ex: &Exchange) {
        let search = self.search.render_known(ex);
        let replace = self.replace.render_known(ex);
        for value in query.values_mut().flatten() {
            match &self.regexp {
                Some(regexp) => *value = regexp.replace_all(value, &*replace).into_owned(),
                None if search.is_empty() => {}
                None => *value = value.replace(&*search, &replace),
            }
        }
    }
}

fn encode(query: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = String::new();
    for (key, values) in query {
        let key = encode_query(key);
        for value in values {
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(&key);
            out.push('=');
            out.push_str(&encode_query(value));
        }
    }
    out
}
