//! HTTP-01: the answer to `GET /.well-known/acme-challenge/<token>`; and the files that ZeroSSL's API
//! looks for below `/.well-known/pki-validation/`.

use std::sync::Arc;

use super::{Challenges, Kind};

const FILES: &str = "/.well-known/pki-validation/";
const PREFIX: &str = "/.well-known/acme-challenge/";
const MAX_TOKEN: usize = 256;

impl Challenges {
    /// The answer for a host (without port) and a path, where there is one.
    pub async fn http_answer(&self, host: &str, path: &str) -> Option<String> {
        if path.starts_with(FILES) {
            return self.file_answer(host, path).await;
        }
        let token = path.strip_prefix(PREFIX)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(plain) {
            return None;
        }
        let matches = |kind: &str, other: &str| kind == Kind::Http01.name() && other == token;
        let here = self
            .lock()
            .values()
            .find(|pending| matches(&pending.kind, &pending.token))
            .map(|pending| pending.key_authorization.clone());
        let answer = match here {
            Some(answer) => answer,
            None => {
                let host = host.trim_matches(['[', ']']).to_lowercase();
                let pending = self.elsewhere(&host).await?;
                matches(&pending.kind, &pending.token).then_some(pending.key_authorization)?
            }
        };
        tracing::info!(
            target: "tls.issuance.acme",
            identifier = host,
            challenge = Kind::Http01.name(),
            "served key authentication"
        );
        Some(answer)
    }

    /// Whether such a path is looked for by authorities.
    pub fn is_answer_path(path: &str) -> bool {
        path.starts_with(PREFIX) || path.starts_with(FILES)
    }

    async fn file_answer(&self, host: &str, path: &str) -> Option<String> {
        let host = host.trim_matches(['[', ']']).to_lowercase();
        let pending = match self.here(&host) {
            Some(here) => here,
            None => Arc::new(self.elsewhere(&host).await?),
        };
        let url: http::Uri = pending.url.parse().ok()?;
        // A challenge of another kind has no file.
        if !pending.kind.is_empty() || url.path() != path {
            return None;
        }
        tracing::info!(
            target: "tls.issuance.zerossl",
            identifier = host,
            validation_path = path,
            "served HTTP validation credential"
        );
        Some(pending.token.clone())
    }
}
