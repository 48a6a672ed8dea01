//! `GET /pki/ca/…` (spec A025, A026).

use caddis_tls::{CertManager, timestamp};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;

use super::{Answer, ApiError, json_response};

/// Answers for an authority: its facts, or its certificates as PEM.
pub(crate) fn answer(manager: Option<&CertManager>, path: &str, method: &Method) -> Answer {
    if method != Method::GET {
        let message = format!("method not allowed: {method}");
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let rest = path.strip_prefix("/pki/ca/").unwrap_or_default();
    let (id, certificates) = match rest.split_once('/').unwrap_or((rest, "")) {
        (id, "") if !id.is_empty() && !rest.ends_with('/') => (id, false),
        (id, "certificates") if !id.is_empty() => (id, true),
        _ => {
            let message = format!("resource not found: {path}");
            return Err(ApiError::new(StatusCode::NOT_FOUND, message));
        }
    };
    let missing = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("no certificate authority configured with id: {id}"),
        )
    };
    let manager = manager.ok_or_else(missing)?;
    let authority = manager.pki().authority(id, timestamp::now()).map_err(|_| missing())?;
    let info = authority.info();
    if !certificates {
        let json = serde_json::to_value(info)
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        return Ok(json_response(&json));
    }
    let chain = format!("{}{}", info.intermediate_certificate, info.root_certificate);
    let mut response = http::Response::new(Full::from(chain));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/pem-certificate-chain"),
    );
    Ok(response)
}
