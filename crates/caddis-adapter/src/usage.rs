//! How directives, subdirectives and options are written, for help with wrong arguments.

/// Directives at the level of a site.
const DIRECTIVES: &[(&str, &str)] = &[
    ("abort", "abort [<matcher>]"),
    ("acme_server", "acme_server [<matcher>] { … }"),
    ("basic_auth", "basic_auth [<matcher>] [<algorithm> [<realm>]] { <user> <hash> }"),
    ("bind", "bind <hosts…>"),
    ("encode", "encode [<matcher>] [<formats…>] { … }"),
    ("error", "error [<matcher>] <status>|<message> [<status>]"),
    ("file_server", "file_server [<matcher>] [browse] { … }"),
    ("forward_auth", "forward_auth [<matcher>] <upstreams…> { … }"),
    ("fs", "fs [<matcher>] <filesystem>"),
    ("handle", "handle [<matcher>] { … }"),
    ("handle_errors", "handle_errors [<statuses…>] { … }"),
    ("handle_path", "handle_path <path matcher> { … }"),
    ("header", "header [<matcher>] [+|-|?|>]<field> [<value>|<find>] [<replacement>]"),
    ("intercept", "intercept [<matcher>] { … }"),
    ("invoke", "invoke [<matcher>] <route>"),
    ("log", "log [<name>] { … }"),
    ("log_append", "log_append [<matcher>] <key> <value>"),
    ("log_name", "log_name [<matcher>] <names…>"),
    ("log_skip", "log_skip [<matcher>]"),
    ("map", "map [<matcher>] <source> <destinations…> { … }"),
    ("method", "method [<matcher>] <method>"),
    ("metrics", "metrics [<matcher>]"),
    ("php_fastcgi", "php_fastcgi [<matcher>] <gateways…> { … }"),
    ("push", "push [<matcher>] [<resource>]"),
    ("redir", "redir [<matcher>] <to> [<code>]"),
    ("request_body", "request_body [<matcher>] { max_size <size> }"),
    ("request_header", "request_header [<matcher>] [+|-]<field> [<value>|<find>] [<replacement>]"),
    ("respond", "respond [<matcher>] <status>|<body> [<status>]"),
    ("reverse_proxy", "reverse_proxy [<matcher>] <upstreams…> { … }"),
    ("rewrite", "rewrite [<matcher>] <to>"),
    ("root", "root [<matcher>] <path>"),
    ("route", "route [<matcher>] { … }"),
    ("templates", "templates [<matcher>] { … }"),
    ("tls", "tls [internal|<email>|<cert file> <key file>] { … }"),
    ("tracing", "tracing { span <name> }"),
    ("try_files", "try_files <files…>"),
    ("uri", "uri [<matcher>] strip_prefix|strip_suffix|replace|path_regexp|query <arguments…>"),
    ("vars", "vars [<matcher>] [<name> <value>] { … }"),
];

/// Subdirectives, by the directive around them.
const INSIDE: &[(&str, &str, &str)] = &[
    ("reverse_proxy", "buffer_requests", "buffer_requests"),
    ("reverse_proxy", "fail_duration", "fail_duration <duration>"),
    ("reverse_proxy", "flush_interval", "flush_interval <duration>"),
    ("reverse_proxy", "header_down", "header_down [+|-|?]<field> [<value>|<find>] [<replacement>]"),
    ("reverse_proxy", "header_up", "header_up [+|-]<field> [<value>|<find>] [<replacement>]"),
    ("reverse_proxy", "health_body", "health_body <regexp>"),
    ("reverse_proxy", "health_headers", "health_headers { <field> <values…> }"),
    ("reverse_proxy", "health_interval", "health_interval <duration>"),
    ("reverse_proxy", "health_port", "health_port <port>"),
    ("reverse_proxy", "health_status", "health_status <status>"),
    ("reverse_proxy", "health_timeout", "health_timeout <duration>"),
    ("reverse_proxy", "health_uri", "health_uri <uri>"),
    ("reverse_proxy", "lb_policy", "lb_policy <name> [<options…>]"),
    ("reverse_proxy", "lb_retries", "lb_retries <number>"),
    ("reverse_proxy", "lb_try_duration", "lb_try_duration <duration>"),
    ("reverse_proxy", "lb_try_interval", "lb_try_interval <duration>"),
    ("reverse_proxy", "max_fails", "max_fails <number>"),
    ("reverse_proxy", "method", "method <method>"),
    ("reverse_proxy", "rewrite", "rewrite <to>"),
    ("reverse_proxy", "to", "to <upstreams…>"),
    ("reverse_proxy", "transport", "transport <name> { … }"),
    ("reverse_proxy", "trusted_proxies", "trusted_proxies [private_ranges] <ranges…>"),
    ("reverse_proxy", "unhealthy_latency", "unhealthy_latency <duration>"),
    ("reverse_proxy", "unhealthy_request_count", "unhealthy_request_count <number>"),
    ("reverse_proxy", "unhealthy_status", "unhealthy_status <statuses…>"),
    ("request_body", "max_size", "max_size <size>"),
    ("file_server", "hide", "hide <files…>"),
    ("file_server", "index", "index <files…>"),
    ("file_server", "root", "root <path>"),
    ("encode", "minimum_length", "minimum_length <bytes>"),
    ("encode", "match", "match { … }"),
    ("forward_auth", "copy_headers", "copy_headers <fields…>"),
    ("forward_auth", "uri", "uri <to>"),
    ("log", "format", "format <encoder> { … }"),
    ("log", "level", "level <level>"),
    ("log", "output", "output <writer> [<options…>] { … }"),
    ("tls", "alpn", "alpn <values…>"),
    ("tls", "ca", "ca <directory url>"),
    ("tls", "ciphers", "ciphers <suites…>"),
    ("tls", "dns", "dns <provider> [<options…>]"),
    ("tls", "issuer", "issuer <name> [<options…>] { … }"),
    ("tls", "protocols", "protocols <min> [<max>]"),
    ("php_fastcgi", "env", "env <key> <value>"),
    ("php_fastcgi", "index", "index <file>"),
    ("php_fastcgi", "split", "split <substrings…>"),
];

/// Global options.
const OPTIONS: &[(&str, &str)] = &[
    ("acme_ca", "acme_ca <directory url>"),
    ("acme_dns", "acme_dns <provider> [<options…>]"),
    ("admin", "admin off|<address> { … }"),
    ("auto_https", "auto_https off|disable_redirects|ignore_loaded_certs|disable_certs"),
    ("debug", "debug"),
    ("default_bind", "default_bind <hosts…>"),
    ("default_sni", "default_sni <name>"),
    ("email", "email <address>"),
    ("grace_period", "grace_period <duration>"),
    ("http_port", "http_port <port>"),
    ("https_port", "https_port <port>"),
    ("local_certs", "local_certs"),
    ("order", "order <directive> first|last|before|after [<other directive>]"),
    ("shutdown_delay", "shutdown_delay <duration>"),
    ("skip_install_trust", "skip_install_trust"),
    ("storage", "storage <module> [<options…>]"),
];

/// How a word is written in the block of another (`None`: at the top of a site or of the options).
pub(crate) fn of(name: &str, around: Option<&str>) -> Option<&'static str> {
    let inside = |around: &str| {
        INSIDE.iter().find(|(outer, word, _)| *outer == around && *word == name).map(|one| one.2)
    };
    let nests = ["handle", "handle_path", "handle_errors", "route", "handle_response", "intercept"];
    match around {
        Some(around) if !nests.contains(&around) => inside(around),
        _ => DIRECTIVES
            .iter()
            .chain(OPTIONS)
            .find(|(directive, _)| *directive == name)
            .map(|(_, usage)| *usage),
    }
}

/// The directive in whose block a word belongs that means nothing elsewhere.
pub(crate) fn owner_of(name: &str) -> Option<&'static str> {
    INSIDE.iter().find(|(_, word, _)| *word == name).map(|(owner, ..)| *owner)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn by_place() {
        assert_eq!(of("redir", None), Some("redir [<matcher>] <to> [<code>]"));
        assert_eq!(of("root", Some("file_server")), Some("root <path>"));
        assert_eq!(of("root", Some("handle")), Some("root [<matcher>] <path>"));
        assert_eq!(of("nothing", Some("handle")), None);
    }
}
