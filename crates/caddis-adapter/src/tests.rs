//! Whole files through all passes, with a registry of a few plain directives.

use caddis_caddyfile::{Dispenser, MemoryLoader, Result as ParseResult};
use caddis_core::{CompileCx, Directive, DirectiveKind, Helper, Matcher, MatcherModule, Registry};
use serde_json::{Value as Json, json};

use crate::{Adapted, DIRECTIVES, adapt, parse_routes};

static RESPOND: Directive =
    Directive { name: "respond", kind: DirectiveKind::Handler(respond), ordered: true };
static REWRITE: Directive =
    Directive { name: "rewrite", kind: DirectiveKind::Handler(rewrite), ordered: true };
static VARS: Directive =
    Directive { name: "vars", kind: DirectiveKind::Handler(vars), ordered: true };

fn arg(h: &mut Helper<'_>) -> ParseResult<String> {
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    Ok(h.d.val().to_owned())
}

fn respond(h: &mut Helper<'_>) -> ParseResult<Json> {
    Ok(json!({ "handler": "static_response", "body": arg(h)? }))
}

fn rewrite(h: &mut Helper<'_>) -> ParseResult<Json> {
    Ok(json!({ "handler": "rewrite", "uri": arg(h)? }))
}

fn vars(h: &mut Helper<'_>) -> ParseResult<Json> {
    Ok(json!({ "handler": "vars", "x": arg(h)? }))
}

fn list(d: &mut Dispenser) -> ParseResult<Json> {
    let mut all = d.remaining_args();
    while d.next() {
        all.extend(d.remaining_args());
    }
    Ok(all.into())
}

fn no_matcher(
    _: &Json,
    _: &mut CompileCx<'_>,
) -> Result<Box<dyn Matcher>, caddis_config::ConfigError> {
    Err(caddis_config::ConfigError::new("", "not compiled here"))
}

static PATH: MatcherModule =
    MatcherModule { id: "http.matchers.path", parse: list, compile: no_matcher };
static HOST: MatcherModule =
    MatcherModule { id: "http.matchers.host", parse: list, compile: no_matcher };

pub(crate) fn registry() -> Registry {
    let mut directives: Vec<&'static Directive> = vec![&VARS, &REWRITE];
    directives.extend(DIRECTIVES.iter().filter(|directive| directive.ordered));
    directives.push(&RESPOND);
    directives.extend(DIRECTIVES.iter().filter(|directive| !directive.ordered));
    Registry {
        directives,
        handlers: Vec::new(),
        matchers: vec![&PATH, &HOST],
        other_ids: Vec::new(),
        parse_routes,
    }
}

fn run(text: &str) -> Result<Adapted, Vec<String>> {
    let loader = MemoryLoader::default();
    let (file, found) = caddis_caddyfile::parse("Caddyfile", text.as_bytes(), &loader);
    assert!(found.is_empty(), "{found:?}");
    let shown = |errors: Vec<caddis_caddyfile::Diagnostic>| {
        errors.iter().map(|error| error.to_string()).collect()
    };
    adapt(&file, &registry()).map_err(shown)
}

fn adapted(text: &str) -> Json {
    match run(text) {
        Ok(adapted) => serde_json::to_value(&adapted.config).unwrap(),
        Err(errors) => panic!("{errors:?}"),
    }
}

fn errors(text: &str) -> Vec<String> {
    run(text).unwrap_err()
}

fn body(text: &str) -> Json {
    json!({ "handler": "static_response", "body": text })
}

#[test]
fn a_lone_catch_all_site_is_inlined() {
    assert_eq!(
        adapted(":8080\nrespond hi\n"),
        json!({ "apps": { "http": { "servers": { "srv0": {
            "listen": [":8080"],
            "routes": [{ "handle": [body("hi")] }],
        } } } } })
    );
}

#[test]
fn nothing_gives_nothing() {
    assert_eq!(adapted(""), json!({}));
}

#[test]
fn sites_are_sorted_and_wrapped() {
    let config = adapted("*.a.com {\n\trespond wild\n}\nb.a.com {\n\trespond b\n}\n");
    let routes = &config["apps"]["http"]["servers"]["srv0"]["routes"];
    assert_eq!(routes[0]["match"], json!([{ "host": ["b.a.com"] }]));
    assert_eq!(routes[0]["terminal"], json!(true));
    assert_eq!(routes[1]["match"], json!([{ "host": ["*.a.com"] }]));
}

#[test]
fn directives_are_sorted_and_grouped() {
    let config = adapted(
        ":80 {\n\trespond end\n\thandle /a* {\n\t\trespond a\n\t}\n\thandle /abc* {\n\t\trespond abc\n\t}\n\trewrite * /x\n}\n",
    );
    let routes = &config["apps"]["http"]["servers"]["srv0"]["routes"];
    let handler = |at: usize| routes[at]["handle"][0]["handler"].as_str();
    assert_eq!(handler(0), Some("rewrite"));
    assert_eq!(routes[1]["match"], json!([{ "path": ["/abc*"] }]));
    assert_eq!(routes[1]["group"], routes[2]["group"]);
    assert_ne!(routes[0]["group"], routes[1]["group"]);
    assert_eq!(routes[3]["handle"], json!([body("end")]));
}

#[test]
fn vars_come_out_reversed() {
    let config = adapted(":80 {\n\tvars a\n\tvars b\n}\n");
    let handlers = &config["apps"]["http"]["servers"]["srv0"]["routes"][0]["handle"];
    assert_eq!((&handlers[0]["x"], &handlers[1]["x"]), (&json!("b"), &json!("a")));
}

#[test]
fn named_matchers_and_named_routes() {
    let config = adapted(
        "&(r) {\n\trespond r\n}\n:80 {\n\t@m {\n\t\tpath /a\n\t\thost b\n\t\tpath /c\n\t}\n\troute @m {\n\t\tinvoke r\n\t\trewrite {path}\n\t}\n}\n",
    );
    let server = &config["apps"]["http"]["servers"]["srv0"];
    assert_eq!(server["named_routes"], json!({ "r": { "handle": [body("r")] } }));
    let set = json!([{ "host": ["b"], "path": ["/a", "/c"] }]);
    let inner = &server["routes"][0]["handle"][0]["routes"][0];
    assert_eq!(inner["match"], set);
    let handlers = &inner["handle"][0]["routes"];
    assert_eq!(handlers[0]["handle"], json!([{ "handler": "invoke", "name": "r" }]));
    assert_eq!(handlers[1]["handle"][0]["uri"], json!("{http.request.uri.path}"));
}

#[test]
fn mistakes_are_collected_and_helped() {
    let loader = MemoryLoader::default();
    let text = "{\n\tdebgu\n}\na.com {\n\trespon hi\n\trespond\n}\n";
    let (file, _) = caddis_caddyfile::parse("Caddyfile", text.as_bytes(), &loader);
    let found = adapt(&file, &registry()).unwrap_err();
    let sentences: Vec<String> = found.iter().map(|error| error.to_string()).collect();
    assert_eq!(
        sentences,
        [
            "Caddyfile:2: unrecognized global option: debgu",
            "Caddyfile:5: unrecognized directive: respon",
            "parsing caddyfile tokens for 'respond': wrong argument count or unexpected line ending after 'respond', at Caddyfile:6",
        ]
    );
    assert_eq!(found[0].help.as_deref(), Some("did you mean `debug`?"));
    assert_eq!(found[1].help.as_deref(), Some("did you mean `respond`?"));
}

#[test]
fn nested_mistakes_name_their_blocks() {
    let found = errors("a.com {\n\thandle {\n\t\tnothing\n\t}\n}\n");
    assert_eq!(
        found,
        [
            "parsing caddyfile tokens for 'handle': unrecognized directive: nothing - are you sure your Caddyfile structure (nesting and braces) is correct?, at Caddyfile:4"
        ]
    );
}

#[test]
fn sites_that_cannot_be_put_together() {
    assert_eq!(errors("a.com {\n}\na.com {\n}\n"), ["ambiguous site definition: a.com"]);
    let mixed = errors("http://a.com:8080 {\n}\nhttps://b.com:8080 {\n}\n");
    assert_eq!(
        mixed,
        [
            "server listening on [:8080] is configured for HTTP and cannot natively multiplex HTTP and HTTPS: https://b.com:8080"
        ]
    );
    assert_eq!(
        errors("respond {\n}\n"),
        [
            "Caddyfile:1: parsed 'respond' as a site address, but it is a known directive; directives must appear in a site block"
        ]
    );
}

#[test]
fn tls_settings_make_policies() {
    let config = adapted("a.com {\n\ttls internal {\n\t\talpn h2\n\t}\n}\n");
    let server = &config["apps"]["http"]["servers"]["srv0"];
    assert_eq!(
        server["tls_connection_policies"],
        json!([{ "match": { "sni": ["a.com"] }, "alpn": ["h2"] }, {}])
    );
    assert_eq!(
        config["apps"]["tls"]["automation"]["policies"],
        json!([{ "subjects": ["a.com"], "issuers": [{ "module": "internal" }] }])
    );
}

#[test]
fn logs_get_names_and_hosts() {
    let config = adapted("a.com {\n\tlog {\n\t\toutput stdout\n\t}\n}\nb.com {\n}\n");
    assert_eq!(
        config["logging"]["logs"],
        json!({
            "default": { "exclude": ["http.log.access.log0"] },
            "log0": { "writer": { "output": "stdout" }, "include": ["http.log.access.log0"] },
        })
    );
    let logs = &config["apps"]["http"]["servers"]["srv0"]["logs"];
    assert_eq!(logs, &json!({ "logger_names": { "a.com": ["log0"] }, "skip_hosts": ["b.com"] }));
}

#[test]
fn routes_have_origins() {
    let text = "a.com {\n\trespond hi\n}\n:8080 {\n\trespond ho\n}\n";
    let origins = run(text).unwrap().origins;
    let at =
        |path: &str| origins.find(path).map(|span| &text[span.start as usize..span.end as usize]);
    assert_eq!(at("apps.http.servers.srv0.routes.0.match.0"), Some("a.com"));
    assert_eq!(at("apps.http.servers.srv0.routes.0.handle.0.routes.0.handle.0"), Some("respond"));
    assert_eq!(at("apps.http.servers.srv1.routes.0.handle.0.body"), Some("respond"));
    assert_eq!(at("apps.http.servers.srv1.listen"), Some(":8080"));
    assert_eq!(at("logging"), None);
}

#[test]
fn deep_blocks_do_no_harm() {
    let depth = 240;
    let text =
        format!(":80 {{\n{}respond x\n{}}}\n", "handle {\n".repeat(depth), "}\n".repeat(depth));
    assert!(run(&text).is_ok());
}

#[test]
fn global_options_go_where_they_belong() {
    let config = adapted(
        "{\n\tadmin off\n\tdebug\n\thttp_port 8080\n\tgrace_period 5s\n\tstorage file_system /data\n\tmetrics {\n\t\tper_host\n\t}\n\tpersist_config off\n\tskip_install_trust\n\tservers :8080 {\n\t\tname web\n\t\ttimeouts {\n\t\t\tidle 1m\n\t\t}\n\t\ttrusted_proxies static 10.0.0.0/8\n\t}\n}\nhttp://a.com {\n}\n",
    );
    assert_eq!(config["admin"], json!({ "disabled": true, "config": { "persist": false } }));
    assert_eq!(config["logging"]["logs"], json!({ "default": { "level": "DEBUG" } }));
    assert_eq!(config["storage"], json!({ "module": "file_system", "root": "/data" }));
    let http = &config["apps"]["http"];
    assert_eq!(
        (&http["http_port"], &http["grace_period"]),
        (&json!(8080), &json!(5_000_000_000_u64))
    );
    assert_eq!(http["metrics"], json!({ "per_host": true }));
    let server = &http["servers"]["web"];
    assert_eq!(server["listen"], json!([":8080"]));
    assert_eq!(server["idle_timeout"], json!(60_000_000_000_u64));
    assert_eq!(server["trusted_proxies"], json!({ "source": "static", "ranges": ["10.0.0.0/8"] }));
    assert_eq!(
        config["apps"]["pki"]["certificate_authorities"],
        json!({ "local": { "install_trust": false } })
    );
}

#[test]
fn the_order_option_moves_directives() {
    let config = adapted("{\n\torder respond first\n}\n:80 {\n\tvars a\n\trespond hi\n}\n");
    let handlers = &config["apps"]["http"]["servers"]["srv0"]["routes"][0]["handle"];
    assert_eq!(handlers[0], body("hi"));
}

#[test]
fn listeners_that_serve_the_same_are_one_server() {
    let config = adapted(
        "a.com {\n\tbind 127.0.0.1 [::1]\n\trespond a\n}\nb.com, http://b.com {\n\trespond b\n}\n",
    );
    let servers = &config["apps"]["http"]["servers"];
    assert_eq!(servers["srv0"]["listen"], json!(["127.0.0.1:443", "[::1]:443"]));
    assert_eq!(servers["srv1"]["listen"], json!([":443"]));
    assert_eq!(servers["srv2"]["listen"], json!([":80"]));
}

#[test]
fn public_and_internal_names_get_own_policies() {
    let config = adapted("a.com, localhost {\n\ttls {\n\t\tkey_type p384\n\t}\n}\n");
    assert_eq!(
        config["apps"]["tls"]["automation"]["policies"],
        json!([
            { "subjects": ["a.com"], "key_type": "p384" },
            { "subjects": ["localhost"], "key_type": "p384", "issuers": [{ "module": "internal" }] },
        ])
    );
}

#[test]
fn global_acme_options_reach_the_issuers() {
    let config = adapted("{\n\temail a@b.c\n\tacme_ca https://ca\n}\na.com {\n}\n");
    assert_eq!(
        config["apps"]["tls"]["automation"]["policies"],
        json!([{ "issuers": [{ "module": "acme", "ca": "https://ca", "email": "a@b.c" }] }])
    );
}

#[test]
fn storages_of_fleets_take_the_options_of_the_plugins() {
    let storage =
        |text: &str| adapted(&format!("{{\n\tstorage {text}\n}}\n:80 {{\n}}\n"))["storage"].clone();
    assert_eq!(storage("redis"), json!({ "module": "redis" }));
    assert_eq!(
        storage(
            "redis failover {\n\t\taddress {\n\t\t\ta:1\n\t\t\tb:2\n\t\t}\n\t\thost a b\n\t\tport 1\n\t\tdb 2\n\t\taes_key k\n\t\tcompression true\n\t\ttls_enabled 1\n\t}"
        ),
        json!({ "module": "redis", "client_type": "failover", "address": ["a:1", "b:2"],
            "host": ["a", "b"], "port": ["1"], "db": "2", "encryption_key": "k",
            "compression": "flate", "tls_enabled": true })
    );
    assert_eq!(
        storage("postgres {\n\t\thost h\n\t\tdisable_ddl false\n\t\tlock_timeout 5s\n\t}"),
        json!({ "module": "postgres", "host": "h", "disable_ddl": false,
            "lock_timeout": 5_000_000_000_i64 })
    );
    assert_eq!(
        storage("s3 {\n\t\thost h\n\t\tbucket b\n\t\tinsecure {env.X}\n\t}"),
        json!({ "module": "s3", "host": "h", "bucket": "b", "insecure": "{env.X}" })
    );
    for (text, want) in [
        ("redis {\n\t\thosts x\n\t}", "unknown configuration key: hosts"),
        ("redis {\n\t\tdb\n\t}", "no value supplied for configuration key 'db'"),
        ("redis {\n\t\tdb 1 2\n\t}", "'db' takes one value"),
        ("redis {\n\t\ttls_enabled maybe\n\t}", "invalid boolean value for 'tls_enabled': maybe"),
        ("redis {\n\t\tcompression gzip\n\t}", "invalid value for 'compression': gzip"),
        ("redis single", "wrong argument count"),
        ("postgres {\n\t\tquery_timeout x\n\t}", "invalid duration for 'query_timeout'"),
    ] {
        let errors = errors(&format!("{{\n\tstorage {text}\n}}\n:80 {{\n}}\n"));
        assert!(errors.iter().any(|error| error.to_lowercase().contains(want)), "{errors:?}");
    }
}

#[test]
fn error_routes_for_certain_statuses_come_first() {
    let config = adapted(
        ":80 {\n\thandle_errors {\n\t\trespond all\n\t}\n\thandle_errors 404 {\n\t\trespond one\n\t}\n}\n",
    );
    let routes = &config["apps"]["http"]["servers"]["srv0"]["errors"]["routes"];
    assert_eq!(routes[0]["match"], json!([{ "expression": "{http.error.status_code} in [404]" }]));
    assert!(routes[1].get("match").is_none());
}

#[test]
fn try_files_with_queries_are_one_group() {
    let config = adapted(":80 {\n\ttry_files {path} /a?b /c\n}\n");
    let routes = &config["apps"]["http"]["servers"]["srv0"]["routes"];
    assert_eq!(
        routes[0]["match"],
        json!([{ "file": { "try_files": ["{http.request.uri.path}"] } }])
    );
    assert_eq!(routes[1]["handle"][0]["uri"], json!("{http.matchers.file.relative}?b"));
    assert_eq!(routes[0]["group"], routes[2]["group"]);
}

#[test]
fn log_blocks() {
    let config = adapted(
        "{\n\tlog x {\n\t\toutput file /l {\n\t\t\troll_size 1MiB\n\t\t\tmode 640\n\t\t\troll_keep_for 25h\n\t\t}\n\t\tformat filter {\n\t\t\twrap json\n\t\t\ta regexp p v\n\t\t\ta regexp q w\n\t\t\tb ip_mask 16\n\t\t}\n\t\tlevel ERROR\n\t}\n}\n",
    );
    assert_eq!(
        config["logging"]["logs"]["x"],
        json!({
            "writer": {
                "output": "file",
                "filename": "/l",
                "roll_size_mb": 1,
                "mode": "0640",
                "roll_keep_days": 2,
            },
            "encoder": {
                "format": "filter",
                "wrap": { "format": "json" },
                "fields": {
                    "a": {
                        "filter": "multi_regexp",
                        "operations": [
                            { "regexp": "p", "value": "v" },
                            { "regexp": "q", "value": "w" },
                        ],
                    },
                    "b": { "filter": "ip_mask", "ipv4_cidr": 16 },
                },
            },
            "level": "ERROR",
        })
    );
}

#[test]
fn words_that_do_not_exist() {
    for (text, sentence) in [
        ("a.com {\n\tinvoke x\n}\n", "cannot invoke named route 'x', which was not defined"),
        (
            "a.com {\n\ttls {\n\t\tissuer acne\n\t}\n}\n",
            "parsing caddyfile tokens for 'tls': getting module named 'tls.issuance.acne': module not registered: tls.issuance.acne, at Caddyfile:3",
        ),
        (
            "a.com {\n\t@m pth /\n}\n",
            "getting matcher module 'pth': module not registered: http.matchers.pth",
        ),
        (
            "ftp://a.com {\n}\n",
            "server block 0, key 0 (ftp://a.com): determining listener address: unsupported URL scheme ftp://",
        ),
        (
            "a.com {\n\thandle {\n\t\tbind x\n\t}\n}\n",
            "parsing caddyfile tokens for 'handle': directive 'bind' is not an ordered HTTP handler, so it cannot be used here - try placing within a route block or using the order global option",
        ),
        (
            "{\n\tlocal_certs\n\tcert_issuer internal\n}\na.com {\n}\n",
            "global options are ambiguous: local_certs is confusing when combined with cert_issuer, because local_certs is also a specific kind of issuer",
        ),
    ] {
        assert_eq!(errors(text), [sentence], "{text}");
    }
}

#[test]
fn text_is_the_same_as_the_config_written() {
    for text in [
        "a.com {\n\trespond \"\\\"x\\\"\"\n\thandle /a {\n\t\trespond y\n\t}\n}\nb.com {\n\trespond z\n}\n",
        ":80 {\n\trespond x\n\thandle_errors {\n\t\trespond e\n\t}\n}\n",
        "",
        // One site of two servers, alone in each and not, with error routes and a log.
        ":80, :81 {\n\trespond x\n\trespond /a y\n\tlog {\n\t\toutput stderr\n\t}\n}\n",
        "a.com:80, a.com:81 {\n\trespond x\n\thandle_errors {\n\t\trespond e\n\t}\n}\n",
        "a.com:80, a.com:81 {\n\trespond x\n}\nb.com:81 {\n\trespond y\n}\n",
        // Two sites for the same host are joined.
        "a.com {\n\trespond x\n}\na.com:443 {\n\trespond y\n}\nb.com {\n}\n",
    ] {
        let (file, found) =
            caddis_caddyfile::parse("Caddyfile", text.as_bytes(), &MemoryLoader::new());
        assert!(found.is_empty(), "{found:?}");
        let config = adapt(&file, &registry()).unwrap().config;
        let (written, _) = crate::adapt_to_text(file.blocks, &registry()).unwrap();
        assert_eq!(written, caddis_config::json::write::to_string(&config).unwrap());
    }
}

#[test]
fn ports_with_the_same_sites_share_a_server() {
    let site =
        |at: u32| format!(":{} {{\n\tbind 127.0.0.1 127.0.0.2\n\trespond x\n}}\n", 1000 + at);
    let text: String = (0..500).map(site).collect();
    let config = adapted(&text);
    let servers = config["apps"]["http"]["servers"].as_object().unwrap();
    assert_eq!(servers.len(), 500);
    assert_eq!(servers["srv7"]["listen"], json!(["127.0.0.1:1007", "127.0.0.2:1007"]));
}
