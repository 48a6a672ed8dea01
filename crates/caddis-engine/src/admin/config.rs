//! `/config/…` and `/id/…`: the config as a tree of JSON (spec A015–A023).

use std::rc::Rc;

use caddis_config::json::{etag, path as json_path};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value as Json;

use super::{Answer, ApiError, ApiRequest, json_body, json_response};
use crate::Engine;

/// Answers for a config path.
pub(crate) async fn config(engine: &Rc<Engine>, request: &ApiRequest, path: &str) -> Answer {
    let edit = match request.method {
        Method::GET => return get(engine, path),
        Method::POST => json_path::Method::Post,
        Method::PUT => json_path::Method::Put,
        Method::PATCH => json_path::Method::Patch,
        Method::DELETE => json_path::Method::Delete,
        _ => {
            let message = format!("method {} not allowed", request.method);
            return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message));
        }
    };
    let body = body(request)?;
    let if_match = request.headers.get(header::IF_MATCH).cloned();
    let force = super::load::must_revalidate(&request.headers);
    engine
        .edit::<ApiError>(force, |config| {
            if let Some(tag) = &if_match {
                let tag = tag.to_str().map_err(|_| ApiError::bad_request("malformed If-Match"))?;
                etag::check_if_match(config, tag)?;
            }
            Ok(json_path::edit(config, edit, path, body)?)
        })
        .await?;
    // The file no longer says what runs.
    engine.set_source(None);
    Ok(http::Response::default())
}

fn get(engine: &Engine, path: &str) -> Answer {
    let running = engine.raw_config();
    let value = json_path::get(running.as_ref().unwrap_or(&Json::Null), path)
        .map_err(|error| ApiError::bad_request(error.message))?;
    let mut response = json_response(&value);
    if let Ok(tag) = HeaderValue::from_str(&etag::etag(path, &value)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn body(request: &ApiRequest) -> Result<Json, ApiError> {
    if request.method == Method::DELETE {
        return Ok(Json::Null);
    }
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.unwrap_or_default().contains("/json") {
        let message = format!(
            "unacceptable content-type: {}; 'application/json' required",
            kind.unwrap_or_default()
        );
        return Err(ApiError::bad_request(message));
    }
    json_body(&request.body)
        .map_err(|message| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message))
}
