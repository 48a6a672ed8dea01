//! What lints look at: statements as trees, and handlers with their places.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt::{self, Write};

use caddis_caddyfile::{Diagnostic, File, ServerBlock, Span, Token};
use caddis_config::{Route, Server};
use serde_json::Value as Json;

use crate::origins::Place;
use crate::{Adapted, address::Address};

/// Blocks that hold directives.
const NESTS: &[&str] =
    &["handle", "handle_path", "handle_errors", "route", "handle_response", "replace_status"];

/// A line and the block that it opens.
pub(super) struct Statement<'a> {
    /// Its words; at least one.
    pub(super) words: &'a [Token],
    /// The lines in its block.
    pub(super) body: Vec<Self>,
}

impl<'a> Statement<'a> {
    /// The first word.
    pub(super) fn name(&self) -> &'a str {
        &self.words[0].text
    }

    /// The first word as a token.
    pub(super) fn token(&self) -> &'a Token {
        &self.words[0]
    }

    /// A word, if there is one so far back.
    pub(super) fn word(&self, at: usize) -> Option<&'a str> {
        self.words.get(at).map(|token| token.text.as_str())
    }

    /// The matcher after the name of a directive.
    pub(super) fn matcher(&self) -> Option<&'a Token> {
        self.words.get(1).filter(|word| word.text == "*" || word.text.starts_with(['/', '@']))
    }

    /// The first line of the block with this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.body.iter().find(|child| child.name() == name)
    }

    /// Whether this line or one inside holds a word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.words.iter().any(|token| token.text == word)
            || self.body.iter().any(|child| child.mentions(word))
    }
}

/// Parts tokens into lines and their blocks.
pub(super) fn statements(tokens: &[Token]) -> Vec<Statement<'_>> {
    let mut at = 0;
    parse(tokens, &mut at)
}

fn parse<'a>(tokens: &'a [Token], at: &mut usize) -> Vec<Statement<'a>> {
    let mut list = Vec::new();
    while let Some(first) = tokens.get(*at) {
        if first.is_close_brace() {
            return list;
        }
        let start = *at;
        loop {
            let ends = tokens.get(*at + 1).is_none_or(|next| tokens[*at].next_is_on_new_line(next));
            *at += 1;
            if ends {
                break;
            }
        }
        let opens = tokens[*at - 1].is_open_brace();
        let words = &tokens[start..*at - usize::from(opens)];
        let mut body = Vec::new();
        if opens {
            body = parse(tokens, at);
            *at += 1;
        }
        if !words.is_empty() {
            list.push(Statement { words, body });
        }
    }
    list
}

/// A site or a named route.
pub(super) struct Site<'a> {
    pub(super) block: &'a ServerBlock,
    /// Its directives.
    pub(super) body: Vec<Statement<'a>>,
}

impl Site<'_> {
    /// Its addresses; those that cannot be read are left out.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.block.key_texts().filter_map(|key| Address::parse(key).ok()).collect()
    }
}

/// A handler of the configuration.
pub(super) struct HandlerAt<'a> {
    pub(super) server_name: &'a str,
    pub(super) server: &'a Server,
    pub(super) name: &'a str,
    pub(super) json: &'a Json,
    pub(super) place: Option<&'a Place>,
}

/// Statements as written: of a whole file, or of some of its blocks.
pub(super) struct Text<'a> {
    pub(super) file: &'a File,
    /// What the adapter found odd in the file.
    pub(super) warnings: &'a [Diagnostic],
    /// The global options.
    pub(super) options: Vec<Statement<'a>>,
    /// Sites and named routes.
    pub(super) sites: Vec<Site<'a>>,
}

impl<'a> Text<'a> {
    pub(super) fn new(
        file: &'a File,
        warnings: &'a [Diagnostic],
        blocks: impl Iterator<Item = &'a ServerBlock>,
    ) -> Self {
        let (mut options, mut sites) = (Vec::new(), Vec::new());
        for (at, block) in blocks.enumerate() {
            let body: Vec<_> =
                block.segments.iter().flat_map(|segment| statements(&segment.0)).collect();
            if at == 0 && block.keys.is_empty() {
                options = body;
            } else {
                sites.push(Site { block, body });
            }
        }
        Self { file, warnings, options, sites }
    }

    /// A global option.
    pub(super) fn option(&self, name: &str) -> Option<&Statement<'a>> {
        self.options.iter().find(|option| option.name() == name)
    }

    /// The sites without the named routes.
    pub(super) fn real_sites(&self) -> impl Iterator<Item = &Site<'a>> {
        self.sites.iter().filter(|site| !site.block.is_named_route)
    }

    /// Calls `see` with each statement of sites and named routes, and those around it.
    pub(super) fn each(&self, see: &mut dyn FnMut(&Statement<'a>, &[&Statement<'a>])) {
        for site in &self.sites {
            walk(&site.body, &mut Vec::new(), see);
        }
    }

    /// Calls `see` with each statement that is a directive.
    pub(super) fn each_directive(&self, see: &mut dyn FnMut(&Statement<'a>)) {
        let nested = |parent: &&Statement<'_>| NESTS.contains(&parent.name());
        for site in &self.sites {
            // The block of a named route stands under its name, which is its first line.
            let route = site.body.first().filter(|_| site.block.is_named_route);
            walk(&site.body, &mut Vec::new(), &mut |statement, parents| {
                let rest = match (parents.first(), route) {
                    (Some(first), Some(route)) if std::ptr::eq(*first, route) => &parents[1..],
                    _ => parents,
                };
                if rest.iter().all(nested) && !statement.name().starts_with('@') {
                    see(statement);
                }
            });
        }
    }
}

/// Some sites of a file with the named routes, and the configuration that they make.
pub(super) struct Subject<'a> {
    pub(super) text: Text<'a>,
    pub(super) adapted: &'a Adapted,
    /// The first site in which a statement begins at a place; made at the first question.
    site_of: OnceCell<HashMap<Span, usize>>,
    /// All handlers, found at the first question.
    handlers: OnceCell<Vec<HandlerAt<'a>>>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(text: Text<'a>, adapted: &'a Adapted) -> Self {
        Self { text, adapted, site_of: OnceCell::new(), handlers: OnceCell::new() }
    }

    /// The statement that begins at a place.
    pub(super) fn statement(&self, span: Span, see: &mut dyn FnMut(&Statement<'a>)) {
        let site = self.site_of.get_or_init(|| {
            let mut site_of = HashMap::new();
            for (at, site) in self.text.sites.iter().enumerate() {
                // What a snippet brings into many sites has the place of the first.
                walk(&site.body, &mut Vec::new(), &mut |statement, _| {
                    site_of.entry(statement.token().span).or_insert(at);
                });
            }
            site_of
        });
        let Some(site) = site.get(&span).and_then(|at| self.text.sites.get(*at)) else { return };
        let mut found = false;
        walk(&site.body, &mut Vec::new(), &mut |statement, _| {
            if !found && statement.token().span == span {
                found = true;
                see(statement);
            }
        });
    }

    /// The word after a name in the block of the directive at a place, for a label; else the
    /// directive's own name.
    pub(super) fn token_in(&self, place: &Place, name: &str) -> Token {
        let mut token = place.token.clone();
        self.statement(place.token.span, &mut |statement| {
            if let Some(child) = statement.child(name) {
                token = child.token().clone();
            }
        });
        token
    }

    /// All handlers, those inside others too, in the order of their paths.
    pub(super) fn handlers(&self) -> &[HandlerAt<'a>] {
        self.handlers.get_or_init(|| {
            let mut found = Vec::new();
            let Some(http) = &self.adapted.config.apps.http else { return found };
            for (name, server) in &http.servers {
                let mut path = format!("apps.http.servers.{name}");
                let mut look = Look { server_name: name, server, adapted: self.adapted };
                let errors = server.errors.iter().flat_map(|errors| &errors.routes).enumerate();
                for (at, route) in server.routes.iter().enumerate() {
                    within(&mut path, format_args!("routes.{at}"), |path| {
                        look.route(route, path, &mut found);
                    });
                }
                for (at, route) in errors {
                    within(&mut path, format_args!("errors.routes.{at}"), |path| {
                        look.route(route, path, &mut found);
                    });
                }
                for (name, route) in &server.named_routes {
                    within(&mut path, format_args!("named_routes.{name}"), |path| {
                        look.route(route, path, &mut found);
                    });
                }
            }
            found
        })
    }
}

/// Where handlers are looked for.
struct Look<'a> {
    server_name: &'a str,
    server: &'a Server,
    adapted: &'a Adapted,
}

impl<'a> Look<'a> {
    fn route(&mut self, route: &'a Route, path: &mut String, found: &mut Vec<HandlerAt<'a>>) {
        for (at, json) in route.handle.iter().enumerate() {
            within(path, format_args!("handle.{at}"), |path| self.json(json, path, found));
        }
    }

    fn json(&mut self, json: &'a Json, path: &mut String, found: &mut Vec<HandlerAt<'a>>) {
        match json {
            Json::Object(object) => {
                if let Some(name) = object.get("handler").and_then(Json::as_str) {
                    let place = self.adapted.origins.directive(path);
                    let (server_name, server) = (self.server_name, self.server);
                    found.push(HandlerAt { server_name, server, name, json, place });
                }
                for (key, value) in object {
                    if value.is_object() || value.is_array() {
                        within(path, format_args!("{key}"), |path| self.json(value, path, found));
                    }
                }
            }
            Json::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    if item.is_object() || item.is_array() {
                        within(path, format_args!("{at}"), |path| self.json(item, path, found));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Calls `then` with the path that has one more part, and takes the part away again.
pub(crate) fn within(path: &mut String, part: fmt::Arguments<'_>, then: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('.');
    // Writing into a text does not fail.
    let _ = path.write_fmt(part);
    then(path);
    path.truncate(length);
}

fn walk<'s, 'a>(
    list: &'s [Statement<'a>],
    parents: &mut Vec<&'s Statement<'a>>,
    see: &mut dyn FnMut(&Statement<'a>, &[&Statement<'a>]),
) {
    for statement in list {
        see(statement, parents);
        parents.push(statement);
        walk(&statement.body, parents, see);
        parents.pop();
    }
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::tokenize;

    use super::statements;

    #[test]
    fn lines_and_blocks() {
        let tokens = tokenize("F", "a b {\n\tc\n\td e {\n\t}\n\tf\n}\ng h").unwrap();
        let list = statements(&tokens);
        assert_eq!((list.len(), list[0].name(), list[1].name()), (2, "a", "g"));
        let inner: Vec<_> = list[0].body.iter().map(|one| one.words.len()).collect();
        assert_eq!(inner, [1, 2, 1]);
        assert!(list[0].mentions("e") && list[0].child("f").is_some());
    }
}
