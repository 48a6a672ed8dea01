//! A request and its headers as log fields.

use std::{borrow::Cow, net::SocketAddr};

use caddis_core::{
    Exchange, TlsInfo,
    exchange::{is_credential, proto},
};
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::field::{Field, FieldSink, Object};

/// The `request` field.
pub(crate) struct LoggedRequest<'a> {
    pub(crate) ex: &'a Exchange,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) credentials: bool,
}

/// Header fields by their Go names.
pub(crate) struct LoggedHeaders<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) credentials: bool,
}

struct LoggedTls<'a>(&'a TlsInfo);

impl Object for LoggedRequest<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        let ex = self.ex;
        let (ip, port) = remote(ex.connection.remote);
        out("remote_ip", Field::Str(ip));
        out("remote_port", Field::Str(port));
        let client = ex.client_ip.map(|ip| ip.to_string()).unwrap_or_default();
        out("client_ip", Field::Str(client.into()));
        out("proto", Field::str(proto(ex.request.version)));
        out("method", Field::str(ex.original.method.as_str()));
        out("host", Field::str(&ex.request.host));
        out("uri", Field::str(ex.original.target.as_sent()));
        let headers = LoggedHeaders { headers: self.headers, credentials: self.credentials };
        out("headers", Field::Object(&headers));
        if ex.request.chunked {
            out("transfer_encoding", Field::Strings(&[Cow::Borrowed("chunked")]));
        }
        if let Some(tls) = &ex.connection.tls {
            out("tls", Field::Object(&LoggedTls(tls)));
        }
    }
}

fn remote(remote: Option<SocketAddr>) -> (Cow<'static, str>, Cow<'static, str>) {
    match remote {
        Some(remote) => {
            (remote.ip().to_canonical().to_string().into(), remote.port().to_string().into())
        }
        None => ("@".into(), "".into()),
    }
}

impl Object for LoggedHeaders<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        let mut fields = self.headers.iter().peekable();
        let mut canonical = String::new();
        // The values of one name follow each other.
        while let Some((name, value)) = fields.next() {
            let mut values: SmallVec<[Cow<'_, str>; 4]> = SmallVec::new();
            values.push(text(value));
            while let Some((_, value)) = fields.next_if(|(next, _)| *next == name) {
                values.push(text(value));
            }
            if !self.credentials && is_credential(name.as_str()) {
                values.clear();
                values.push(Cow::Borrowed("REDACTED"));
            }
            canonical_name(name.as_str(), &mut canonical);
            out(&canonical, Field::Strings(&values));
        }
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// `content-type` → `Content-Type`.
fn canonical_name(name: &str, out: &mut String) {
    out.clear();
    let mut upper = true;
    for c in name.chars() {
        out.push(if upper { c.to_ascii_uppercase() } else { c });
        upper = c == '-';
    }
}

impl Object for LoggedTls<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        let tls = self.0;
        out("resumed", Field::Bool(tls.resumed));
        out("version", Field::Uint(tls.version.into()));
        out("cipher_suite", Field::Uint(tls.cipher_suite.into()));
        out("proto", Field::str(&tls.alpn));
        out("server_name", Field::str(&tls.server_name));
        out("ech", Field::Bool(tls.ech));
        let Some(leaf) = tls.client_certificates.first() else { return };
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return };
        let name = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        out("client_common_name", Field::str(name.unwrap_or_default()));
        out("client_serial", Field::Str(leaf.tbs_certificate.serial.to_string().into()));
    }
}
