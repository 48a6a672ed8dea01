//! A client of the admin API, for `stop` and `reload`.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use caddis_config::NetworkAddress;
use serde_json::Value as Json;

use crate::{args, registry, source};

/// Longest wait for an answer; a reload may have to fetch certificates. That to a stop has none, since
/// it comes when all requests have ended.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The address to call: the flag, else the config's, else the default (spec A073).
pub(crate) fn address(flags: &args::Client) -> Result<String, String> {
    if let Some(address) = &flags.address {
        return Ok(address.clone());
    }
    let loaded = source::load(&flags.config, &registry::standard())
        .map_err(|failure| crate::commands::drawn(&failure))
        .map_err(|why| format!("couldn't determine admin API address: {why}"))?;
    Ok(from_config(loaded.as_ref().map(|loaded| &loaded.json)))
}

/// The admin address that a config names, else the default.
pub(crate) fn from_config(config: Option<&Json>) -> String {
    config
        .and_then(|config| config.pointer("/admin/listen")?.as_str())
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .or_else(|| std::env::var("CADDY_ADMIN").ok().filter(|address| !address.is_empty()))
        .unwrap_or_else(|| "localhost:2019".to_owned())
}

/// Asks; gives the body of a 2xx answer.
pub(crate) fn get(address: &str, path: &str) -> Result<String, String> {
    send("GET", address, path, &[], b"")
}

/// Sends a body; gives the body of a 2xx answer.
pub(crate) fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<String, String> {
    send("POST", address, path, headers, body)
}

fn send(
    method: &str,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<String, String> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let parsed = NetworkAddress::parse_with_defaults(address, "tcp", 2019)
        .map_err(|error| format!("invalid admin address {address}: {error}"))?;
    if parsed.port_range_size() > 1 {
        return Err(format!("invalid admin address {address}: it has more than one port"));
    }
    let host = if parsed.is_unix() { "127.0.0.1".into() } else { parsed.join_host_port(0) };
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    // A file's name may have any bytes; what cannot be in a field is not sent.
    for (name, value) in headers.iter().filter(|(_, value)| !value.contains(char::is_control)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !parsed.is_unix() {
        // An endpoint with `enforce_origin` wants to know.
        head.push_str(&format!("Origin: http://{host}\r\n"));
    }
    head.push_str("\r\n");
    let verb = if method == "GET" { "Get" } else { "Post" };
    let dialed = match parsed.is_unix() {
        true => format!("dial unix {}", parsed.unix_path_and_mode()?.0),
        false => format!("dial tcp {host}"),
    };
    let failed = |error: std::io::Error| {
        let error = source::plain(&error);
        let request = format!("performing request: {verb} \"http://{host}{path}\"");
        match error.as_str() {
            "no such host" => format!("{request}: dial tcp: lookup {}: {error}", parsed.host),
            _ => format!("{request}: {dialed}: connect: {error}"),
        }
    };
    let limit = (path != "/stop").then_some(TIMEOUT);
    let answer = if parsed.is_unix() {
        let (path, _) = parsed.unix_path_and_mode()?;
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(limit).map_err(failed)?;
        talk(stream, head.as_bytes(), body).map_err(failed)?
    } else {
        let stream = TcpStream::connect(&host).map_err(failed)?;
        stream.set_read_timeout(limit).map_err(failed)?;
        talk(stream, head.as_bytes(), body).map_err(failed)?
    };
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(body.to_owned());
    }
    let message = serde_json::from_str::<Json>(body)
        .ok()
        .and_then(|json| Some(json.get("error")?.as_str()?.to_owned()))
        .unwrap_or_else(|| body.trim().to_owned());
    Err(format!("caddis responded with error: HTTP {status}: {message}"))
}

fn talk(mut stream: impl Read + Write, head: &[u8], body: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(head)?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A server that stops may cut the connection after its answer.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}
