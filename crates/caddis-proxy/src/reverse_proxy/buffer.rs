//! `request_buffers` and `response_buffers`: reads ahead up to a limit.

use caddis_core::Body;

/// Reads up to `limit` bytes (all if negative) of a body; one that ends before is whole then.
pub(crate) async fn buffered(body: Body, limit: i64) -> Body {
    if limit == 0 || !matches!(body, Body::Stream(_)) {
        return body;
    }
    body.read_ahead(usize::try_from(limit).unwrap_or(usize::MAX)).await.into_body()
}
