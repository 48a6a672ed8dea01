//! `upstream-loop`, `upstream-path`, `plain-to-https-port`, `weights-mismatch`: upstreams that cannot
//! be meant so.

use caddis_config::NetworkAddress;
use serde_json::Value as Json;

use super::subject::{HandlerAt, Subject};
use super::{Findings, Lint, Run};

pub(super) static UPSTREAM_LOOP: Lint = Lint {
    code: "upstream-loop",
    summary: "an upstream that is the site itself",
    explanation: "\
The upstream's address is one on which the same server listens, so a request is passed to the server
that it came from, again and again. Usually the backend was meant to have another port than the site.
A rule `header_up Host …` that leads to another site of the server makes it no loop.",
    run: Run::Directives(loops),
};

pub(super) static UPSTREAM_PATH: Lint = Lint {
    code: "upstream-path",
    summary: "an upstream with a path",
    explanation: "\
An upstream is a host and a port; with a path behind them every request fails with status 502. To have
the upstream see another path, write `rewrite * /prefix{uri}` before, or `rewrite` in the block.",
    run: Run::Sites(with_path),
};

pub(super) static PLAIN_TO_HTTPS_PORT: Lint = Lint {
    code: "plain-to-https-port",
    summary: "an upstream on port 443 that is spoken to in plain HTTP",
    explanation: "\
`reverse_proxy host:443` speaks plain HTTP to port 443; a server that expects TLS there answers with
status 400. Write `https://host`, or `transport http { tls }` in the block.",
    run: Run::Directives(plain),
};

pub(super) static WEIGHTS_MISMATCH: Lint = Lint {
    code: "weights-mismatch",
    summary: "weights whose number is not that of the upstreams",
    explanation: "\
`lb_policy weighted_round_robin` takes one weight for each upstream, in their order. Upstreams without
a weight, and weights without an upstream, are a mistake in counting. An upstream with weight 0 gets
nothing.",
    run: Run::Directives(weights),
};

/// The dial addresses of a `reverse_proxy` handler.
fn dials<'a>(handler: &HandlerAt<'a>) -> impl Iterator<Item = &'a str> {
    let upstreams = handler.json.get("upstreams").and_then(Json::as_array);
    let list = upstreams.filter(|_| handler.name == "reverse_proxy");
    list.into_iter().flatten().filter_map(|upstream| upstream.get("dial")?.as_str())
}

fn is_local(host: &str) -> bool {
    host.is_empty()
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// Whether an upstream is one of these addresses of the server itself.
pub(super) fn leads_back(dial: &str, listen: &[NetworkAddress]) -> bool {
    let Ok(upstream) = NetworkAddress::parse(dial) else { return false };
    if upstream.is_unix() || !is_local(&upstream.host) || upstream.start_port == 0 {
        return false;
    }
    listen.iter().any(|own| {
        own.start_port <= upstream.start_port
            && upstream.start_port <= own.end_port
            && is_local(&own.host)
    })
}

fn loops(subject: &Subject<'_>, findings: &mut Findings) {
    for handler in subject.handlers() {
        let Some(place) = handler.place else { continue };
        if handler.json.pointer("/headers/request/set/Host").is_some() {
            continue;
        }
        for dial in dials(handler) {
            let listen = handler.server.listen.iter();
            let listen: Vec<_> =
                listen.filter_map(|text| NetworkAddress::parse(text).ok()).collect();
            if !leads_back(dial, &listen) {
                continue;
            }
            let message = format!("{dial} is the address of this very site");
            let at = word(subject, place, dial);
            let finding = findings.add(&at, message, "leads back here");
            if let Some(site) =
                subject.adapted.origins.find(&format!("apps.http.servers.{}", handler.server_name))
            {
                finding.labels.push((site, "the site listens there".into()));
            }
            finding.help = Some("name the port of the backend".into());
        }
    }
}

/// The path behind a dial address, where there is one: what stands before a slash is no network then,
/// which has neither dots nor colons.
pub(super) fn path_of(dial: &str) -> Option<&str> {
    let (address, path) = dial.split_at(dial.find('/')?);
    let is_address = address == "localhost" || address.contains(['.', ':']);
    (is_address && !dial.contains('{')).then_some(path)
}

fn with_path(subject: &Subject<'_>, findings: &mut Findings) {
    for handler in subject.handlers() {
        let Some(place) = handler.place else { continue };
        for dial in dials(handler) {
            // The port that stands for none was put behind.
            let dial = dial.strip_suffix(":80").unwrap_or(dial);
            let Some(path) = path_of(dial) else { continue };
            let at = word(subject, place, dial);
            findings.add(&at, path_message(dial), "host and port, and nothing else").help =
                Some(path_help(path));
        }
    }
}

pub(super) fn path_message(dial: &str) -> String {
    format!("{dial} is an upstream with a path")
}

pub(super) fn path_help(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "leave out the slash".to_owned(),
        path => {
            format!("leave out `{path}`; `rewrite * {path}{{uri}}` before puts it in the request")
        }
    }
}

/// The word of a directive that gave a dial address; else its name.
fn word(
    subject: &Subject<'_>,
    place: &crate::origins::Place,
    dial: &str,
) -> caddis_caddyfile::Token {
    let mut token = place.token.clone();
    subject.statement(place.token.span, &mut |statement| {
        let inside = statement.body.iter().filter(|one| one.name() == "to");
        let words = std::iter::once(statement).chain(inside).flat_map(|one| &one.words[1..]);
        let bare = |text: &str| text.rsplit("//").next().unwrap_or(text).to_owned();
        let mut matching = words.filter(|word| {
            let text = bare(&word.text);
            text == dial || (!text.is_empty() && dial.ends_with(&text))
        });
        if let Some(found) = matching.next() {
            token = found.clone();
        }
    });
    token
}

fn plain(subject: &Subject<'_>, findings: &mut Findings) {
    for handler in subject.handlers() {
        let Some(place) = handler.place else { continue };
        let transport = handler.json.get("transport");
        let is_http = |transport: &Json| {
            transport.get("protocol").and_then(Json::as_str).is_none_or(|name| name == "http")
        };
        if transport.is_some_and(|transport| transport.get("tls").is_some() || !is_http(transport))
        {
            continue;
        }
        for dial in dials(handler).filter(|dial| dial.ends_with(":443")) {
            let at = word(subject, place, dial);
            let host = dial.trim_end_matches(":443");
            let message = format!("{dial} is spoken to in plain HTTP");
            findings.add(&at, message, "expects TLS, most likely").help =
                Some(format!("write `https://{host}`"));
        }
    }
}

fn weights(subject: &Subject<'_>, findings: &mut Findings) {
    for handler in subject.handlers() {
        let (Some(place), Some(policy)) =
            (handler.place, handler.json.pointer("/load_balancing/selection_policy"))
        else {
            continue;
        };
        let Some(weights) = policy.get("weights").and_then(Json::as_array) else { continue };
        let upstreams = dials(handler).count();
        if handler.json.get("dynamic_upstreams").is_some() || weights.len() == upstreams {
            continue;
        }
        let at = subject.token_in(place, "lb_policy");
        let message =
            format!("{} for {}", count(weights.len(), "weight"), count(upstreams, "upstream"));
        findings.add(&at, message, "one weight for each upstream").help =
            Some("give each upstream its weight, in the order of the upstreams".into());
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
