//! Values to routes: sorted by directive and matcher, grouped where they exclude each other, and
//! joined where they say the same.

use caddis_caddyfile::{Diagnostic, Result as ParseResult, Span};
use caddis_config::{Route, module_object};
use caddis_core::directive::AdaptState;
use caddis_core::{ConfigValue, Registry};
use serde_json::{Value as Json, json};

use crate::block::Yielded;
use crate::go_sort::sort_stable_by;

/// Directives of which only the first that matches runs; several get one group. `rewrite` always
/// takes a group, so that it is never joined with its neighbours.
const EXCLUSIVE: [&str; 3] = ["handle", "rewrite", "root"];

/// A `subroute` handler.
pub(crate) fn subroute(routes: &[Route]) -> Json {
    let payload = if routes.is_empty() { json!({}) } else { json!({ "routes": routes }) };
    module_object(payload, "handler", "subroute")
}

/// Routes of an ordered block.
///
/// # Errors
/// A directive that has no place in the order.
pub(crate) fn build_sorted(
    mut values: Vec<Yielded>,
    registry: &Registry,
    shared: &mut AdaptState,
) -> ParseResult<Vec<Route>> {
    sort(&mut values, registry, shared)?;
    Ok(build(values, shared))
}

/// [`build_sorted`] with the place of the directive that each route is from.
///
/// # Errors
/// A directive that has no place in the order.
pub(crate) fn build_placed(
    mut values: Vec<Yielded>,
    registry: &Registry,
    shared: &mut AdaptState,
) -> ParseResult<Vec<(Route, Span)>> {
    sort(&mut values, registry, shared)?;
    Ok(build_in_order(values, shared))
}

/// Brings values into the order of their directives.
///
/// # Errors
/// A directive that has no place in the order.
pub(crate) fn sort(
    values: &mut Vec<Yielded>,
    registry: &Registry,
    shared: &AdaptState,
) -> ParseResult<()> {
    let mut keyed = Vec::with_capacity(values.len());
    let mut places = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let Some(position) = position_of(&value.directive, registry, shared) else {
            return Err(unordered(value));
        };
        keyed.push(SortKey::of(position, value));
        places.push(at);
    }
    sort_stable_by(&mut places, |a, b| keyed[*a].less(&keyed[*b]));
    let mut taken: Vec<Option<Yielded>> = values.drain(..).map(Some).collect();
    values.extend(places.into_iter().filter_map(|at| taken[at].take()));
    Ok(())
}

/// Takes out the values of directives that have no place in the order, each of them a mistake.
pub(crate) fn take_unordered(
    values: &mut Vec<Yielded>,
    registry: &Registry,
    shared: &AdaptState,
) -> Vec<Diagnostic> {
    let has_place = |value: &Yielded| position_of(&value.directive, registry, shared).is_some();
    let mistakes = values.iter().filter(|value| !has_place(value)).map(unordered).collect();
    values.retain(has_place);
    mistakes
}

fn position_of(directive: &str, registry: &Registry, shared: &AdaptState) -> Option<usize> {
    match shared.order.as_slice() {
        [] => default_order(registry).position(|name| name == directive),
        order => order.iter().position(|name| name == directive),
    }
}

fn unordered(value: &Yielded) -> Diagnostic {
    let message = format!(
        "directive '{}' is not an ordered HTTP handler, so it cannot be used here - try placing within a route block or using the order global option",
        value.directive
    );
    let mut error = Diagnostic::error(message).code("adapter::unordered");
    error.imports.clone_from(&value.imports);
    error.label(value.at, "has no place in the order")
}

/// Names of directives in the order that holds now.
pub(crate) fn order<'a>(registry: &Registry, shared: &'a AdaptState) -> Vec<&'a str> {
    if shared.order.is_empty() {
        return default_order(registry).collect();
    }
    shared.order.iter().map(String::as_str).collect()
}

/// Names of directives in the default order.
pub(crate) fn default_order(registry: &Registry) -> impl Iterator<Item = &'static str> {
    registry.directives.iter().filter(|directive| directive.ordered).map(|directive| directive.name)
}

/// What the place of a value depends on.
#[derive(Debug, Clone)]
struct SortKey {
    position: usize,
    reversed: bool,
    /// Only single routes are compared further.
    route: bool,
    /// The path, if the route has one set of matchers with one path in it.
    path: Option<String>,
    has_matchers: bool,
}

impl SortKey {
    fn of(position: usize, value: &Yielded) -> Self {
        let reversed = value.directive == "vars";
        let ConfigValue::Route(route) = &value.value else {
            return Self { position, reversed, route: false, path: None, has_matchers: false };
        };
        let path = match route.matcher_sets.as_slice() {
            [set] => set.get("path").and_then(single_path),
            _ => None,
        };
        let has_matchers = !route.matcher_sets.is_empty();
        Self { position, reversed, route: true, path, has_matchers }
    }

    fn less(&self, other: &Self) -> bool {
        if self.position != other.position {
            return self.position < other.position;
        }
        if !self.route || !other.route {
            return false;
        }
        // The last assignment wins, so the least specific one goes first.
        self.more_specific(other) != self.reversed
    }

    fn more_specific(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (&self.path, &other.path) else {
            return self.has_matchers && !other.has_matchers;
        };
        let [bare_a, bare_b] = [a, b].map(|path| path.strip_suffix('*').unwrap_or(path));
        if bare_a == bare_b {
            return a.len() < b.len();
        }
        if bare_a.len() == bare_b.len() {
            return bare_a < bare_b;
        }
        bare_a.len() > bare_b.len()
    }
}

fn single_path(paths: &Json) -> Option<String> {
    match paths.as_array()?.as_slice() {
        [Json::String(path)] if !path.is_empty() => Some(path.clone()),
        _ => None,
    }
}

/// Routes of values in the order in which they are, with groups, joined where possible.
pub(crate) fn build(values: Vec<Yielded>, shared: &mut AdaptState) -> Vec<Route> {
    build_in_order(values, shared).into_iter().map(|(route, _)| route).collect()
}

fn build_in_order(values: Vec<Yielded>, shared: &mut AdaptState) -> Vec<(Route, Span)> {
    let groups = EXCLUSIVE.map(|directive| {
        let count = values.iter().filter(|value| value.directive == directive).count();
        (count > 1 || directive == "rewrite").then(|| shared.group_name())
    });
    let mut routes = Vec::new();
    for value in values {
        let at = value.at;
        let exclusive = EXCLUSIVE.iter().position(|directive| *directive == value.directive);
        match value.value {
            ConfigValue::Route(mut route) => {
                if let Some(group) = exclusive {
                    route.group = groups[group].clone().unwrap_or_default();
                }
                routes.push((route, at));
            }
            ConfigValue::Routes(together) => {
                routes.extend(together.into_iter().map(|one| (one, at)));
            }
            _ => {}
        }
    }
    consolidate(routes)
}

/// Joins neighbours with equal matchers, group and terminal flag; the place is that of the first.
pub(crate) fn consolidate<P>(routes: Vec<(Route, P)>) -> Vec<(Route, P)> {
    let mut joined: Vec<(Route, P)> = Vec::with_capacity(routes.len());
    for (route, place) in routes {
        let left = join(joined.last_mut(), route, place);
        joined.extend(left);
    }
    joined
}

/// Joins a route with the one before it; gives it back where the two say different things.
pub(crate) fn join<P>(
    before: Option<&mut (Route, P)>,
    route: Route,
    place: P,
) -> Option<(Route, P)> {
    match before {
        Some((last, _))
            if last.matcher_sets == route.matcher_sets
                && last.terminal == route.terminal
                && last.group == route.group =>
        {
            last.handle.extend(route.handle);
            None
        }
        _ => Some((route, place)),
    }
}
