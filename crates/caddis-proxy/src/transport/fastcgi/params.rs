//! The variables of a FastCGI request.

use std::path::{Path, PathBuf};

use caddis_core::{
    Exchange, Target, Template,
    exchange::{proto, split_host_port},
    placeholder::{header_value, text_or_empty},
};
use caddis_http::path::sanitized_join;
use http::{HeaderMap, Method, header};

use super::record::pair;

/// The head of a request for a FastCGI server.
pub(crate) struct Head<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) uri: &'a str,
    /// The host.
    pub(crate) host: &'a str,
    /// The fields.
    pub(crate) headers: &'a HeaderMap,
}

/// What is configured about variables.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) root: Template,
    pub(super) split: Vec<String>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) resolve_root_symlink: bool,
    pub(super) user: Template,
    pub(super) remainder: Template,
}

impl Settings {
    /// The document root for this request, absolute.
    pub(super) async fn root(&self, ex: &Exchange) -> Result<PathBuf, String> {
        let text = self.root.render(ex);
        let text = if text.is_empty() { "." } else { &text };
        let root = std::path::absolute(Path::new(text)).map_err(|error| error.to_string())?;
        let root = root.components().collect::<PathBuf>();
        if !self.resolve_root_symlink {
            return Ok(root);
        }
        tokio::task::spawn_blocking(move || root.canonicalize())
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Where a path is split into script and path info: after the first listed text that it holds.
    pub(super) fn split_at(&self, path: &str) -> Option<usize> {
        if self.split.is_empty() {
            return Some(0);
        }
        self.split.iter().filter(|split| !split.is_empty()).find_map(|split| {
            let (bytes, split) = (path.as_bytes(), split.as_bytes());
            let at =
                bytes.windows(split.len()).position(|part| part.eq_ignore_ascii_case(split))?;
            Some(at + split.len())
        })
    }

    /// Writes all variables as pairs.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        ex: &Exchange,
        head: &Head<'_>,
        root: &Path,
        length: u64,
    ) {
        let target = Target::parse(head.uri.into()).unwrap_or_default();
        let path = target.path();
        let (script, info) = match self.split_at(path) {
            Some(at) => path.split_at(at),
            None => (path, ""),
        };
        let document = if self.split_at(path).is_some() { script } else { path };
        let remainder = self.remainder.render(ex);
        let info = if info.is_empty() { &*remainder } else { info };
        let root_text = root.to_string_lossy();
        // The root itself goes without a slash at its end.
        let file = sanitized_join(&root_text, if script == "/" { "" } else { script });
        let slash = if script.is_empty() || script.starts_with('/') { "" } else { "/" };
        let mut put = |name: &str, value: &str| pair(out, name, value);
        put("AUTH_TYPE", "");
        put("GATEWAY_INTERFACE", "CGI/1.1");
        put("PATH_INFO", info);
        if !info.is_empty() {
            put("PATH_TRANSLATED", &sanitized_join(&root_text, info).to_string_lossy());
        }
        put("QUERY_STRING", target.query().unwrap_or(""));
        put("REMOTE_IDENT", "");
        put("REMOTE_USER", &self.user.render(ex));
        put("SERVER_SOFTWARE", concat!("caddis/", env!("CARGO_PKG_VERSION")));
        put("DOCUMENT_ROOT", &root_text);
        put("DOCUMENT_URI", document);
        put("REQUEST_URI", ex.original.target.as_str());
        put("SCRIPT_FILENAME", &file.to_string_lossy());
        put("SCRIPT_NAME", &format!("{slash}{script}"));
        let length = length.to_string();
        put("CONTENT_LENGTH", &length);
        put("HTTP_CONTENT_LENGTH", &length);
        put("CONTENT_TYPE", &content_type(head));
        put("REQUEST_METHOD", &head.method.as_str().to_uppercase());
        connection(&mut put, ex, head);
        for (name, value) in &self.env {
            put(name, &value.render(ex));
        }
        fields(&mut put, head.headers);
    }
}

fn content_type(head: &Head<'_>) -> String {
    let given = text_or_empty(Some(header_value(head.headers, &header::CONTENT_TYPE)));
    let bodiless = matches!(*head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if given.is_empty() && !bodiless {
        return "application/x-www-form-urlencoded".to_owned();
    }
    given.into_owned()
}

fn connection(put: &mut impl FnMut(&str, &str), ex: &Exchange, head: &Head<'_>) {
    let remote = ex.connection.remote;
    let ip = match remote {
        Some(peer) => peer.ip().to_canonical().to_string(),
        // A health check comes from nobody.
        None if ex.connection.local_name.is_empty() => String::new(),
        None => "@".to_owned(),
    };
    put("REMOTE_ADDR", &ip);
    put("REMOTE_HOST", &ip);
    put("REMOTE_PORT", &remote.map_or_else(String::new, |peer| peer.port().to_string()));
    if let Some(local) = ex.connection.local {
        put("SERVER_ADDR", &local.ip().to_canonical().to_string());
    }
    let scheme = ex.scheme();
    let (name, port) = split_host_port(head.host);
    put("REQUEST_SCHEME", scheme);
    put("SERVER_NAME", name);
    put("HTTP_HOST", head.host);
    let usual = if scheme == "https" { "443" } else { "80" };
    put("SERVER_PORT", if port.is_empty() { usual } else { port });
    put("SERVER_PROTOCOL", proto(ex.request.version));
    if let Some(tls) = &ex.connection.tls {
        put("HTTPS", "on");
        put("SSL_PROTOCOL", if tls.version == 0x0304 { "TLSv1.3" } else { "TLSv1.2" });
        put("SSL_CIPHER", tls.cipher_name);
    }
}

/// Header fields as `HTTP_*`. `Proxy` would become the address of a proxy in many programs.
fn fields(put: &mut impl FnMut(&str, &str), headers: &HeaderMap) {
    for name in headers.keys() {
        if matches!(name.as_str(), "proxy" | "host" | "content-length") {
            continue;
        }
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let name = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
        put(&name, &values.join(", "));
    }
}
