//! Named routes: `&(name) { … }`, run by `invoke name`.

use std::collections::BTreeMap;

use caddis_caddyfile::{
    Diagnostic, Dispenser, Result as ParseResult, Segment, ServerBlock, Token, nearest,
};
use caddis_config::Route;
use caddis_core::directive::AdaptState;
use caddis_core::{Helper, Registry};

use crate::options::Options;
use crate::{block, recover, routes, trace};

/// The named routes of a file.
#[derive(Debug, Default)]
pub(crate) struct NamedRoutes {
    routes: BTreeMap<String, Route>,
    /// Names that a route invokes itself.
    invokes: BTreeMap<String, Vec<Token>>,
}

impl NamedRoutes {
    /// The routes that a server needs for the names that its sites invoke. Names that were not
    /// defined are mistakes.
    pub(crate) fn needed<'a>(
        &'a self,
        names: impl IntoIterator<Item = &'a Token>,
        errors: &mut Vec<Diagnostic>,
    ) -> BTreeMap<String, Route> {
        let mut needed = BTreeMap::new();
        let mut open: Vec<&Token> = names.into_iter().collect();
        open.reverse();
        while let Some(token) = open.pop() {
            let name = token.text.as_str();
            if needed.contains_key(name) {
                continue;
            }
            let Some(route) = self.routes.get(name) else {
                errors.push(self.unknown(token));
                continue;
            };
            needed.insert(name.to_owned(), route.clone());
            open.extend(self.invokes.get(name).into_iter().flatten());
        }
        needed
    }

    fn unknown(&self, token: &Token) -> Diagnostic {
        let name = &token.text;
        let message = format!("cannot invoke named route '{name}', which was not defined");
        let error = Diagnostic::error(message)
            .code("adapter::unknown_route")
            .labelled(token, "no such named route");
        match nearest(name, self.routes.keys().map(String::as_str)) {
            Some(near) => error.meant(near),
            None => error.help(format!("define it at the top of the file: `&({name}) {{ … }}`")),
        }
    }
}

/// Parses the blocks that are named routes. Their groups are numbered apart from those of sites.
///
/// # Errors
/// All blocks with a mistake.
pub(crate) fn extract(
    blocks: &[ServerBlock],
    registry: &Registry,
    options: &Options,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> NamedRoutes {
    let mut named = NamedRoutes::default();
    let (groups, mut notes) = (shared.next_group, std::mem::take(&mut shared.notes));
    trace::carry(&mut notes, &mut shared.notes);
    shared.next_group = 0;
    for block in blocks {
        let Some(key) = block.keys.first() else { continue };
        match parse(block, registry, options, shared) {
            Ok(None) => {}
            Ok(Some(_)) if named.routes.contains_key(key.text.as_str()) => {
                let message = format!("cannot have duplicate named_routes: {}", key.text);
                errors.push(Diagnostic::error(message).labelled(key, "defined again here"));
            }
            Ok(Some(route)) => {
                named.routes.insert(key.text.to_string(), route);
                named.invokes.insert(key.text.to_string(), std::mem::take(&mut shared.invoked));
            }
            Err(error) => {
                let whole = whole(block);
                let warnings = shared.warnings.len();
                errors.extend(recover::all(&whole, error, registry, |rest| {
                    let next = parse_tokens(rest.0.clone(), block, registry, options, shared).err();
                    shared.warnings.truncate(warnings);
                    next
                }));
                // Its uses are no further mistakes.
                named.routes.entry(key.text.to_string()).or_default();
            }
        }
        shared.invoked.clear();
    }
    shared.next_group = groups;
    trace::carry(&mut shared.notes, &mut notes);
    shared.notes = notes;
    named
}

fn parse(
    block: &ServerBlock,
    registry: &Registry,
    options: &Options,
    shared: &mut AdaptState,
) -> ParseResult<Option<Route>> {
    if block.segments.is_empty() {
        return Ok(None);
    }
    parse_tokens(whole(block).0, block, registry, options, shared).map(Some)
}

fn whole(block: &ServerBlock) -> Segment {
    Segment(block.segments.iter().flat_map(|segment| segment.0.iter().cloned()).collect())
}

fn parse_tokens(
    tokens: Vec<Token>,
    block: &ServerBlock,
    registry: &Registry,
    options: &Options,
    shared: &mut AdaptState,
) -> ParseResult<Route> {
    let keys: Vec<String> = block.key_texts().map(str::to_owned).collect();
    let mut h = Helper {
        d: Dispenser::new(tokens),
        registry,
        matchers: Default::default(),
        options: &options.values,
        shared,
        keys: &keys,
    };
    let routes = block::parse_routes(&mut h)?;
    let handle = match routes.as_slice() {
        // The first handler alone, as Caddy has it.
        [only] if only.matcher_sets.is_empty() => only.handle.iter().take(1).cloned().collect(),
        _ => vec![routes::subroute(&routes)],
    };
    Ok(Route { handle, ..Route::default() })
}
