//! `caddis respond`: the same answer for every request.

use std::io::{IsTerminal, Read};

use caddis_config::NetworkAddress;
use serde_json::{Value as Json, json};

use super::Outcome;
use crate::args::Respond;

/// Answers until stopped; prints the addresses it listens on.
pub(crate) fn respond(flags: &Respond) -> Outcome {
    let mut status = flags.status.unwrap_or(200);
    let mut body = flags.body.clone().unwrap_or_default();
    match flags.argument.as_deref() {
        Some(argument) if argument.len() == 3 && argument.parse::<u16>().is_ok_and(|n| n > 0) => {
            status = argument.parse().unwrap_or(status);
        }
        Some(argument) => {
            if flags.body.is_some() {
                return Err("cannot specify both argument and --body".into());
            }
            argument.clone_into(&mut body);
        }
        None => {}
    }
    if body.is_empty() && flags.body.is_none() && !std::io::stdin().is_terminal() {
        std::io::stdin()
            .read_to_string(&mut body)
            .map_err(|error| format!("reading stdin: {error}"))?;
    }
    let mut headers = serde_json::Map::new();
    for header in &flags.header {
        let (field, value) = header
            .split_once(':')
            .ok_or_else(|| format!("header '{header}' is not of the form 'Field: value'"))?;
        headers.insert(field.trim().to_owned(), json!([value.trim()]));
    }
    let listen = NetworkAddress::parse(&flags.listen)
        .map_err(|error| format!("invalid --listen address: {error}"))?;
    let mut servers = serde_json::Map::new();
    for (number, address) in listen.expand().into_iter().enumerate() {
        let address = free_port(address)?;
        let shown = address.join_host_port(0);
        let text = body
            .replace("{{.N}}", &number.to_string())
            .replace("{{.Port}}", &address.start_port.to_string())
            .replace("{{.Address}}", &shown);
        let mut server = json!({
            "listen": [address.to_string()],
            "automatic_https": { "disable": true },
            "routes": [{ "handle": [{
                "handler": "static_response",
                "status_code": status.to_string(),
                "headers": headers,
                "body": text,
            }] }],
        });
        if flags.access_log {
            server["logs"] = json!({});
        }
        println!("Server address: {shown}");
        servers.insert(format!("static{number}"), server);
    }
    serve_servers(servers.into(), flags.debug)
}

/// Port 0 becomes a free one now, since the address is printed.
fn free_port(mut address: NetworkAddress) -> Result<NetworkAddress, String> {
    if address.start_port == 0 && !address.is_unix() {
        let host = if address.host.is_empty() { "::" } else { address.host.as_str() };
        let port = std::net::TcpListener::bind((host, 0))
            .or_else(|_| std::net::TcpListener::bind(("0.0.0.0", 0)))
            .and_then(|socket| socket.local_addr())
            .map_err(|error| format!("finding a free port: {error}"))?
            .port();
        (address.start_port, address.end_port) = (port, port);
    }
    Ok(address)
}

/// Runs one server without admin endpoint.
pub(crate) fn serve_server(server: Json, debug: bool) -> Outcome {
    serve_servers(json!({ "static": server }), debug)
}

fn serve_servers(servers: Json, debug: bool) -> Outcome {
    let mut config = json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "apps": { "http": { "servers": servers } },
    });
    if debug {
        config["logging"] = json!({ "logs": { "default": { "level": "DEBUG" } } });
    }
    super::run::serve(config, caddis_logging::init(), None, None, None)
}
