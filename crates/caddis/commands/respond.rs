//! `caddis respond`: the same answer for every request.

use std::{
    io::Read,
    net::{IpAddr, ToSocketAddrs},
    os::fd::AsFd,
};

use caddis_config::NetworkAddress;
use caddis_http::handlers::templates::{self, ServerData};
use rustix::fs::{FileType, fstat};
use serde_json::{Map, Value as Json, json};

use super::{
    Outcome,
    run::{Serving, serve},
};
use crate::{args::Respond, say, source};

/// Answers until stopped; prints the addresses it listens on (spec A056).
pub(crate) fn respond(flags: &Respond) -> Outcome {
    let (status, body) = status_and_body(flags)?;
    let body = match body.is_empty() {
        true => piped()?,
        false => body,
    };
    let headers = headers("header", &flags.header)?;
    let listen = NetworkAddress::parse(&flags.listen)?;
    let mut servers = Map::new();
    let mut shown = Vec::new();
    for (number, address) in listen.expand().into_iter().enumerate() {
        let address = free_port(address)?;
        let (port, shown_here) = (address.start_port, address.join_host_port(0));
        let data = ServerData { number, port, address: shown_here };
        let mut server = json!({
            "listen": [address.to_string()],
            "read_header_timeout": 10_000_000_000_u64,
            "idle_timeout": 30_000_000_000_u64,
            "max_header_bytes": 10_240,
            "automatic_https": { "disable_redirects": true },
            "routes": [{ "handle": [{
                "handler": "static_response",
                "status_code": status,
                "headers": headers,
                "body": templates::run_body(&body, data)?,
            }] }],
        });
        if flags.access_log {
            server["logs"] = json!({});
        }
        shown.push(bound(&address));
        servers.insert(format!("static{number}"), server);
    }
    let ready = || shown.iter().for_each(|address| say::say!("Server address: {address}"));
    serve_servers(servers.into(), flags.debug, &ready)
}

/// The status and the body that the flags and the last word say; a body may be still missing.
fn status_and_body(flags: &Respond) -> Result<(i64, String), String> {
    let (mut status, mut body) = (flags.status.unwrap_or(200), flags.body.clone());
    let argument = match flags.arguments.as_slice() {
        [] => "",
        [argument] => argument,
        _ => return Err("too many unflagged arguments".into()),
    };
    if !argument.is_empty() {
        if !body.is_empty() && flags.status.is_some() {
            return Err(format!("unflagged argument \"{argument}\" is overridden by flags"));
        }
        match argument.parse::<i64>() {
            Ok(number) if flags.status.is_none() && (100..=999).contains(&number) => {
                status = number;
            }
            // A number that is no status says nothing.
            Ok(_) if flags.status.is_none() => {}
            _ if body.is_empty() => argument.clone_into(&mut body),
            _ => {}
        }
    }
    if !(100..=999).contains(&status) {
        return Err(format!("invalid status code {status}; it has to be 100 to 999"));
    }
    Ok((status, body))
}

/// What comes through a pipe. Standard input of another kind is left alone: it may never end, or be
/// somebody else's.
fn piped() -> Result<String, String> {
    let input = std::io::stdin();
    let is_pipe = fstat(input.as_fd())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    let mut bytes = Vec::new();
    if is_pipe {
        let read = input.lock().read_to_end(&mut bytes);
        read.map_err(|error| format!("reading stdin: {}", source::plain(&error)))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Header fields as `Field: value`; of the same field, the last one counts.
pub(crate) fn headers(flag: &str, all: &[String]) -> Result<Json, String> {
    let mut map: Map<String, Json> = Map::new();
    for (number, header) in all.iter().enumerate() {
        let parts = header.split_once(':').map(|(field, value)| (field.trim(), value.trim()));
        let (field, value) = parts
            .filter(|(field, value)| !field.is_empty() && !value.is_empty())
            .ok_or_else(|| {
                format!("{flag} {number}: invalid format \"{header}\" (expecting \"Field: value\")")
            })?;
        map.retain(|known, _| !known.eq_ignore_ascii_case(field));
        map.insert(field.to_owned(), json!([value]));
    }
    Ok(map.into())
}

/// Port 0 becomes a free one now, since the address is printed.
fn free_port(mut address: NetworkAddress) -> Result<NetworkAddress, String> {
    if address.start_port == 0 && !address.is_unix() && !address.is_fd() {
        let host = if address.host.is_empty() { "::" } else { address.host.as_str() };
        let port = std::net::TcpListener::bind((host, 0))
            .or_else(|error| match address.host.is_empty() {
                true => std::net::TcpListener::bind(("0.0.0.0", 0)),
                false => Err(error),
            })
            .and_then(|socket| socket.local_addr())
            .map_err(|error| format!("listening on {address}: {}", source::plain(&error)))?
            .port();
        (address.start_port, address.end_port) = (port, port);
    }
    Ok(address)
}

/// An address as the system has it: `[::]:80` for every address of this machine.
fn bound(address: &NetworkAddress) -> String {
    if address.is_unix() || address.is_fd() {
        return address.host.clone();
    }
    if address.host.is_empty() {
        return format!("[::]:{}", address.start_port);
    }
    let text = address.join_host_port(0);
    let found: Vec<_> = text.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let of_four = found.iter().find(|at| matches!(at.ip(), IpAddr::V4(_)));
    of_four.or(found.first()).map_or(text, ToString::to_string)
}

/// Runs one server without admin endpoint; `ready` is called when it serves.
pub(crate) fn serve_server(server: Json, debug: bool, ready: &dyn Fn()) -> Outcome {
    serve_servers(json!({ "static": server }), debug, ready)
}

fn serve_servers(servers: Json, debug: bool, ready: &dyn Fn()) -> Outcome {
    serve_apps(json!({ "http": { "servers": servers } }), debug, ready)
}

/// Runs apps without admin endpoint.
pub(crate) fn serve_apps(apps: Json, debug: bool, ready: &dyn Fn()) -> Outcome {
    let mut config = json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "apps": apps,
    });
    if debug {
        config["logging"] = json!({ "logs": { "default": { "level": "DEBUG" } } });
    }
    serve(config, caddis_logging::init(), Serving { ready: Some(ready), ..Serving::default() })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn said(words: &[&str]) -> Result<(i64, String), String> {
        let words = ["caddis", "respond"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Some(Command::Respond(flags)) => status_and_body(&flags),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_word() {
        for (words, status, body) in [
            (&[][..], 200, ""),
            (&["404"], 404, ""),
            (&["hello"], 200, "hello"),
            (&["1000"], 200, ""),
            (&["--status", "200", "404"], 200, "404"),
            (&["--status=201", "404"], 201, "404"),
            (&["--body", "b", "404"], 404, "b"),
            (&["--body", "b", "word"], 200, "b"),
        ] {
            assert_eq!(said(words), Ok((status, body.to_owned())), "{words:?}");
        }
        for (words, want) in [
            (&["a", "b"][..], "too many unflagged arguments"),
            (&["--body", "b", "-s", "201", "x"], "unflagged argument \"x\" is overridden by flags"),
            (&["--status", "99"], "invalid status code 99"),
        ] {
            assert!(said(words).is_err_and(|why| why.starts_with(want)), "{words:?}");
        }
    }

    #[test]
    fn header_flags() {
        let all = ["x-a: 1".to_owned(), "X-A: 2".to_owned(), "B:c:d".to_owned()];
        assert_eq!(headers("header", &all), Ok(json!({ "X-A": ["2"], "B": ["c:d"] })));
        let wrong = headers("header-up", &["bad".to_owned()]);
        let want = "header-up 0: invalid format \"bad\" (expecting \"Field: value\")";
        assert_eq!(wrong, Err(want.to_owned()));
        assert!(headers("header", &["X:".to_owned()]).is_err());
    }

    #[test]
    fn addresses_as_the_system_has_them() {
        for (text, want) in [
            (":80", "[::]:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("unix//tmp/x", "/tmp/x"),
        ] {
            assert_eq!(bound(&NetworkAddress::parse(text).unwrap()), want);
        }
    }
}
