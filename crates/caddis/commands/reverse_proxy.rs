//! `caddis reverse-proxy`.

use caddis_adapter::Address;
use serde_json::{Value as Json, json};

use super::{
    Outcome,
    respond::{headers, serve_apps},
};
use crate::args::ReverseProxy;

/// Proxies until stopped (spec A055).
pub(crate) fn reverse_proxy(flags: &ReverseProxy) -> Outcome {
    let (apps, from, to) = apps(flags)?;
    let ready = || {
        let to = json!(to).to_string();
        tracing::info!(from = from.to_string(), json.to = to, "caddis proxying");
        if flags.to.len() > 1 {
            tracing::info!(policy = "random", "using default load balancing policy");
        }
    };
    serve_apps(apps, flags.debug, &ready)
}

/// The apps, where requests are received, and where they go.
fn apps(flags: &ReverseProxy) -> Result<(Json, Address, Vec<String>), String> {
    if flags.to.iter().all(String::is_empty) {
        return Err("--to is required".into());
    }
    let from = from(&flags.from)?;
    let mut scheme = String::new();
    let (mut to, mut upstreams) = (Vec::new(), Vec::new());
    for text in &flags.to {
        let address = caddis_proxy::upstream_address(text)
            .map_err(|error| format!("invalid upstream address {text}: {error}"))?;
        // All have one transport; the first that names a scheme says which.
        if scheme.is_empty() {
            scheme = address.scheme;
        }
        upstreams.extend(address.dials.into_iter().map(|dial| json!({ "dial": dial })));
        to.push(address.dial);
    }
    let mut transport = json!({ "protocol": "http" });
    match scheme.as_str() {
        "https" if flags.insecure => transport["tls"] = json!({ "insecure_skip_verify": true }),
        "https" => transport["tls"] = json!({}),
        "h2c" => transport["versions"] = json!(["h2c", "2"]),
        _ => {}
    }
    let mut proxy =
        json!({ "handler": "reverse_proxy", "transport": transport, "upstreams": upstreams });
    let mut up = headers("header-up", &flags.header_up)?;
    let down = headers("header-down", &flags.header_down)?;
    if flags.change_host_header {
        if let Some(map) = up.as_object_mut() {
            map.retain(|field, _| !field.eq_ignore_ascii_case("host"));
        }
        up["Host"] = json!(["{http.reverse_proxy.upstream.hostport}"]);
    }
    let is_empty = |map: &Json| map.as_object().is_none_or(serde_json::Map::is_empty);
    if !is_empty(&up) {
        proxy["headers"]["request"] = json!({ "set": up });
    }
    if !is_empty(&down) {
        proxy["headers"]["response"] = json!({ "set": down });
    }
    let mut route = json!({ "handle": [proxy] });
    if !from.host.is_empty() {
        route["match"] = json!([{ "host": [from.host] }]);
    }
    let mut server = json!({ "routes": [route], "listen": [format!(":{}", from.port)] });
    if flags.access_log {
        server["logs"] = json!({});
    }
    if from.scheme == "http" {
        server["automatic_https"] = json!({ "disable": true });
    } else if flags.disable_redirects {
        server["automatic_https"] = json!({ "disable_redirects": true });
    }
    let mut apps = json!({ "http": { "servers": { "proxy": server } } });
    if flags.internal_certs && !from.host.is_empty() {
        let policy = json!({ "subjects": [from.host], "issuers": [{ "module": "internal" }] });
        apps["tls"] = json!({ "automation": { "policies": [policy] } });
    }
    Ok((apps, from, to))
}

/// The downstream address, completed: HTTPS where there is a host, unless the port is HTTP's.
fn from(text: &str) -> Result<Address, String> {
    let mut from = Address::parse(text)
        .map_err(|error| format!("invalid downstream address {text}: {error}"))?;
    if !from.path.is_empty() {
        return Err(format!("paths are not allowed: {text}"));
    }
    if from.scheme.is_empty() {
        let plain = from.port == "80" || from.host.is_empty();
        from.scheme = if plain { "http" } else { "https" }.to_owned();
    }
    if from.port.is_empty() {
        from.port = match from.scheme.as_str() {
            "http" => "80".to_owned(),
            "https" => "443".to_owned(),
            other => {
                return Err(format!("invalid downstream address {text}: unknown scheme {other}"));
            }
        };
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn made(words: &[&str]) -> Result<Json, String> {
        let words = ["caddis", "reverse-proxy"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Some(Command::ReverseProxy(flags)) => apps(&flags).map(|(apps, ..)| apps),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_server() {
        let apps = made(&[
            "--from",
            "a.test",
            "--to",
            "localhost:1-2",
            "--to",
            "https://b",
            "-i",
            "-r",
            "--insecure",
            "-c",
            "-H",
            "X-A: 1",
            "-H",
            "host: no",
            "-d",
            "X-B: 2",
        ]);
        assert_eq!(
            apps,
            Ok(json!({
                "http": { "servers": { "proxy": {
                    "listen": [":443"],
                    "automatic_https": { "disable_redirects": true },
                    "routes": [{
                        "match": [{ "host": ["a.test"] }],
                        "handle": [{
                            "handler": "reverse_proxy",
                            "transport": { "protocol": "http", "tls": { "insecure_skip_verify": true } },
                            "upstreams": [
                                { "dial": "localhost:1" }, { "dial": "localhost:2" }, { "dial": "b:443" },
                            ],
                            "headers": {
                                "request": { "set": {
                                    "Host": ["{http.reverse_proxy.upstream.hostport}"], "X-A": ["1"],
                                } },
                                "response": { "set": { "X-B": ["2"] } },
                            },
                        }],
                    }],
                } } },
                "tls": { "automation": { "policies": [
                    { "subjects": ["a.test"], "issuers": [{ "module": "internal" }] },
                ] } },
            }))
        );
        // Verification is off only where there is something to verify.
        let apps = made(&["--from", ":8080", "--to", "localhost:1", "--insecure"]).unwrap();
        let server = &apps["http"]["servers"]["proxy"];
        assert_eq!(server["listen"], json!([":8080"]));
        assert_eq!(server["automatic_https"], json!({ "disable": true }));
        assert_eq!(server["routes"][0]["handle"][0]["transport"], json!({ "protocol": "http" }));
    }

    #[test]
    fn downstream_addresses() {
        for (text, want) in [
            ("localhost", "https localhost 443"),
            ("localhost:80", "http localhost 80"),
            ("localhost:8443", "https localhost 8443"),
            ("http://localhost:8443", "http localhost 8443"),
            (":8080", "http  8080"),
            ("https://", "https  443"),
        ] {
            let from = from(text).unwrap();
            assert_eq!(format!("{} {} {}", from.scheme, from.host, from.port), want, "{text}");
        }
        assert_eq!(from("a/b").unwrap_err(), "paths are not allowed: a/b");
        assert!(from("a:b").unwrap_err().starts_with("invalid downstream address a:b: "));
        for words in [&[][..], &["--to", ""]] {
            assert_eq!(made(words), Err("--to is required".to_owned()));
        }
        let refused = made(&["--to", "http://a/path"]).unwrap_err();
        assert!(refused.starts_with("invalid upstream address http://a/path: "), "{refused}");
        let refused = made(&["--to", "a:1", "--header-up", "bad"]).unwrap_err();
        assert!(refused.starts_with("header-up 0: invalid format"), "{refused}");
    }
}
