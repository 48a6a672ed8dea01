//! Handlers as text until the end: ten thousand sites of JSON trees take ten times the memory of what
//! is printed, and each step up would copy them once more.
//!
//! While a frozen run reads directives, a handler's place is taken by a string with a mark that no
//! file can know and a number. [`Frozen::thaw`] puts the texts back.

use caddis_config::json::write;
use caddis_config::{ModuleMap, Route};
use caddis_core::ConfigValue;
use caddis_core::directive::AdaptState;
use serde_json::Value as Json;

use crate::routes;

const NOTE: &str = "freeze";

/// The texts, and what stands for them.
#[derive(Default)]
pub(crate) struct Frozen {
    mark: String,
    /// A text that was written into another one for the last time is empty.
    texts: Vec<(Kind, Box<str>)>,
    /// Room to write a text before its length is known.
    scratch: String,
    /// Whether handlers are left away, so that there is nothing to thaw.
    hollow: bool,
}

/// What a text is of.
#[derive(Clone, Copy)]
enum Kind {
    /// One handler; its mark takes its place.
    Handler,
    /// A route of a server; its mark is the only thing in a route.
    Route,
}

/// Begins to freeze.
pub(crate) fn begin(shared: &mut AdaptState) {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), NOTE);
    shared.note::<Frozen>(NOTE).mark = format!("frozen-{random:016x}-");
}

/// Begins to leave the handlers of sites away.
pub(crate) fn begin_hollow(shared: &mut AdaptState) {
    shared.note::<Frozen>(NOTE).hollow = true;
}

/// Takes the texts out when all is read.
pub(crate) fn finish(shared: &mut AdaptState) -> Option<Frozen> {
    shared.notes.remove(NOTE)?.downcast().ok().map(|frozen| *frozen)
}

/// Whether handlers are frozen.
pub(crate) fn is_on(shared: &AdaptState) -> bool {
    shared.notes.contains_key(NOTE)
}

fn kept(shared: &mut AdaptState) -> Option<&mut Frozen> {
    shared.notes.get_mut(NOTE)?.downcast_mut()
}

/// Freezes the handlers of a route, and the modules of a log.
pub(crate) fn value(shared: &mut AdaptState, value: &mut ConfigValue) {
    let Some(frozen) = kept(shared) else { return };
    if let ConfigValue::AccessLog { log: Some(log), .. } = value
        && !frozen.hollow
    {
        for module in [&mut log.writer, &mut log.encoder, &mut log.core].into_iter().flatten() {
            frozen.freeze(module);
        }
    }
    let routes = match value {
        ConfigValue::Route(route) => std::slice::from_mut(route),
        ConfigValue::Routes(routes) => routes.as_mut_slice(),
        _ => return,
    };
    if frozen.hollow {
        return routes.iter_mut().for_each(|route| route.handle = Vec::new());
    }
    for handler in routes.iter_mut().flat_map(|route| &mut route.handle) {
        frozen.freeze(handler);
    }
}

/// A `subroute` handler of these routes; none where handlers are left away. With `consume` the frozen
/// handlers in them are used for the last time.
pub(crate) fn subroute(shared: &mut AdaptState, routes: &[Route], consume: bool) -> Option<Json> {
    let Some(frozen) = kept(shared) else { return Some(routes::subroute(routes)) };
    if frozen.hollow {
        return None;
    }
    let mut out = std::mem::take(&mut frozen.scratch);
    out.push_str("{\"handler\":\"subroute\"");
    if !routes.is_empty() {
        out.push_str(",\"routes\":");
        let mut each = Separated::new(&mut out, '[');
        for route in routes {
            frozen.push_inner(each.next(), route, consume);
        }
        each.end(']');
    }
    out.push('}');
    Some(frozen.keep(out, Kind::Handler))
}

/// Freezes a route of a server whole, with the handlers in it; `consume` as for [`subroute`].
pub(crate) fn route(shared: &mut AdaptState, route: Route, consume: bool) -> Route {
    let Some(frozen) = kept(shared) else { return route };
    // The fields of these two matchers have an order of their own.
    let odd = |set: &ModuleMap| set.contains_key("file") || set.contains_key("not");
    if frozen.hollow || route.matcher_sets.iter().any(odd) {
        return route;
    }
    let mut out = std::mem::take(&mut frozen.scratch);
    frozen.push_outer(&mut out, &route, consume);
    Route { handle: vec![frozen.keep(out, Kind::Route)], ..Route::default() }
}

/// A list that is written item by item.
struct Separated<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Separated<'a> {
    fn new(out: &'a mut String, open: char) -> Self {
        out.push(open);
        Self { out, first: true }
    }

    fn next(&mut self) -> &mut String {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out
    }

    fn end(self, close: char) {
        self.out.push(close);
    }
}

impl Frozen {
    fn freeze(&mut self, json: &mut Json) {
        let mut out = std::mem::take(&mut self.scratch);
        self.push(&mut out, json, true);
        *json = self.keep(out, Kind::Handler);
    }

    /// Keeps a text and gives what stands for it.
    fn keep(&mut self, mut text: String, kind: Kind) -> Json {
        let number = self.texts.len().to_string();
        self.texts.push((kind, text.as_str().into()));
        text.clear();
        self.scratch = text;
        Json::String([self.mark.as_str(), &number].concat())
    }

    /// Writes JSON with the frozen parts in it.
    fn push(&mut self, out: &mut String, json: &Json, consume: bool) {
        let Self { mark, texts, .. } = self;
        write::push_with(out, json, &mut |out, text| {
            let number = text.strip_prefix(mark.as_str());
            let number = number.and_then(|number| number.parse::<usize>().ok());
            let Some((_, text)) = number.and_then(|number| texts.get_mut(number)) else {
                return false;
            };
            out.push_str(text);
            if consume {
                *text = Box::default();
            }
            true
        });
    }

    /// A route inside of a handler, where all keys are sorted.
    fn push_inner(&mut self, out: &mut String, route: &Route, consume: bool) {
        let mut fields = Separated::new(out, '{');
        if !route.group.is_empty() {
            fields.next().push_str("\"group\":");
            write::push_string(fields.out, &route.group);
        }
        self.push_handle(&mut fields, route, consume);
        push_matchers(&mut fields, route);
        push_terminal(&mut fields, route);
        fields.end('}');
    }

    /// A route of a server, whose fields have Caddy's order.
    fn push_outer(&mut self, out: &mut String, route: &Route, consume: bool) {
        let mut fields = Separated::new(out, '{');
        if !route.group.is_empty() {
            fields.next().push_str("\"group\":");
            write::push_string(fields.out, &route.group);
        }
        push_matchers(&mut fields, route);
        self.push_handle(&mut fields, route, consume);
        push_terminal(&mut fields, route);
        fields.end('}');
    }

    fn push_handle(&mut self, fields: &mut Separated<'_>, route: &Route, consume: bool) {
        if route.handle.is_empty() {
            return;
        }
        fields.next().push_str("\"handle\":");
        let mut list = Separated::new(fields.out, '[');
        for handler in &route.handle {
            self.push(list.next(), handler, consume);
        }
        list.end(']');
    }

    /// A text of JSON with the frozen parts in it.
    pub(crate) fn thaw(&self, text: &str) -> String {
        let whole = text.len() + self.texts.iter().map(|(_, text)| text.len()).sum::<usize>();
        let mut out = String::with_capacity(whole);
        let mut copied = 0;
        for (at, _) in text.match_indices(&self.mark) {
            let number = &text[at + self.mark.len()..];
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            let end = at + self.mark.len() + digits;
            let found = number[..digits].parse().ok().and_then(|at: usize| self.texts.get(at));
            let Some((kind, frozen)) = found else { continue };
            let (open, close) = match kind {
                Kind::Handler => ("\"", "\""),
                Kind::Route => ("{\"handle\":[\"", "\"]}"),
            };
            let before = text.get(copied..at).unwrap_or("");
            out.push_str(before.strip_suffix(open).unwrap_or(before));
            out.push_str(frozen);
            copied = end + if text[end..].starts_with(close) { close.len() } else { 0 };
        }
        out.push_str(text.get(copied..).unwrap_or(""));
        out
    }
}

fn push_matchers(fields: &mut Separated<'_>, route: &Route) {
    if route.matcher_sets.is_empty() {
        return;
    }
    fields.next().push_str("\"match\":");
    let mut list = Separated::new(fields.out, '[');
    for set in &route.matcher_sets {
        write::push_fields(list.next(), set.iter(), &mut |_, _| false);
    }
    list.end(']');
}

fn push_terminal(fields: &mut Separated<'_>, route: &Route) {
    if route.terminal {
        fields.next().push_str("\"terminal\":true");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn routes() -> Vec<Route> {
        let texts = [
            r#"{"handle":[{"a":"\"<x>"},{"b":1}]}"#,
            r#"{"group":"g","match":[{"host":["a"],"path":["/"]},{}],"handle":[{"z":[],"a":1.5}],"terminal":true}"#,
            r#"{"match":[{"file":{"root":"/","try_files":["x"]}}]}"#,
            "{}",
        ];
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    #[test]
    fn frozen_handlers_come_back() {
        let mut shared = AdaptState::default();
        begin(&mut shared);
        let plain = routes::subroute(&routes());
        let mut value = ConfigValue::Routes(routes());
        super::value(&mut shared, &mut value);
        let ConfigValue::Routes(frozen) = value else { unreachable!("it was routes") };
        assert!(frozen[0].handle[1].is_string());
        let kept = subroute(&mut shared, &frozen, false).unwrap();
        let again = subroute(&mut shared, &frozen, true).unwrap();
        let empty = subroute(&mut shared, &[], true).unwrap();
        let all = json!([kept, again, kept, 1, empty]);
        let text = finish(&mut shared).unwrap().thaw(&all.to_string());
        let empty = json!({"handler": "subroute"});
        assert_eq!(text, write::to_string(&json!([plain, plain, plain, 1, empty])).unwrap());
    }

    #[test]
    fn handlers_are_left_away() {
        let mut shared = AdaptState::default();
        begin_hollow(&mut shared);
        let mut value = ConfigValue::Routes(routes());
        super::value(&mut shared, &mut value);
        let ConfigValue::Routes(left) = value else { unreachable!("it was routes") };
        assert!(left.iter().all(|route| route.handle.is_empty()));
        assert_eq!(left[1].matcher_sets.len(), 2);
        assert!(subroute(&mut shared, &left, true).is_none());
        assert_eq!(route(&mut shared, left[1].clone(), true), left[1]);
    }

    #[test]
    fn frozen_routes_come_back() {
        let mut shared = AdaptState::default();
        begin(&mut shared);
        let frozen: Vec<_> =
            routes().into_iter().map(|one| route(&mut shared, one, true)).collect();
        let text = write::to_string(&frozen).unwrap();
        let text = finish(&mut shared).unwrap().thaw(&text);
        assert_eq!(text, write::to_string(&routes()).unwrap());
    }
}
