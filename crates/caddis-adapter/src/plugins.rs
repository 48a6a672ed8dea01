//! Names that belong to well-known plugins of Caddy, and to Caddy 1: for messages only.

/// Directives and global options of plugins.
const DIRECTIVES: &[(&str, &str)] = &[
    ("appsec", "github.com/hslatman/caddy-crowdsec-bouncer"),
    ("authenticate", "github.com/greenpau/caddy-security"),
    ("authorize", "github.com/greenpau/caddy-security"),
    ("bandwidth", "github.com/mediafoundation/bandwidth"),
    ("cache", "github.com/caddyserver/cache-handler"),
    ("cgi", "github.com/aksdb/caddy-cgi"),
    ("coraza_waf", "github.com/corazawaf/coraza-caddy"),
    ("crowdsec", "github.com/hslatman/caddy-crowdsec-bouncer"),
    ("defender", "github.com/JasonLovesDoggo/caddy-defender"),
    ("docker", "github.com/lucaslorentz/caddy-docker-proxy"),
    ("dynamic_dns", "github.com/mholt/caddy-dynamicdns"),
    ("exec", "github.com/abiosoft/caddy-exec"),
    ("filter", "github.com/sjtug/caddy2-filter"),
    ("forward_proxy", "github.com/caddyserver/forwardproxy"),
    ("frankenphp", "github.com/dunglas/frankenphp"),
    ("geo_ip", "github.com/shift72/caddy-geo-ip"),
    ("geoip", "github.com/zhangjiayin/caddy-geoip2"),
    ("geoip2", "github.com/zhangjiayin/caddy-geoip2"),
    ("geoip2_vars", "github.com/zhangjiayin/caddy-geoip2"),
    ("git", "github.com/greenpau/caddy-git"),
    ("gitea", "github.com/42wim/caddy-gitea"),
    ("hmac", "github.com/abiosoft/caddy-hmac"),
    ("image_filter", "github.com/ueffel/caddy-imagefilter"),
    ("inspect", "github.com/abiosoft/caddy-inspect"),
    ("json_parse", "github.com/abiosoft/caddy-json-parse"),
    ("jwt", "github.com/ggicci/caddy-jwt"),
    ("jwtauth", "github.com/ggicci/caddy-jwt"),
    ("layer4", "github.com/mholt/caddy-l4"),
    ("mercure", "github.com/dunglas/mercure"),
    ("nobots", "github.com/Xumeiquer/nobots"),
    ("php", "github.com/dunglas/frankenphp"),
    ("php_server", "github.com/dunglas/frankenphp"),
    ("profiling", "github.com/mohammed90/caddy-profiling"),
    ("rate_limit", "github.com/mholt/caddy-ratelimit"),
    ("ratelimit", "github.com/mholt/caddy-ratelimit"),
    ("realip", "github.com/kirsch33/realip"),
    ("replace", "github.com/caddyserver/replace-response"),
    ("request_id", "github.com/lolPants/caddy-requestid"),
    ("s3proxy", "github.com/lindenlab/caddy-s3-proxy"),
    ("sablier", "github.com/sablierapp/sablier"),
    ("security", "github.com/greenpau/caddy-security"),
    ("ssh", "github.com/mohammed90/caddy-ssh"),
    ("supervisor", "github.com/Baldinof/caddy-supervisor"),
    ("tailscale", "github.com/tailscale/caddy-tailscale"),
    ("tailscale_auth", "github.com/tailscale/caddy-tailscale"),
    ("teapot", "github.com/hairyhenderson/caddy-teapot-module"),
    ("trace", "github.com/greenpau/caddy-trace"),
    ("upload", "github.com/git001/caddyv2-upload"),
    ("vulcain", "github.com/dunglas/vulcain"),
    ("waf", "github.com/fabriziosalmi/caddy-waf"),
    ("webdav", "github.com/mholt/caddy-webdav"),
];

/// Modules of plugins by id.
const MODULES: &[(&str, &str)] = &[
    ("caddy.logging.encoders.formatted", "github.com/caddyserver/transform-encoder"),
    ("caddy.logging.encoders.transform", "github.com/caddyserver/transform-encoder"),
    ("caddy.storage.consul", "github.com/pteich/caddy-tlsconsul"),
    ("caddy.storage.dynamodb", "github.com/silinternational/certmagic-storage-dynamodb"),
    ("caddy.storage.gcs", "github.com/grafana/certmagic-gcs"),
    ("caddy.listeners.layer4", "github.com/mholt/caddy-l4"),
    ("events.handlers.exec", "github.com/mholt/caddy-events-exec"),
    ("http.authentication.providers.jwt", "github.com/ggicci/caddy-jwt"),
    ("http.encoders.br", "github.com/ueffel/caddy-brotli"),
    ("http.ip_sources.cloudflare", "github.com/WeidiDeng/caddy-cloudflare-ip"),
    ("http.ip_sources.combine", "github.com/fvbommel/caddy-combine-ip-ranges"),
    ("http.matchers.dynamic_client_ip", "github.com/tuzzmaniandevil/caddy-dynamic-clientip"),
    ("http.matchers.geoip2", "github.com/zhangjiayin/caddy-geoip2"),
    ("http.matchers.maxmind_geolocation", "github.com/porech/caddy-maxmind-geolocation"),
    ("http.matchers.remote_host", "github.com/muety/caddy-remote-host"),
    ("http.reverse_proxy.transport.http_ntlm", "github.com/caddyserver/ntlm-transport"),
    ("http.reverse_proxy.transport.tailscale", "github.com/tailscale/caddy-tailscale"),
    ("http.reverse_proxy.upstreams.docker", "github.com/invzhi/caddy-docker-upstreams"),
    ("tls.get_certificate.tailscale", "github.com/tailscale/caddy-tailscale"),
];

/// Directives of Caddy 1 and what took their place.
const FIRST_VERSION: &[(&str, &str)] = &[
    ("browse", "file_server browse"),
    ("errors", "handle_errors"),
    ("ext", "try_files"),
    ("fastcgi", "php_fastcgi"),
    ("gzip", "encode gzip"),
    ("internal", "handle with `abort` or `respond 404`"),
    ("limits", "request_body"),
    ("markdown", "templates"),
    ("mime", "header Content-Type"),
    ("proxy", "reverse_proxy"),
    ("status", "respond"),
    ("websocket", "reverse_proxy"),
];

/// Directives of nginx and Apache and what does their work.
const OTHER_SERVERS: &[(&str, &str)] = &[
    ("DocumentRoot", "`root * <path>` with `file_server`"),
    ("ProxyPass", "`reverse_proxy <upstream>`"),
    ("RewriteRule", "`rewrite` or `redir`"),
    ("ServerName", "the address before the site's `{`"),
    ("access_log", "`log`"),
    ("add_header", "`header <field> <value>`"),
    ("alias", "`handle_path <path>/* { root * <folder> … }`"),
    ("auth_basic", "`basic_auth`"),
    ("auth_basic_user_file", "`basic_auth`"),
    ("autoindex", "`file_server browse`"),
    ("client_max_body_size", "`request_body { max_size <size> }`"),
    ("deny", "a matcher such as `@blocked remote_ip <ranges>` with `abort @blocked`"),
    ("error_log", "the global option `log`"),
    ("error_page", "`handle_errors`"),
    ("expires", "`header Cache-Control <value>`"),
    ("fastcgi_param", "`env` in the block of `php_fastcgi`"),
    ("fastcgi_pass", "`php_fastcgi <address>`"),
    ("if", "a named matcher, such as `@name path /x/*`"),
    ("include", "`import`"),
    ("index", "`index` in the block of `file_server`"),
    ("listen", "the address before the site's `{`"),
    ("location", "`handle <path>* { … }` (or `handle_path`, which strips the path)"),
    ("proxy_http_version", "`versions` in `transport http` of `reverse_proxy`"),
    ("proxy_pass", "`reverse_proxy <upstream>`"),
    ("proxy_read_timeout", "`read_timeout` in `transport http` of `reverse_proxy`"),
    ("proxy_set_header", "`header_up` in the block of `reverse_proxy`"),
    ("return", "`redir` or `respond`"),
    ("server", "a site: its address, then `{ … }`"),
    ("server_name", "the address before the site's `{`"),
    ("set", "`vars`"),
    ("ssl_certificate", "`tls <certificate> <key>`"),
    ("ssl_certificate_key", "`tls <certificate> <key>`"),
    ("ssl_protocols", "`protocols` in the block of `tls`"),
    ("upstream", "several addresses in one `reverse_proxy`"),
];

/// What to say of a directive or option that is none here, if it is one elsewhere.
pub(crate) fn directive_help(name: &str) -> Option<String> {
    if let Some((_, plugin)) = DIRECTIVES.iter().find(|(known, _)| *known == name) {
        return Some(belongs(name, plugin));
    }
    if let Some((_, instead)) = FIRST_VERSION.iter().find(|(known, _)| *known == name) {
        return Some(format!("`{name}` is from Caddy 1; its place was taken by `{instead}`"));
    }
    let (_, instead) = OTHER_SERVERS.iter().find(|(known, _)| *known == name)?;
    Some(format!("`{name}` is of another server's language; here write {instead}"))
}

/// What to say of a module that is not compiled in, if it is a plugin's.
pub(crate) fn module_help(id: &str) -> Option<String> {
    if let Some((_, plugin)) = MODULES.iter().find(|(known, _)| *known == id) {
        return Some(belongs(id, plugin));
    }
    let provider = id.strip_prefix("dns.providers.")?;
    let plain = provider.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    plain.then(|| {
        format!("DNS providers of Caddy are plugins (github.com/caddy-dns/{provider}); `caddis list-modules` names those that caddis has")
    })
}

fn belongs(name: &str, plugin: &str) -> String {
    format!("`{name}` belongs to the Caddy plugin {plugin}, which caddis does not have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_plugin() {
        assert!(directive_help("rate_limit").unwrap().contains("mholt/caddy-ratelimit"));
        assert!(directive_help("gzip").unwrap().contains("encode gzip"));
        assert!(directive_help("reverse_proxy").is_none());
        assert!(module_help("dns.providers.x").unwrap().contains("caddy-dns/x"));
        assert!(directive_help("location").unwrap().contains("handle"));
        assert!(DIRECTIVES.is_sorted() && OTHER_SERVERS.is_sorted());
    }
}
