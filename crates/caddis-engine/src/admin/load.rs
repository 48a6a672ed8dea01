//! `POST /load` and `POST /adapt` (spec A013, A024).

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::Full;
use serde_json::Value as Json;

use super::{
    Answer, ApiError, ApiRequest, in_full, json_body, json_text, media_type, method_not_allowed,
};
use crate::{Engine, generation::LoadError};

/// Replaces the whole config.
pub(crate) async fn load(engine: &Rc<Engine>, request: &ApiRequest) -> Answer {
    if request.method != Method::POST {
        return Err(method_not_allowed());
    }
    let (config, warnings) = decode(engine, request)?;
    if let Err(error) = engine.load(config, must_revalidate(&request.headers)).await {
        return Err(refused(engine, request, error));
    }
    // `caddis reload` of the same file is a config of that file still.
    let header = |name: &str| {
        let value = request.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let same = engine.source().is_some_and(|source| {
        source.file == header("caddy-config-source-file")
            && source.adapter == header("caddy-config-source-adapter")
    });
    if !same {
        engine.set_source(None);
    }
    tracing::info!(target: "admin.api", "load complete");
    if warnings.is_empty() {
        return Ok(http::Response::default());
    }
    // As Caddy writes them: without a newline, and of the type that Go guesses.
    let mut response = http::Response::new(Full::from(text_of(&Json::from(warnings))));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

fn text_of(json: &Json) -> String {
    // A JSON tree has only string keys, so writing it cannot fail.
    caddis_config::json::write::to_string(json).unwrap_or_default()
}

/// The answer to a config that is refused; one that was adapted names the places of its text.
fn refused(engine: &Engine, request: &ApiRequest, error: LoadError) -> ApiError {
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = media_type::parse(kind.unwrap_or_default()).unwrap_or_default();
    let (message, findings) = match kind.split_once('/') {
        Some((_, adapter)) if !kind.ends_with("/json") => {
            let why = (engine.options.hooks.explain)(adapter, &request.body, &error);
            (why.message, why.findings)
        }
        _ => (error.to_string(), Vec::new()),
    };
    let error = ApiError::bad_request(format!("loading config: {}", in_full(&message)));
    ApiError { findings, ..error }
}

/// Adapts a config without loading it.
pub(crate) fn adapt(engine: &Rc<Engine>, request: &ApiRequest) -> Answer {
    if request.method != Method::POST {
        return Err(method_not_allowed());
    }
    let (result, warnings) = decode(engine, request)?;
    let warnings = match warnings.is_empty() {
        true => String::new(),
        false => format!("\"warnings\":{},", text_of(&Json::from(warnings))),
    };
    Ok(json_text(format!("{{{warnings}\"result\":{}}}\n", text_of(&result))))
}

/// Whether the client wants a reload even of an unchanged config.
pub(crate) fn must_revalidate(headers: &HeaderMap) -> bool {
    headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "must-revalidate")
}

/// The body as a config, by its content type.
fn decode(engine: &Engine, request: &ApiRequest) -> Result<(Json, Vec<Json>), ApiError> {
    let kind = match request.headers.get(header::CONTENT_TYPE) {
        None => "",
        Some(value) => value.to_str().map_err(|_| ApiError::bad_request("invalid Content-Type"))?,
    };
    adapt_by_type(engine, kind, &request.body)
}

/// A text as a config, by its content type, with warnings.
pub(crate) fn adapt_by_type(
    engine: &Engine,
    kind: &str,
    body: &[u8],
) -> Result<(Json, Vec<Json>), ApiError> {
    let kind = match kind {
        "" => "application/json".to_owned(),
        kind => media_type::parse(kind)
            .map_err(|error| ApiError::bad_request(format!("invalid Content-Type: {error}")))?,
    };
    if kind.ends_with("/json") {
        let config = json_body(body)
            .map_err(|error| ApiError::bad_request(format!("loading config: {error}")))?;
        return Ok((config, Vec::new()));
    }
    let Some((_, adapter)) = kind.split_once('/') else {
        return Err(ApiError::bad_request("malformed Content-Type"));
    };
    (engine.options.hooks.adapt)(adapter, body).map_err(|why| {
        let message = match why.message.starts_with("unrecognized config adapter") {
            true => why.message,
            false => format!("adapting config using {adapter} adapter: {}", why.message),
        };
        ApiError { findings: why.findings, ..ApiError::bad_request(message) }
    })
}
