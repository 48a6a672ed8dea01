//! Where handlers come from: a mark goes into each handler object while directives are read, and is
//! taken out again, with its JSON path, when the servers are complete.

use std::any::Any;
use std::collections::BTreeMap;

use caddis_caddyfile::Token;
use caddis_config::{Route, Server};
use caddis_core::directive::AdaptState;
use caddis_core::{ConfigValue, Helper};
use serde_json::Value as Json;

use crate::lints::within;
use crate::origins::{Origins, Place};

/// The key of a mark; no Caddyfile can hold it.
const MARK: &str = "\u{0}place";
const NOTE: &str = "trace";

type Notes = BTreeMap<&'static str, Box<dyn Any>>;

/// What is kept while a file is read.
#[derive(Default)]
struct Trace {
    places: Vec<Place>,
    definitions: Vec<Token>,
}

/// Begins to keep places.
pub(crate) fn begin(shared: &mut AdaptState) {
    shared.note::<Trace>(NOTE);
}

fn kept(shared: &mut AdaptState) -> Option<&mut Trace> {
    shared.notes.get_mut(NOTE)?.downcast_mut()
}

/// Takes what is kept from one set of notes to another.
pub(crate) fn carry(from: &mut Notes, to: &mut Notes) {
    if let Some(trace) = from.remove(NOTE) {
        to.insert(NOTE, trace);
    }
}

/// Notes the definition of a named matcher.
pub(crate) fn defined(shared: &mut AdaptState, name: Option<&Token>) {
    if let (Some(trace), Some(name)) = (kept(shared), name) {
        trace.definitions.push(name.clone());
    }
}

/// How many definitions there are; [`forget`] goes back to so many when their block ends.
pub(crate) fn definitions(shared: &mut AdaptState) -> usize {
    kept(shared).map_or(0, |trace| trace.definitions.len())
}

/// Forgets the definitions after the first so many.
pub(crate) fn forget(shared: &mut AdaptState, count: usize) {
    if let Some(trace) = kept(shared) {
        trace.definitions.truncate(count);
    }
}

/// The place of the directive that is about to be read.
pub(crate) fn place(h: &mut Helper<'_>) -> Option<Place> {
    let trace = kept(h.shared)?;
    let tokens = h.d.tokens();
    let directive = tokens.first()?.clone();
    let is_matcher = |token: &&Token| {
        !directive.next_is_on_new_line(token)
            && (token.text == "*" || token.text.starts_with(['/', '@']))
    };
    let matcher = tokens.get(1).filter(is_matcher).cloned();
    let definition = matcher.as_ref().and_then(|matcher| {
        trace.definitions.iter().rev().find(|name| name.text == matcher.text).cloned()
    });
    Some(Place { token: directive, matcher, definition })
}

/// Marks the handlers of values that have no mark yet.
pub(crate) fn mark(shared: &mut AdaptState, place: Option<Place>, values: &mut [ConfigValue]) {
    let (Some(trace), Some(place)) = (kept(shared), place) else { return };
    let number = Json::from(trace.places.len());
    trace.places.push(place);
    for value in values {
        match value {
            ConfigValue::Route(route) | ConfigValue::ErrorRoute(route) => {
                mark_route(route, &number);
            }
            ConfigValue::Routes(routes) => {
                routes.iter_mut().for_each(|route| mark_route(route, &number));
            }
            _ => {}
        }
    }
}

fn mark_route(route: &mut Route, number: &Json) {
    for handler in route.handle.iter_mut().filter_map(Json::as_object_mut) {
        handler.entry(MARK).or_insert_with(|| number.clone());
    }
}

/// Takes the marks out of the servers, and puts the places into `origins`.
pub(crate) fn collect(
    shared: &mut AdaptState,
    servers: &mut BTreeMap<String, Server>,
    origins: &mut Origins,
) {
    let Some(trace) = kept(shared) else { return };
    let mut walk = Walk { places: std::mem::take(&mut trace.places), origins };
    for (name, server) in servers {
        let base = format!("apps.http.servers.{name}");
        walk.routes(&mut server.routes, &mut format!("{base}.routes"));
        if let Some(errors) = &mut server.errors {
            walk.routes(&mut errors.routes, &mut format!("{base}.errors.routes"));
        }
        for (name, route) in &mut server.named_routes {
            walk.route(route, &mut format!("{base}.named_routes.{name}"));
        }
    }
}

struct Walk<'a> {
    places: Vec<Place>,
    origins: &'a mut Origins,
}

impl Walk<'_> {
    fn routes(&mut self, routes: &mut [Route], path: &mut String) {
        for (at, route) in routes.iter_mut().enumerate() {
            within(path, format_args!("{at}"), |path| self.route(route, path));
        }
    }

    fn route(&mut self, route: &mut Route, path: &mut String) {
        for (at, handler) in route.handle.iter_mut().enumerate() {
            within(path, format_args!("handle.{at}"), |path| self.json(handler, path));
        }
    }

    fn json(&mut self, json: &mut Json, path: &mut String) {
        match json {
            Json::Object(object) => {
                let number = object.remove(MARK).and_then(|mark| mark.as_u64());
                if let Some(place) = number.and_then(|at| self.places.get(at as usize)) {
                    if let Some(route) = path.strip_suffix(".handle.0") {
                        self.origins.add_place(route.to_owned(), place.clone());
                    }
                    self.origins.add_place(path.clone(), place.clone());
                }
                for (key, value) in object {
                    if value.is_object() || value.is_array() {
                        within(path, format_args!("{key}"), |path| self.json(value, path));
                    }
                }
            }
            Json::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    if item.is_object() || item.is_array() {
                        within(path, format_args!("{at}"), |path| self.json(item, path));
                    }
                }
            }
            _ => {}
        }
    }
}
