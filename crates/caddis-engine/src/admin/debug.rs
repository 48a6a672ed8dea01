//! `/debug/vars` and `/debug/pprof/` (spec A029, A030): of what Go's run time tells there, as much as
//! there is without one.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value as Json, json};

use super::{Answer, ApiError, ApiResponse};

/// Names below `/debug/pprof/`, with what answers the question here.
const PROFILES: [(&str, &str); 10] = [
    ("allocs", "`perf record -e page-faults -g -p PID`, or heaptrack"),
    ("block", "`perf trace -p PID`"),
    ("goroutine", "`gdb -p PID -batch -ex 'thread apply all backtrace'`"),
    ("goroutineleak", "`gdb -p PID -batch -ex 'thread apply all backtrace'`"),
    (
        "heap",
        "/debug/vars and process_resident_memory_bytes of /metrics for amounts, heaptrack for places",
    ),
    ("mutex", "`perf trace -p PID -e futex`"),
    ("profile", "`perf record -g -p PID -- sleep 30`, then `perf report`"),
    ("symbol", "`perf report`, which finds symbols by itself"),
    ("threadcreate", "`ls /proc/PID/task`"),
    ("trace", "`perf trace -p PID`, or the `tracing` directive for requests"),
];

/// The variables, in the form of Go's `expvar`.
pub(super) fn vars() -> ApiResponse {
    let cmdline: Vec<_> = arguments().collect();
    let text = format!("{{\n\"cmdline\": {},\n\"memstats\": {}\n}}\n", json!(cmdline), memory());
    with_type(text, "application/json; charset=utf-8")
}

/// A profile, or the list of them (an empty name).
pub(super) fn profile(name: &str) -> Answer {
    if name.is_empty() {
        return Ok(index());
    }
    if name == "cmdline" {
        let all: Vec<_> = arguments().collect();
        return Ok(with_type(all.join("\0"), "text/plain; charset=utf-8"));
    }
    let Some((_, instead)) = PROFILES.iter().find(|(known, _)| *known == name) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("unknown profile: {name}")));
    };
    let instead = instead.replace("PID", &std::process::id().to_string());
    let message =
        format!("there is no run time of Go to take the profile {name:?} of; see {instead}");
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message))
}

fn index() -> ApiResponse {
    let id = std::process::id().to_string();
    let rows = PROFILES.iter().map(|(name, instead)| {
        format!("<tr><td>{name}</td><td>{}</td></tr>\n", instead.replace("PID", &id))
    });
    let text = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>/debug/pprof/</title></head>\n\
         <body>\n<p>This server has no run time of Go. <a href=\"cmdline\">cmdline</a> is the same \
         as there; the other profiles are taken from outside:</p>\n<table>\n{}</table>\n</body></html>\n",
        rows.collect::<String>()
    );
    with_type(text, "text/html; charset=utf-8")
}

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned())
}

/// Amounts under Go's names, in bytes, as far as the system tells them. What only a garbage
/// collector has is zero, and what nobody counts here (allocations) is left out.
fn memory() -> Json {
    let told = caddis_core::process::status_bytes;
    let mut all = Map::new();
    let mut add = |names: &[&str], amount: Option<u64>| {
        for name in names {
            if let Some(amount) = amount {
                all.insert((*name).to_owned(), amount.into());
            }
        }
    };
    add(&["Alloc", "HeapAlloc", "HeapInuse"], told("RssAnon"));
    add(&["Sys"], told("VmRSS"));
    add(&["HeapSys"], told("VmData"));
    add(&["StackInuse", "StackSys"], told("VmStk"));
    add(&["NextGC", "LastGC", "PauseTotalNs", "NumGC", "NumForcedGC", "GCSys"], Some(0));
    all.insert("EnableGC".to_owned(), false.into());
    all.into()
}

fn with_type(text: String, kind: &'static str) -> ApiResponse {
    let mut response = Response::new(Full::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn variables_are_json() {
        let body = vars().into_body().collect().await.unwrap().to_bytes();
        let json: Json = serde_json::from_slice(&body).unwrap();
        assert!(json["cmdline"].as_array().is_some_and(|words| !words.is_empty()), "{json}");
        assert!(json["memstats"]["Alloc"].as_u64().is_some_and(|bytes| bytes > 0), "{json}");
        assert_eq!(json["memstats"]["NumGC"], 0);
    }

    #[test]
    fn profiles_say_what_there_is() {
        assert_eq!(profile("").unwrap().status(), 200);
        assert_eq!(profile("cmdline").unwrap().status(), 200);
        let refused = profile("heap").unwrap_err();
        assert_eq!(refused.status, 501);
        assert!(refused.message.contains("heaptrack"), "{}", refused.message);
        assert_eq!(profile("nope").unwrap_err().status, 404);
    }
}
