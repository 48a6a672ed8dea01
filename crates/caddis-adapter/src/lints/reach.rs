//! `unreachable-route` and `shadowed-route`: handlers that never get a request.

use serde_json::Value as Json;

use super::subject::Subject;
use super::{Findings, Lint};
use crate::origins::Place;

pub(super) static UNREACHABLE_ROUTE: Lint = Lint {
    code: "unreachable-route",
    summary: "a directive after one that answers every request",
    explanation: "\
A directive such as `respond`, `reverse_proxy` or `file_server` without a matcher answers every
request; what comes after it in the order of directives never runs. The order is Caddy's (`respond`
before `reverse_proxy` before `file_server`), not that of the file, unless they stand in a `route`
block. Give the first one a matcher, or put the parts into `handle` blocks.",
    run: unreachable,
};

pub(super) static SHADOWED_ROUTE: Lint = Lint {
    code: "shadowed-route",
    summary: "a route whose requests are all taken by one before it",
    explanation: "\
An earlier route of the same block matches everything that this one matches, and answers it, so this
one never gets a request. Make the earlier matcher narrower, or put this route before it: inside of
`route` in the order of the file, elsewhere by a longer path.",
    run: shadowed,
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
pub(super) fn first_cut(routes: &[Json], path: &str) -> Option<(String, String)> {
    let mut taken: Option<String> = None;
    let mut closed_group: Option<(&str, String)> = None;
    for (at, route) in routes.iter().enumerate() {
        let own = |index: usize| format!("{path}.{at}.handle.{index}");
        if let Some(taker) = taken {
            return Some((own(0), taker));
        }
        let group = group(route);
        if let Some((closed, taker)) = &closed_group
            && !group.is_empty()
            && group == *closed
        {
            return Some((own(0), taker.clone()));
        }
        let handlers = handlers(route);
        let answering = handlers.iter().position(answers);
        if let Some(index) = answering
            && index + 1 < handlers.len()
        {
            return Some((own(index + 1), own(index)));
        }
        if is_unconditional(route) {
            match answering {
                Some(index) if group.is_empty() => taken = Some(own(index)),
                _ if !group.is_empty() && !handlers.iter().all(|one| name(one) == "rewrite") => {
                    closed_group = Some((group, own(0)));
                }
                _ => {}
            }
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
pub(super) fn each_shadowed(routes: &[Json], see: &mut dyn FnMut(usize, usize)) {
    /// Longer lists are those of many sites, whose hosts differ anyway.
    const LONGEST: usize = 300;
    if routes.len() > LONGEST {
        return;
    }
    for (late, route) in routes.iter().enumerate() {
        let earlier = routes[..late].iter().enumerate().find(|(early, first)| {
            !is_unconditional(first)
                && !is_unconditional(route)
                && takes_all(first, route)
                && covers(first, route)
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
fn each_list(subject: &Subject<'_>, see: &mut dyn FnMut(&[Json], &str)) {
    for (base, server) in subject.servers() {
        for (key, value) in server.as_object().into_iter().flatten() {
            lists(value, key == "routes", &format!("{base}.{key}"), see);
        }
    }
}

pub(super) fn lists(json: &Json, is_list: bool, path: &str, see: &mut dyn FnMut(&[Json], &str)) {
    match json {
        Json::Object(object) => {
            for (key, value) in object {
                if value.is_object() || value.is_array() {
                    lists(value, key == "routes", &format!("{path}.{key}"), see);
                }
            }
        }
        Json::Array(items) => {
            if is_list {
                see(items, path);
            }
            for (at, item) in items.iter().enumerate() {
                if item.is_object() || item.is_array() {
                    lists(item, false, &format!("{path}.{at}"), see);
                }
            }
        }
        _ => {}
    }
}

fn handlers(route: &Json) -> &[Json] {
    route.get("handle").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn name(handler: &Json) -> &str {
    handler.get("handler").and_then(Json::as_str).unwrap_or_default()
}

fn group(route: &Json) -> &str {
    route.get("group").and_then(Json::as_str).unwrap_or_default()
}

fn sets(route: &Json) -> &[Json] {
    route.get("match").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn is_unconditional(route: &Json) -> bool {
    sets(route).is_empty()
}

fn is_terminal(route: &Json) -> bool {
    route.get("terminal").and_then(Json::as_bool).unwrap_or_default()
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
            let all = routes.map_or(&[][..], Vec::as_slice);
            all.iter().enumerate().any(|(at, route)| {
                let group = group(route);
                let mut rivals = all[..at].iter().filter(|other| self::group(other) == group);
                is_unconditional(route)
                    && handlers(route).iter().any(answers)
                    && (group.is_empty() || rivals.all(|other| handlers(other).iter().any(answers)))
            })
        }
        _ => false,
    }
}

/// Whether nothing that `first` matches gets to `second`.
fn takes_all(first: &Json, second: &Json) -> bool {
    let same_group = !group(first).is_empty() && group(first) == group(second);
    same_group || is_terminal(first) || handlers(first).iter().any(answers)
}

fn changes_request(route: &Json) -> bool {
    handlers(route).iter().any(|handler| matches!(name(handler), "rewrite" | "vars" | "map"))
}

/// Whether `wide` matches everything that `narrow` matches, as far as one can tell.
fn covers(wide: &Json, narrow: &Json) -> bool {
    let within = |inner: &Json| sets(wide).iter().any(|outer| set_covers(outer, inner));
    sets(narrow).iter().all(within)
}

fn set_covers(wide: &Json, narrow: &Json) -> bool {
    let (Some(wide), Some(narrow)) = (wide.as_object(), narrow.as_object()) else { return false };
    wide.iter().all(|(name, value)| match narrow.get(name) {
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
        let of =
            |wide: Json, narrow: Json| covers(&json!({"match": wide}), &json!({"match": narrow}));
        assert!(of(json!([{"path": ["/a*"]}]), json!([{"path": ["/ab"], "method": ["GET"]}])));
        assert!(!of(json!([{"path": ["/a*"], "method": ["GET"]}]), json!([{"path": ["/ab"]}])));
    }
}
