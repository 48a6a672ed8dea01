use std::{sync::Arc, time::Duration};

use caddis_config::ServerLogConfig;
use caddis_core::{Exchange, HttpError, State, Value, metrics::Metrics};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::{AccessLogger, AccessRecord, FailedRequest, Handled, wildcards};
use crate::{Logging, writers::scratch};

fn opened(config: serde_json::Value) -> Arc<Logging> {
    let plan = crate::compile(&serde_json::from_value(config).unwrap()).unwrap();
    Arc::new(crate::open(&plan, &State::default(), &Metrics::default()).unwrap())
}

fn server(config: serde_json::Value, logging: &Arc<Logging>) -> AccessLogger {
    let config: ServerLogConfig = serde_json::from_value(config).unwrap();
    AccessLogger::new(Some(&config), logging)
}

fn exchange() -> Box<Exchange> {
    let mut ex = Exchange::for_test("/a?b=c");
    ex.request.headers.append("x-two", HeaderValue::from_static("1"));
    ex.request.headers.append("x-two", HeaderValue::from_static("2"));
    ex.request.headers.append("cookie", HeaderValue::from_static("secret=1"));
    ex
}

fn record(headers: &HeaderMap) -> AccessRecord<'_> {
    AccessRecord {
        status: 200,
        size: 5,
        bytes_read: 0,
        duration: Duration::from_micros(1500),
        response_headers: headers,
        request_headers: None,
    }
}

#[test]
fn an_entry_is_caddys() {
    let directory = scratch("access-entry");
    let path = directory.join("a.log");
    let logging = opened(json!({"logs": {
        "default": {"exclude": ["http.log.access.log0"]},
        "log0": {
            "writer": {"output": "file", "filename": path},
            "encoder": {"format": "json", "time_key": ""},
            "include": ["http.log.access.log0"],
        },
    }}));
    let logger = server(json!({"default_logger_name": "log0"}), &logging);
    assert!(logger.wants("example.com:80"));
    let mut ex = exchange();
    ex.log.extra.push(("extra".into(), Value::Int(7)));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    logger.log(&ex, &record(&headers));
    ex.nop = true;
    ex.request.headers.clear();
    logger.log(&ex, &record(&HeaderMap::new()));
    ex.log.skip = true;
    logger.log(&ex, &record(&headers));
    assert!(logging.flush(Duration::from_secs(30)));
    let start = "\"request\":{\"remote_ip\":\"127.0.0.1\",\"remote_port\":\"4711\",\
        \"client_ip\":\"127.0.0.1\",\"proto\":\"HTTP/1.1\",\"method\":\"GET\",\
        \"host\":\"example.com\",\"uri\":\"/a?b=c\",\"headers\":{";
    let expected = [
        "{\"level\":\"info\",\"logger\":\"http.log.access.log0\",\"msg\":\"handled request\",",
        start,
        "\"X-Two\":[\"1\",\"2\"],\"Cookie\":[\"REDACTED\"]}},\"bytes_read\":0,\"user_id\":\"\",\
         \"duration\":0.0015,\"size\":5,\"status\":200,\
         \"resp_headers\":{\"Content-Type\":[\"text/plain\"]},\"extra\":7}\n",
        "{\"level\":\"info\",\"logger\":\"http.log.access.log0\",\"msg\":\"NOP\",",
        start,
        "}},\"bytes_read\":0,\"user_id\":\"\",\"duration\":0.0015,\"size\":5,\"status\":0,\
         \"resp_headers\":{},\"extra\":7}\n",
    ];
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected.concat());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn errors_are_logged_by_status() {
    let directory = scratch("access-error");
    let path = directory.join("a.log");
    let logging = opened(json!({"logs": {"default": {
        "writer": {"output": "file", "filename": path},
        "encoder": {"format": "filter", "wrap": {"format": "json", "time_key": ""},
            "fields": {"request": {"filter": "delete"}, "err_id": {"filter": "delete"},
                "first_error>err_id": {"filter": "delete"}}},
        "level": "DEBUG",
    }}}));
    let logger = AccessLogger::new(None, &logging);
    assert!(!logger.wants("example.com"));
    let mut ex = exchange();
    let again = HttpError::new(StatusCode::NOT_IMPLEMENTED, "again");
    for (status, message, handled) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "broken", Handled::No),
        (StatusCode::INTERNAL_SERVER_ERROR, "broken", Handled::Yes),
        (StatusCode::NOT_FOUND, "none", Handled::No),
        (StatusCode::NOT_FOUND, "none", Handled::Failed(&again)),
    ] {
        let error = HttpError::new(status, message);
        ex.enter_error(&error);
        let failed = FailedRequest { error: &error, after: Duration::from_secs(1), handled };
        logger.log_error(&ex, &failed);
    }
    assert!(logging.flush(Duration::from_secs(30)));
    let line = |level: &str, message: &str, status: u16| {
        format!(
            "{{\"level\":\"{level}\",\"logger\":\"http.log.error\",\"msg\":\"{message}\",\
             \"duration\":1,\"status\":{status},\"err_trace\":\"\"}}\n"
        )
    };
    // One entry for an error in the error routes, which tells both.
    let both = "{\"level\":\"error\",\"logger\":\"http.log.error\",\
        \"msg\":\"error handling handler error\",\"duration\":1,\"error\":\"HTTP 501: again\",\
        \"first_error\":{\"msg\":\"none\",\"status\":404,\"err_trace\":\"\"}}\n";
    let expected = line("error", "broken", 500)
        + &line("debug", "broken", 500)
        + &line("debug", "none", 404)
        + both;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn an_empty_name_is_the_logger_itself() {
    let directory = scratch("access-names");
    let path = directory.join("a.log");
    let logging = opened(json!({"logs": {"default": {
        "writer": {"output": "file", "filename": path},
        "encoder": {"format": "filter", "wrap": {"format": "json", "time_key": ""},
            "fields": {"request": {"filter": "delete"}, "resp_headers": {"filter": "delete"}}},
    }}}));
    let logger = server(json!({"default_logger_name": "log0"}), &logging);
    let mut ex = exchange();
    ex.log.names = Some([String::new(), "b".to_owned()].into());
    logger.log(&ex, &record(&HeaderMap::new()));
    assert!(logging.flush(Duration::from_secs(30)));
    let text = std::fs::read_to_string(&path).unwrap();
    let loggers: Vec<_> =
        text.lines().filter_map(|line| line.split('"').nth(7).map(str::to_owned)).collect();
    assert_eq!(loggers, ["http.log.access", "http.log.access.b"]);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn hosts_have_loggers() {
    let logging = opened(json!({"logs": {
        "default": {"exclude": ["http.log.access"]},
        "a": {"include": ["http.log.access.a"]},
    }}));
    let logger = server(
        json!({"default_logger_name": "other", "logger_names": {
            "one.test": ["a", "b"], "*.two.test": ["a"], "*.*": ["w"], "none.test": [""],
        }, "skip_hosts": ["skip.test", "*.skip.test"]}),
        &logging,
    );
    let names =
        |host: &str| logger.targets(host).iter().map(|t| t.access.as_str()).collect::<Vec<_>>();
    assert_eq!(names("one.test"), ["http.log.access.a", "http.log.access.b"]);
    assert_eq!(names("x.two.test"), ["http.log.access.a"]);
    assert_eq!(names("x.y"), ["http.log.access.w"]);
    assert_eq!(names("none.test"), ["http.log.access"]);
    assert_eq!(names("three"), ["http.log.access.other"]);
    assert!(!logger.wants("skip.test:443") && !logger.wants("A.Skip.test"));
    assert!(logger.wants("one.test") && logger.wants("[::1]:80"));
    let unmapped =
        server(json!({"logger_names": {"one.test": "a"}, "skip_unmapped_hosts": true}), &logging);
    assert!(unmapped.wants("one.test:80") && !unmapped.wants("two.test"));
}

#[test]
fn labels_are_replaced_from_the_left() {
    let all = |host: &str| wildcards(host).collect::<Vec<_>>();
    assert_eq!(all("a.b.c"), ["*.b.c", "*.*.c", "*.*.*"]);
    assert_eq!(all("a"), ["*"]);
    assert_eq!(all("a..b"), ["*..b", "*..*"]);
    assert!(all("").is_empty());
}
