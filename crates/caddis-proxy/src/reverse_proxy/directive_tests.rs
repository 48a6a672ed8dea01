//! The directive: from text to JSON.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, tokenize};
use caddis_core::{Helper, directive::AdaptState};
use serde_json::{Value, json};

use super::directive::parse;
use crate::testing::registry;

fn read(text: &str) -> Result<Value, String> {
    let registry = registry();
    let options = BTreeMap::new();
    let mut shared = AdaptState::default();
    let tokens = tokenize("Caddyfile", text).expect("tokens");
    let mut helper = Helper {
        d: Dispenser::new(tokens),
        registry: &registry,
        matchers: Default::default(),
        options: &options,
        shared: &mut shared,
        keys: &[],
    };
    parse(&mut helper).map_err(|error| error.to_string())
}

#[track_caller]
fn gives(text: &str, want: Value) {
    let mut want = want;
    want["handler"] = "reverse_proxy".into();
    assert_eq!(read(text).expect(text), want, "{text}");
}

#[track_caller]
fn fails(text: &str, sentence: &str) {
    let error = read(text).expect_err(text);
    assert!(error.contains(sentence), "{text}: {error}");
}

#[test]
fn upstreams_and_schemes() {
    gives("reverse_proxy", json!({}));
    gives("reverse_proxy a b:1", json!({"upstreams": [{"dial": "a:80"}, {"dial": "b:1"}]}));
    gives(
        "reverse_proxy https://a {\n to https://b\n}",
        json!({
            "upstreams": [{"dial": "a:443"}, {"dial": "b:443"}],
            "transport": {"protocol": "http", "tls": {}}
        }),
    );
    gives(
        "reverse_proxy h2c://a:1",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "transport": {"protocol": "http", "versions": ["h2c", "2"]}
        }),
    );
    gives("reverse_proxy a:1 {\n transport http\n}", json!({"upstreams": [{"dial": "a:1"}]}));
    fails("reverse_proxy http://a/b", "parsing upstream 'http://a/b'");
    fails("reverse_proxy http://a https://b", "must use the same scheme");
    fails("reverse_proxy wss://a", "use https:// instead");
    fails("reverse_proxy ftp://a", "unsupported URL scheme ftp://");
    fails("reverse_proxy http://a {\n transport http {\n tls\n }\n}", "HTTP+TLS");
    fails("reverse_proxy https://a {\n transport fastcgi\n}", "does not support TLS");
}

#[test]
fn weights_beside_addresses() {
    let weighted = |upstreams: Value, weights: Value| {
        json!({
            "upstreams": upstreams,
            "load_balancing": {"selection_policy": {
                "policy": "weighted_round_robin", "weights": weights}}
        })
    };
    let two = json!([{"dial": "a:1"}, {"dial": "b:2"}]);
    for text in [
        "reverse_proxy {\n to a:1 2\n to b:2 1\n lb_policy weighted_round_robin\n}",
        "reverse_proxy {\n lb_policy weighted_round_robin\n to a:1 2 b:2 1\n}",
        "reverse_proxy a:1 2 {\n to b:2 1\n lb_policy weighted_round_robin\n}",
        "reverse_proxy a:1 b:2 {\n lb_policy weighted_round_robin 2 1\n}",
    ] {
        gives(text, weighted(two.clone(), json!([2, 1])));
    }
    gives(
        "reverse_proxy {\n to a:1-2 3\n lb_policy weighted_round_robin\n}",
        weighted(json!([{"dial": "a:1"}, {"dial": "a:2"}]), json!([3, 3])),
    );
    fails(
        "reverse_proxy a:1 2 b:2 {\n lb_policy weighted_round_robin\n}",
        "1 of 2 upstreams have a weight",
    );
    fails("reverse_proxy a:1 {\n lb_policy weighted_round_robin\n}", "wrong argument count");
    // Elsewhere a number is an address, as in Caddy.
    gives(
        "reverse_proxy a:1 2 {\n lb_policy first\n}",
        json!({
            "upstreams": [{"dial": "a:1"}, {"dial": "2:80"}],
            "load_balancing": {"selection_policy": {"policy": "first"}}
        }),
    );
}

#[test]
fn balancing_and_checks() {
    gives(
        "reverse_proxy a:1 {
            lb_policy cookie lb secret {
                max_age 2h
                fallback first
            }
            lb_retries 3
            lb_try_duration 5s
            lb_retry_match method POST
            lb_retry_match {
                method PUT
                path /x
            }
            health_uri /up
            health_status 2xx
            health_headers {
                X-A 1 2
            }
            unhealthy_status 5xx 429
            max_fails 2
        }",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "load_balancing": {
                "selection_policy": {
                    "policy": "cookie", "name": "lb", "secret": "secret",
                    "max_age": 7_200_000_000_000_u64, "fallback": {"policy": "first"}
                },
                "retries": 3,
                "try_duration": 5_000_000_000_u64,
                "retry_match": [{"method": ["POST"]}, {"method": ["PUT"], "path": ["/x"]}]
            },
            "health_checks": {
                "active": {"uri": "/up", "expect_status": 2, "headers": {"X-A": ["1", "2"]}},
                "passive": {"unhealthy_status": [5, 429], "max_fails": 2}
            }
        }),
    );
    fails("reverse_proxy a {\n lb_policy fastest\n}", "module not registered");
    fails("reverse_proxy a {\n lb_policy first\n lb_policy first\n}", "already specified");
    fails("reverse_proxy a {\n lb_retries x\n}", "bad lb_retries number 'x'");
    fails("reverse_proxy a {\n health_upstream a\n}", "health_upstream is malformed");
    fails("reverse_proxy a {\n lb_retry_match nope 1\n}", "getting matcher module 'nope'");
    fails("reverse_proxy a {\n nope\n}", "unrecognized subdirective nope");
    fails("reverse_proxy a {\n fail_duration x\n}", "bad duration value 'x'");
}

#[test]
fn headers_and_rewriting() {
    gives(
        "reverse_proxy a:1 {
            header_up Host x
            header_up +X-A 1
            header_up -X-B
            header_down Location http: https:
            method GET
            rewrite /x
            request_buffers 4KB
            response_buffers unlimited
            flush_interval -1
            trusted_proxies 10.0.0.0/8
            verbose_logs
        }",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "headers": {
                "request": {"set": {"Host": ["x"]}, "add": {"X-A": ["1"]}, "delete": ["X-B"]},
                "response": {"replace": {"Location": [
                    {"search_regexp": "http:", "replace": "https:"}]}}
            },
            "rewrite": {"method": "GET", "uri": "/x"},
            "request_buffers": 4000,
            "response_buffers": -1,
            "flush_interval": -1,
            "trusted_proxies": ["10.0.0.0/8"],
            "verbose_logs": true
        }),
    );
    fails("reverse_proxy a {\n header_up ?X 1\n}", "can only be used on response headers");
    fails("reverse_proxy a {\n header_up\n}", "wrong argument count");
}

#[test]
fn transports() {
    gives(
        "reverse_proxy a:1 {
            transport http {
                versions 1.1
                keepalive off
                keepalive_idle_conns_per_host 2
                compression off
                tls_server_name x
                tls_trust_pool file a.pem {
                    pem_file b.pem
                }
                network_proxy none
            }
        }",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "transport": {
                "protocol": "http", "versions": ["1.1"], "compression": false,
                "keep_alive": {"enabled": false, "max_idle_conns_per_host": 2},
                "tls": {"server_name": "x",
                        "ca": {"provider": "file", "pem_files": ["a.pem", "b.pem"]}},
                "network_proxy": {"from": "none"}
            }
        }),
    );
    gives(
        "reverse_proxy a:1 {\n transport fastcgi {\n root /x\n split .php\n env A b\n }\n}",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "transport": {
                "protocol": "fastcgi", "root": "/x", "split_path": [".php"], "env": {"A": "b"}}
        }),
    );
    fails("reverse_proxy a {\n transport grpc\n}", "module not registered");
    fails("reverse_proxy a {\n transport http {\n nope\n }\n}", "unrecognized subdirective nope");
}

#[test]
fn responses() {
    gives(
        "reverse_proxy a:1 {
            @bad status 5xx
            replace_status 299
            replace_status @bad 500
            handle_response {
                respond x
            }
        }",
        json!({
            "upstreams": [{"dial": "a:1"}],
            "handle_response": [
                {"match": {"status_code": [5]}, "status_code": 500},
                {"status_code": 299},
                {}
            ]
        }),
    );
    fails("reverse_proxy a {\n replace_status @x 500\n}", "no named response matcher defined");
    fails("reverse_proxy a {\n handle_response x {\n }\n}", "must use a named response matcher");
    fails("reverse_proxy a {\n handle_response @a b {\n }\n}", "too many arguments");
}
