//! Why a request is refused, as clients read it (RFC 8555 §6.7, RFC 7807).

use serde_json::{Value as Json, json};

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The HTTP status.
    pub(super) status: u16,
    /// The last part of the type's URN.
    pub(super) kind: &'static str,
    /// One sentence for people.
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(400, "malformed", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", detail)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, "serverInternal", detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "malformed", "there is no such resource")
    }

    pub(super) fn json(&self) -> Json {
        json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.kind),
            "detail": self.detail,
            "status": self.status,
        })
    }
}
