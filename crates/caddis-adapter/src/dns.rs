//! DNS providers: `dns <provider> …` and wherever else a provider is named.
//!
//! ```text
//! <provider> [<argument>] {
//!     <subdirective> <value>
//! }
//! ```
//!
//! How a provider is written is told by the provider ([`caddis_dns::Syntax`]). One that is unknown,
//! a plugin's, is taken as it is written; that it is unknown is said when the config is used.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{Duration, module_object};
use caddis_dns::{Field, FieldKind, PROVIDERS, Syntax};
use serde_json::{Map, Value as Json};

use crate::{
    modules::{no_args, one_arg, some_args},
    storage::scalar,
};

/// What the lone argument of an unknown provider is.
const ARGUMENTS: &[(&str, &str)] =
    &[("linode", "api_token"), ("netlify", "personal_access_token"), ("vultr", "api_token")];

/// Reads a DNS provider whose name is the current token, to the end of its block.
///
/// # Errors
/// What the provider's syntax does not allow.
pub(crate) fn dns_provider(d: &mut Dispenser) -> ParseResult<Json> {
    let name = d.val().to_owned();
    let mut d = d.new_from_next_segment();
    d.next();
    let fields = match PROVIDERS.iter().find(|provider| provider.name == name) {
        Some(provider) => known(&mut d, &provider.syntax)?,
        None => unknown(&mut d, &name)?,
    };
    Ok(module_object(Json::Object(fields), "name", &name))
}

fn known(d: &mut Dispenser, syntax: &Syntax) -> ParseResult<Map<String, Json>> {
    let mut fields = (syntax.defaults)();
    let words = syntax.fields.iter().find(|field| matches!(field.kind, FieldKind::Words));
    if let Some(words) = words {
        let all = d.remaining_args();
        if !all.is_empty() {
            fields.insert(words.json.to_owned(), all.into());
        }
    } else if let Some(argument) = syntax.argument
        && d.next_arg()
    {
        set(&mut fields, argument, d.val().to_owned().into());
    }
    no_args(d)?;
    block(d, syntax.fields, &mut fields)?;
    (syntax.check)(&fields).map_err(|sentence| d.err(sentence))?;
    Ok(fields)
}

fn block(d: &mut Dispenser, known: &[Field], fields: &mut Map<String, Json>) -> ParseResult<()> {
    let nesting = d.nesting();
    while d.next_block(nesting) {
        let Some(field) = known.iter().find(|field| field.is(d.val())) else {
            let error = d.err(format_args!("unrecognized subdirective '{}'", d.val()));
            let names = known.iter().flat_map(|field| match field.names {
                [] => vec![field.json],
                names => names.to_vec(),
            });
            return Err(d.did_you_mean(error, names));
        };
        if let Some(sentence) = field.repeated
            && fields.contains_key(field.json)
        {
            return Err(d.err(sentence));
        }
        value(d, field, fields)?;
    }
    Ok(())
}

/// Reads what follows a subdirective.
fn value(d: &mut Dispenser, field: &Field, fields: &mut Map<String, Json>) -> ParseResult<()> {
    match field.kind {
        FieldKind::Text => set(fields, field.json, one_arg(d)?.into()),
        FieldKind::Bool => {
            if let Some(on) = bool(&one_arg(d)?) {
                set(fields, field.json, on.into());
            }
        }
        FieldKind::Int => {
            set(fields, field.json, one_arg(d)?.parse::<i64>().unwrap_or(0).into());
        }
        FieldKind::Duration => {
            let text = one_arg(d)?;
            let seconds = || text.parse::<i64>().ok()?.checked_mul(1_000_000_000);
            let nanos = Duration::parse_go(&text).ok().map(|duration| duration.0).or_else(seconds);
            if let Some(nanos) = nanos {
                set(fields, field.json, nanos.into());
            }
        }
        FieldKind::Words => {
            let mut all = some_args(d)?;
            let json = if all.len() == 1 { all.swap_remove(0).into() } else { all.into() };
            set(fields, field.json, json);
        }
        FieldKind::Named(inner) => {
            let mut all = Map::new();
            let nesting = d.nesting();
            while d.next_block(nesting) {
                let name = d.val().to_owned();
                let mut one = Map::new();
                block(d, inner, &mut one)?;
                all.insert(name, Json::Object(one));
            }
            fields.insert(field.json.to_owned(), Json::Object(all));
        }
    }
    Ok(())
}

/// Sets a field, or leaves it out where it has the value of an absent one, as Go's JSON does.
fn set(fields: &mut Map<String, Json>, name: &str, value: Json) {
    let absent = value == Json::Bool(false) || value == 0 || value == "";
    if absent {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
}

/// Go's `strconv.ParseBool`.
fn bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn unknown(d: &mut Dispenser, name: &str) -> ParseResult<Map<String, Json>> {
    let mut fields = Map::new();
    if d.next_arg() {
        let field = ARGUMENTS.iter().find(|(provider, _)| *provider == name);
        let field = field.map_or("argument", |(_, field)| *field);
        fields.insert(field.to_owned(), d.val().into());
    }
    if d.next_arg() {
        return Err(d.err(format_args!("unexpected argument '{}'", d.val())));
    }
    while d.next_block(0) {
        let field = d.val().to_owned();
        let mut values = Vec::new();
        while d.next_arg() {
            values.push(scalar(d.scalar_val()));
        }
        let value = match values.len() {
            0 => Json::Bool(true),
            1 => values.swap_remove(0),
            _ => Json::Array(values),
        };
        fields.insert(field, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::{Dispenser, tokenize};
    use serde_json::{Value as Json, json};

    use super::dns_provider;

    fn read(text: &str) -> Result<Json, String> {
        let mut d = Dispenser::new(tokenize("Caddyfile", text).unwrap());
        d.next();
        dns_provider(&mut d).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(text: &str, want: Json) {
        assert_eq!(read(text), Ok(want), "{text}");
    }

    #[track_caller]
    fn fails(text: &str, want: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }

    #[test]
    fn arguments_and_blocks_say_the_same() {
        for (name, subdirective, field) in [
            ("cloudflare", "api_token", "api_token"),
            ("desec", "token", "token"),
            ("digitalocean", "api_token", "auth_token"),
            ("duckdns", "api_token", "api_token"),
            ("gandi", "bearer_token", "bearer_token"),
            ("hetzner", "api_token", "api_token"),
            ("acmedns", "config_file_path", "config_file_path"),
        ] {
            let want = json!({"name": name, field: "{env.T}"});
            check(&format!("{name} {{env.T}}"), want.clone());
            check(&format!("{name} {{\n\t{subdirective} {{env.T}}\n}}"), want);
            fails(&format!("{name} a b"), "wrong argument count");
            fails(&format!("{name} {{\n\t{subdirective}\n}}"), "wrong argument count");
            fails(&format!("{name} {{\n\t{subdirective} a b\n}}"), "wrong argument count");
            fails(&format!("{name} a {{\n\twhat x\n}}"), "unrecognized subdirective 'what'");
        }
    }

    #[test]
    fn every_subdirective_has_its_json_field() {
        check(
            "cloudflare {\n\tapi_token a\n\tzone_token z\n}",
            json!({"name": "cloudflare", "api_token": "a", "zone_token": "z"}),
        );
        check(
            "duckdns t {\n\toverride_domain x.duckdns.org\n\tresolver 1.1.1.1:53\n}",
            json!({"name": "duckdns", "api_token": "t", "override_domain": "x.duckdns.org", "resolver": "1.1.1.1:53"}),
        );
        check(
            "ovh {\n\tendpoint ovh-eu\n\tapplication_key k\n\tapplication_secret s\n\tconsumer_key c\n}",
            json!({"name": "ovh", "endpoint": "ovh-eu", "application_key": "k", "application_secret": "s", "consumer_key": "c"}),
        );
        check(
            "porkbun {\n\tapi_key k\n\tapi_secret_key s\n}",
            json!({"name": "porkbun", "api_key": "k", "api_secret_key": "s"}),
        );
        check(
            "rfc2136 {\n\tkey_name n\n\tkey_alg hmac-sha256\n\tkey k\n\tserver 127.0.0.1:53\n}",
            json!({"name": "rfc2136", "key_name": "n", "key_alg": "hmac-sha256", "key": "k", "server": "127.0.0.1:53"}),
        );
        check("exec /bin/hook --fast", json!({"name": "exec", "command": ["/bin/hook", "--fast"]}));
        check("exec {\n\tcommand /bin/hook\n}", json!({"name": "exec", "command": "/bin/hook"}));
    }

    #[test]
    fn route53_has_defaults_and_older_names() {
        let region = std::env::var("AWS_REGION").ok().filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| "us-east-1".into());
        check(
            "route53",
            json!({"name": "route53", "region": region, "skip_route53_sync_on_delete": true}),
        );
        check(
            "route53 {\n\tregion r\n\taws_profile p\n\taccess_key_id i\n\tsecret_access_key s\n\ttoken t\n\tmax_retries 3\n\tmax_wait_dur 60\n\twait_for_propagation true\n\tskip_route53_sync_on_delete false\n\thosted_zone_id z\n\tdebug_logging 1\n}",
            json!({
                "name": "route53",
                "region": "r",
                "profile": "p",
                "access_key_id": "i",
                "secret_access_key": "s",
                "session_token": "t",
                "max_retries": 3,
                "route53_max_wait": 60_000_000_000_i64,
                "wait_for_route53_sync": true,
                "hosted_zone_id": "z",
                "debug_logging": true,
            }),
        );
        let odd = "route53 {\n\tregion r\n\troute53_max_wait 1m30s\n\tmax_retries many\n\twait_for_route53_sync maybe\n}";
        let want = json!({"name": "route53", "region": "r", "route53_max_wait": 90_000_000_000_i64, "skip_route53_sync_on_delete": true});
        check(odd, want);
        fails("route53 x", "wrong argument count");
    }

    #[test]
    fn acmedns_accounts() {
        check(
            "acmedns {\n\tusername u\n\tpassword {env.P}\n\tsubdomain s\n\tserver_url http://x\n}",
            json!({"name": "acmedns", "username": "u", "password": "{env.P}", "subdomain": "s", "server_url": "http://x"}),
        );
        check(
            "acmedns {\n\tconfig {\n\t\ta.test {\n\t\t\tusername u\n\t\t\tpassword p\n\t\t\tsubdomain s\n\t\t\tfulldomain f\n\t\t\tserver_url http://x\n\t\t}\n\t\tb.test {\n\t\t\tusername v\n\t\t}\n\t}\n}",
            json!({"name": "acmedns", "config": {
                "a.test": {"username": "u", "password": "p", "subdomain": "s", "fulldomain": "f", "server_url": "http://x"},
                "b.test": {"username": "v"},
            }}),
        );
        fails("acmedns", "exactly one of these");
        fails("acmedns x {\n\tconfig {\n\t\ta {\n\t\t}\n\t}\n}", "exactly one of these");
        fails("acmedns {\n\tconfig {\n\t}\n}", "at least one domain");
        fails(
            "acmedns {\n\tconfig {\n\t\ta {\n\t\t\tx y\n\t\t}\n\t}\n}",
            "unrecognized subdirective 'x'",
        );
        fails("acmedns x {\n\tconfig_file_path y\n}", "config_file_path already set");
    }

    #[test]
    fn what_is_missing_or_said_twice() {
        for (text, want) in [
            ("cloudflare", "missing API token"),
            ("digitalocean", "missing API token"),
            ("hetzner {\n}", "missing API token"),
            ("gandi", "missing API token"),
            ("desec", "missing token"),
            ("duckdns", "DuckDNS missing API token"),
            ("porkbun {\n\tapi_key x\n}", "No api_secret_key set"),
            ("porkbun", "No api_key set"),
            ("rfc2136 {\n\tkey k\n\tkey_name n\n\tkey_alg a\n}", "rfc2136: missing server"),
            ("rfc2136", "rfc2136: missing key"),
            ("digitalocean a {\n\tapi_token b\n}", "API token already set"),
            ("gandi a {\n\tbearer_token b\n}", "Bearer token already set"),
            ("desec {\n\ttoken a\n\ttoken b\n}", "token already set"),
        ] {
            fails(text, want);
        }
    }

    #[test]
    fn unknown_providers_are_taken_as_written() {
        check("mock foo", json!({"name": "mock", "argument": "foo"}));
        check("linode t", json!({"name": "linode", "api_token": "t"}));
        check(
            "mock {\n\ta 1\n\tb x y\n\tc\n}",
            json!({"name": "mock", "a": 1, "b": ["x", "y"], "c": true}),
        );
        fails("mock a b", "unexpected argument 'b'");
    }
}
