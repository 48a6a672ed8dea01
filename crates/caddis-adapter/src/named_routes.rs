//! Named routes: `&(name) { … }`, run by `invoke name`.

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, ServerBlock};
use caddis_config::Route;
use caddis_core::directive::AdaptState;
use caddis_core::{Helper, Registry};

use crate::options::Options;
use crate::{block, hints, routes, trace};

/// The named routes of a file.
#[derive(Debug, Default)]
pub(crate) struct NamedRoutes {
    routes: BTreeMap<String, Route>,
    /// Names that a route invokes itself.
    invokes: BTreeMap<String, Vec<String>>,
}

impl NamedRoutes {
    /// The routes that a server needs for the names that its sites invoke.
    ///
    /// # Errors
    /// A name that was not defined.
    pub(crate) fn needed<'a>(
        &'a self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Route>, Diagnostic> {
        let mut needed = BTreeMap::new();
        let mut open: Vec<&String> = names.into_iter().collect();
        open.reverse();
        while let Some(name) = open.pop() {
            if needed.contains_key(name) {
                continue;
            }
            let Some(route) = self.routes.get(name) else {
                let message = format!("cannot invoke named route '{name}', which was not defined");
                return Err(Diagnostic::error(message).code("adapter::unknown_route"));
            };
            needed.insert(name.clone(), route.clone());
            open.extend(self.invokes.get(name).into_iter().flatten());
        }
        Ok(needed)
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
                let segment = block.segments.first();
                errors.push(hints::improve(error, segment, registry));
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
    let tokens = block.segments.iter().flat_map(|segment| segment.0.iter().cloned()).collect();
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
    Ok(Some(Route { handle, ..Route::default() }))
}
