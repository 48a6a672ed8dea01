//! What the `debug` option shows of proxying: which upstream was chosen, what was sent there, what
//! came back. Credentials are left out, whatever the server's access log shows.

use std::{net::SocketAddr, time::Duration};

use caddis_core::{
    Exchange,
    exchange::{is_credential, proto},
};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use tracing::Level;

use crate::{
    transport::{Failure, http::Answer},
    upstream::Address,
};

/// The request as it went to the upstream.
pub(super) struct Sent<'a> {
    pub(super) ex: &'a Exchange,
    pub(super) address: &'a Address,
    pub(super) method: &'a Method,
    pub(super) uri: &'a str,
    pub(super) host: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// Whether anybody wants to know.
pub(super) fn is_on() -> bool {
    tracing::enabled!(target: "http.handlers.reverse_proxy", Level::DEBUG)
}

/// Tells of one try; `took`: until the head of the answer.
pub(super) fn roundtrip(sent: &Sent<'_>, took: Duration, outcome: &Result<Answer, Failure>) {
    let upstream = sent.address.shown();
    let duration = took.as_secs_f64();
    match outcome {
        Ok(answer) => tracing::debug!(
            target: "http.handlers.reverse_proxy",
            %upstream,
            duration,
            json.request = %sent.to_json(),
            json.headers = %fields(&answer.headers),
            status = answer.status.as_u16(),
            "upstream roundtrip"
        ),
        Err(failure) => tracing::debug!(
            target: "http.handlers.reverse_proxy",
            %upstream,
            duration,
            json.request = %sent.to_json(),
            error = failure.text(),
            "upstream roundtrip"
        ),
    }
}

impl Sent<'_> {
    fn to_json(&self) -> Value {
        let ex = self.ex;
        let remote = ex.connection.remote;
        let ip = |peer: SocketAddr| peer.ip().to_canonical().to_string();
        json!({
            "remote_ip": remote.map_or_else(|| "@".to_owned(), ip),
            "remote_port": remote.map(|peer| peer.port().to_string()).unwrap_or_default(),
            "client_ip": ex.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "proto": proto(ex.request.version),
            "method": self.method.as_str(),
            "host": self.host,
            "uri": self.uri,
            "headers": fields(self.headers),
        })
    }
}

fn fields(headers: &HeaderMap) -> Value {
    let one = |name: &http::HeaderName| {
        let values: Vec<_> = if is_credential(name.as_str()) {
            vec!["REDACTED".into()]
        } else {
            let values = headers.get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
        };
        (caddis_wire::canonical_name(name.as_str()), json!(values))
    };
    Value::Object(headers.keys().map(one).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn requests_are_shown_without_credentials() {
        let mut headers = HeaderMap::new();
        headers.append("x-two", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        headers.append("authorization", HeaderValue::from_static("Basic abc"));
        let address = Address::parse("127.0.0.1:80").expect("valid");
        let ex = Exchange::for_test("/client");
        let sent = Sent {
            ex: &ex,
            address: &address,
            method: &Method::POST,
            uri: "/sent",
            host: "up.test",
            headers: &headers,
        };
        assert_eq!(
            sent.to_json(),
            json!({
                "remote_ip": "127.0.0.1", "remote_port": "4711", "client_ip": "127.0.0.1",
                "proto": "HTTP/1.1", "method": "POST", "host": "up.test", "uri": "/sent",
                "headers": {"X-Two": ["1", "2"], "Authorization": ["REDACTED"]}
            })
        );
    }
}
