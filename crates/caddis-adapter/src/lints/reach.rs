//! `unreachable-route` and `shadowed-route`: handlers that never get a request.

use caddis_config::{ModuleMap, Route};
use serde_json::{Map, Value as Json};

use super::subject::{Subject, within};
use super::{Findings, Lint, Run};
use crate::origins::Place;

pub(super) static UNREACHABLE_ROUTE: Lint = Lint {
    code: "unreachable-route",
    summary: "a directive after one that answers every request",
    explanation: "\
A directive such as `respond`, `reverse_proxy` or `file_server` without a matcher answers every
request; what comes after it in the order of directives never runs. The order is Caddy's (`respond`
before `reverse_proxy` before `file_server`), not that of the file, unless they stand in a `route`
block. Give the first one a matcher, or put the parts into `handle` blocks.",
    run: Run::Sites(unreachable),
};

pub(super) static SHADOWED_ROUTE: Lint = Lint {
    code: "shadowed-route",
    summary: "a route whose requests are all taken by one before it",
    explanation: "\
An earlier route of the same block matches everything that this one matches, and answers it, so this
one never gets a request. Make the earlier matcher narrower, or put this route before it: inside of
`route` in the order of the file, elsewhere by a longer path.",
    run: Run::Sites(shadowed),
};

fn unreachable(subject: &Subject<'_>, findings: &mut Findings) {
    each_list(subject, &mut |routes, path| {
        let Some((cut, taker)) = first_cut(routes, path) else { return };
        let origins = &subject.adapted.origins;
        let place = |path: &str| origins.directive(path);
        let (Some(dead), Some(taker)) = (place(&cut), place(&taker)) else { return };
        report(findings, dead, taker, "answers every request before it");
    });
}

/// The path of the first handler that no request reaches, and of the one that takes them.
pub(super) fn first_cut(routes: &[View<'_>], path: &str) -> Option<(String, String)> {
    let own = |(at, index): (usize, usize)| format!("{path}.{at}.handle.{index}");
    cut_at(routes).map(|(cut, taker)| (own(cut), own(taker)))
}

/// [`first_cut`] by the numbers of routes and handlers.
fn cut_at(routes: &[View<'_>]) -> Option<((usize, usize), (usize, usize))> {
    let mut taken: Option<(usize, usize)> = None;
    let mut closed_group: Option<(&str, (usize, usize))> = None;
    for (at, route) in routes.iter().enumerate() {
        if let Some(taker) = taken {
            return Some(((at, 0), taker));
        }
        if let Some((closed, taker)) = closed_group
            && !route.group.is_empty()
            && route.group == closed
        {
            return Some(((at, 0), taker));
        }
        let answering = route.handle.iter().position(answers);
        if let Some(index) = answering
            && index + 1 < route.handle.len()
        {
            return Some(((at, index + 1), (at, index)));
        }
        if !route.is_unconditional() {
            continue;
        }
        match answering {
            Some(index) if route.group.is_empty() => taken = Some((at, index)),
            _ if !route.group.is_empty()
                && !route.handle.iter().all(|one| name(one) == "rewrite") =>
            {
                closed_group = Some((route.group, (at, 0)));
            }
            _ => {}
        }
    }
    None
}

fn shadowed(subject: &Subject<'_>, findings: &mut Findings) {
    each_list(subject, &mut |routes, path| {
        each_shadowed(routes, &mut |late, early| {
            let origins = &subject.adapted.origins;
            let place = |at: usize| origins.directive(&format!("{path}.{at}.handle.0"));
            if let (Some(dead), Some(taker)) = (place(late), place(early)) {
                report(findings, dead, taker, "takes all of its requests before it");
            }
        });
    });
}

/// Calls `see` with each route that gets no request, and the one before it that takes them.
pub(super) fn each_shadowed(routes: &[View<'_>], see: &mut dyn FnMut(usize, usize)) {
    /// Longer lists are those of many sites, whose hosts differ anyway.
    const LONGEST: usize = 300;
    if routes.len() > LONGEST {
        return;
    }
    for (late, route) in routes.iter().enumerate() {
        let earlier = routes[..late].iter().enumerate().find(|(early, first)| {
            !first.is_unconditional()
                && !route.is_unconditional()
                && covers(first, route)
                && takes_all(first, route)
                && !routes[*early..late].iter().any(changes_request)
        });
        if let Some((early, _)) = earlier {
            see(late, early);
        }
    }
}

fn report(findings: &mut Findings, dead: &Place, taker: &Place, why: &str) {
    if dead.token.span == taker.token.span {
        return;
    }
    let message = format!("this `{}` never gets a request", dead.token.text);
    let finding = findings.add(&dead.token, message, "never reached");
    finding.labels.push((taker.token.span, why.to_owned()));
    finding.help = Some(format!(
        "give `{}` a narrower matcher, or put both into `handle` blocks with matchers",
        taker.token.text
    ));
}

/// Calls `see` with each list of routes inside of handlers and servers, and its path.
fn each_list(subject: &Subject<'_>, see: &mut dyn FnMut(&[View<'_>], &str)) {
    let servers = subject.adapted.config.apps.http.iter().flat_map(|http| &http.servers);
    for (server_name, server) in servers {
        let mut path = format!("apps.http.servers.{server_name}");
        let errors = server.errors.as_ref().map(|errors| &errors.routes);
        let all = [("routes", Some(&server.routes)), ("errors.routes", errors)];
        for (part, routes) in all.iter().filter_map(|(part, routes)| Some((part, (*routes)?))) {
            within(&mut path, format_args!("{part}"), |path| {
                let views: Vec<_> = routes.iter().map(View::of).collect();
                see(&views, path);
                for (at, route) in routes.iter().enumerate() {
                    within(path, format_args!("{at}"), |path| inside(route, path, see));
                }
            });
        }
        for (name, route) in &server.named_routes {
            within(&mut path, format_args!("named_routes.{name}"), |path| {
                inside(route, path, see);
            });
        }
    }
}

fn inside(route: &Route, path: &mut String, see: &mut dyn FnMut(&[View<'_>], &str)) {
    for (at, json) in route.handle.iter().enumerate() {
        within(path, format_args!("handle.{at}"), |path| lists(json, false, path, see));
    }
}

/// Calls `see` with each list of routes in JSON, which is one itself if `is_list`.
pub(super) fn lists(
    json: &Json,
    is_list: bool,
    path: &mut String,
    see: &mut dyn FnMut(&[View<'_>], &str),
) {
    match json {
        Json::Object(object) => {
            for (key, value) in object {
                if value.is_object() || value.is_array() {
                    within(path, format_args!("{key}"), |path| {
                        lists(value, key == "routes", path, see);
                    });
                }
            }
        }
        Json::Array(items) => {
            if is_list {
                let views: Vec<_> = items.iter().map(View::of_json).collect();
                see(&views, path);
            }
            for (at, item) in items.iter().enumerate() {
                if item.is_object() || item.is_array() {
                    within(path, format_args!("{at}"), |path| lists(item, false, path, see));
                }
            }
        }
        _ => {}
    }
}

/// A route, as JSON or read.
pub(super) struct View<'a> {
    group: &'a str,
    sets: Vec<Set<'a>>,
    handle: &'a [Json],
    is_terminal: bool,
}

/// A matcher set.
enum Set<'a> {
    Map(&'a Map<String, Json>),
    Modules(&'a ModuleMap),
}

impl Set<'_> {
    fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Map(map) => map.get(name),
            Self::Modules(map) => map.get(name),
        }
    }

    /// Whether `holds` is true of each matcher.
    fn all(&self, mut holds: impl FnMut(&str, &Json) -> bool) -> bool {
        match self {
            Self::Map(map) => map.iter().all(|(name, value)| holds(name, value)),
            Self::Modules(map) => map.iter().all(|(name, value)| holds(name, value)),
        }
    }
}

impl<'a> View<'a> {
    fn of(route: &'a Route) -> Self {
        Self {
            group: &route.group,
            sets: route.matcher_sets.iter().map(Set::Modules).collect(),
            handle: &route.handle,
            is_terminal: route.terminal,
        }
    }

    pub(super) fn of_json(route: &'a Json) -> Self {
        let list =
            |name: &str| route.get(name).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let set = |json: &'a Json| json.as_object().map(Set::Map);
        Self {
            group: route.get("group").and_then(Json::as_str).unwrap_or_default(),
            sets: list("match").iter().filter_map(set).collect(),
            handle: list("handle"),
            is_terminal: route.get("terminal").and_then(Json::as_bool).unwrap_or_default(),
        }
    }

    fn is_unconditional(&self) -> bool {
        self.sets.is_empty()
    }
}

fn name(handler: &Json) -> &str {
    handler.get("handler").and_then(Json::as_str).unwrap_or_default()
}

/// Whether a handler answers every request that it gets.
fn answers(handler: &Json) -> bool {
    match name(handler) {
        // `forward_auth`: its upstream's answer may let the request go on.
        "reverse_proxy" => handler.get("handle_response").is_none(),
        "static_response" | "error" | "metrics" | "copy_response" => true,
        "file_server" => !handler.get("pass_thru").and_then(Json::as_bool).unwrap_or_default(),
        "subroute" => {
            let routes = handler.get("routes").and_then(Json::as_array);
            let all: Vec<_> = routes.into_iter().flatten().map(View::of_json).collect();
            all.iter().enumerate().any(|(at, route)| {
                let mut rivals = all[..at].iter().filter(|other| other.group == route.group);
                let answers_all = |view: &View<'_>| view.handle.iter().any(answers);
                route.is_unconditional()
                    && answers_all(route)
                    && (route.group.is_empty() || rivals.all(answers_all))
            })
        }
        _ => false,
    }
}

/// Whether nothing that `first` matches gets to `second`.
fn takes_all(first: &View<'_>, second: &View<'_>) -> bool {
    let same_group = !first.group.is_empty() && first.group == second.group;
    same_group || first.is_terminal || first.handle.iter().any(answers)
}

fn changes_request(route: &View<'_>) -> bool {
    route.handle.iter().any(|handler| matches!(name(handler), "rewrite" | "vars" | "map"))
}

/// Whether `wide` matches everything that `narrow` matches, as far as one can tell.
fn covers(wide: &View<'_>, narrow: &View<'_>) -> bool {
    let within = |inner: &Set<'_>| wide.sets.iter().any(|outer| set_covers(outer, inner));
    narrow.sets.iter().all(within)
}

fn set_covers(wide: &Set<'_>, narrow: &Set<'_>) -> bool {
    wide.all(|name, value| match narrow.get(name) {
        Some(other) if other == value => true,
        Some(other) if name == "path" => paths_cover(value, other),
        _ => false,
    })
}

fn paths_cover(wide: &Json, narrow: &Json) -> bool {
    let texts = |json: &Json| -> Vec<String> {
        let list = json.as_array().into_iter().flatten().filter_map(Json::as_str);
        list.map(str::to_lowercase).collect()
    };
    let wide = texts(wide);
    let covered = |path: &String| wide.iter().any(|pattern| path_covers(pattern, path));
    texts(narrow).iter().all(covered)
}

fn path_covers(pattern: &str, path: &str) -> bool {
    if pattern == path {
        return true;
    }
    match pattern.strip_suffix('*') {
        Some(prefix) if !prefix.contains(['*', '?', '[', '{', '%']) && !prefix.is_empty() => {
            let literal = path.trim_end_matches('*');
            !literal.contains(['*', '?', '[', '{', '%']) && literal.starts_with(prefix)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answering() {
        let respond = json!({"handler": "static_response"});
        assert!(answers(&respond));
        assert!(!answers(&json!({"handler": "file_server", "pass_thru": true})));
        let header = json!({"handler": "headers"});
        let of = |first: &Json| {
            let first = json!({"group": "g", "match": [{"path": ["/a"]}], "handle": [first]});
            let routes = json!([first, {"group": "g", "handle": [respond]}]);
            answers(&json!({"handler": "subroute", "routes": routes}))
        };
        assert!(of(&respond) && !of(&header));
    }

    #[test]
    fn covering() {
        assert!(path_covers("/api/*", "/api/x*") && path_covers("/a", "/a"));
        assert!(!path_covers("/api/*", "/api") && !path_covers("/api/x", "/api/*"));
        let of = |wide: Json, narrow: Json| {
            let (wide, narrow) = (json!({"match": wide}), json!({"match": narrow}));
            covers(&View::of_json(&wide), &View::of_json(&narrow))
        };
        assert!(of(json!([{"path": ["/a*"]}]), json!([{"path": ["/ab"], "method": ["GET"]}])));
        assert!(!of(json!([{"path": ["/a*"], "method": ["GET"]}]), json!([{"path": ["/ab"]}])));
    }
}
