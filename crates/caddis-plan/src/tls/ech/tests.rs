//! What is kept, published and told, on configs.

use caddis_config::Config;
use serde_json::{Value as Json, json};

use super::{EchNeeds, ServedNames, compile, hidden};

fn config(apps: Json) -> Config {
    caddis_config::decode(json!({ "apps": apps })).unwrap()
}

fn of(ech: Json, http: Json) -> Result<EchNeeds, String> {
    let config = config(json!({ "tls": { "encrypted_client_hello": ech }, "http": http }));
    let needs = compile(&config, &ServedNames::of(&config)).map_err(|error| error.to_string())?;
    Ok(needs.unwrap())
}

fn exec() -> Json {
    json!({ "name": "exec", "command": ["/bin/true"] })
}

/// The names of each publication, with their protocols.
fn names(needs: &EchNeeds) -> Vec<Vec<String>> {
    let publications = needs.plan.publications.iter();
    publications
        .map(|publication| {
            let names = publication.names.iter();
            names.map(|name| format!("{} {}", name.name, name.alpn.join(","))).collect()
        })
        .collect()
}

/// Routes of these hosts.
fn routes(hosts: &[&str]) -> Json {
    json!([{ "match": [{ "host": hosts }] }])
}

#[test]
fn public_names_can_be_sent() {
    let with = |name: &str| of(json!({ "configs": [{ "public_name": name }] }), json!({}));
    assert_eq!(with(" Public.Test ").unwrap().plan.public_names, ["public.test"]);
    for (name, length) in [("", "(0)"), (" ", "(0)"), (&"a".repeat(256), "(256)")] {
        let error = with(name).err().unwrap();
        let start = "apps.tls.encrypted_client_hello.configs.0.public_name: public name length ";
        assert!(error.starts_with(&format!("{start}{length}")), "{error}");
        assert!(error.contains("range 1-255"), "{error}");
    }
    let twice = json!({ "configs": [{ "public_name": "a.test" }, { "public_name": "A.test" }] });
    assert_eq!(of(twice, json!({})).unwrap().plan.public_names, ["a.test"]);
    // Without any, keys that the storage has are still used.
    for none in [json!({}), json!({ "configs": [] }), json!({ "configs": null })] {
        assert!(of(none, json!({})).unwrap().plan.public_names.is_empty());
    }
}

#[test]
fn publications_are_of_configs_and_by_publishers_that_are_there() {
    let configs = json!([{ "public_name": "public.test" }]);
    let with = |publication: Json| {
        let ech = json!({ "configs": configs, "publication": [{ "configs": [] }, publication] });
        of(ech, json!({}))
    };
    let start = "apps.tls.encrypted_client_hello.publication.1.";
    for (publication, says) in [
        (json!({ "configs": ["other.test"] }), "configs.0: there is no ECH config"),
        (json!({ "publishers": { "ftp": {} } }), "publishers.ftp: unknown module: tls.ech.publ"),
        (json!({ "publishers": { "dns": null } }), "publishers.dns: module value cannot be null"),
        (json!({ "publishers": { "dns": {} } }), "publishers.dns.provider: "),
        (json!({ "publishers": { "dns": { "provider": null } } }), "publishers.dns.provider"),
        (json!({ "publishers": { "dns": { "provider": { "name": "none" } } } }), "publishers.dns"),
    ] {
        let error = with(publication).err().unwrap();
        assert!(error.starts_with(&format!("{start}{says}")), "{error}");
    }
    let good = json!({
        "configs": ["PUBLIC.test"],
        "domains": ["A.test", "a.test", "", "b.ts.net"],
        "publishers": { "dns": { "provider": exec() } },
    });
    let needs = with(good).unwrap();
    assert_eq!(names(&needs)[1], ["a.test ", "b.ts.net "]);
    let publication = &needs.plan.publications[1];
    assert_eq!(publication.configs.as_deref(), Some(&["public.test".to_owned()][..]));
    assert_eq!(publication.publishers[0].key(), "dns.providers.exec");
    assert_eq!(needs.plan.publications[0].configs.as_deref(), Some(&[][..]));
    let tls = json!({ "encrypted_client_hello": { "publication": [null] } });
    let error = caddis_config::decode::<Config>(json!({ "apps": { "tls": tls } })).err().unwrap();
    assert!(error.path.starts_with("apps.tls.encrypted_client_hello.publication"), "{error}");
}

#[test]
fn without_a_publication_the_global_provider_publishes() {
    let with = |ech: Json, dns: Option<Json>| {
        let mut tls = json!({ "encrypted_client_hello": ech });
        if let Some(dns) = dns {
            tls["dns"] = dns;
        }
        let server = json!({ "listen": [":443"], "routes": routes(&["a.test"]) });
        let config = config(json!({ "tls": tls, "http": { "servers": { "one": server } } }));
        compile(&config, &ServedNames::of(&config)).unwrap().unwrap()
    };
    let configs = json!([{ "public_name": "public.test" }]);
    let needs = with(json!({ "configs": configs }), Some(exec()));
    assert_eq!(names(&needs), [["a.test h3,h2,http/1.1"]]);
    let publication = &needs.plan.publications[0];
    assert_eq!(publication.publishers[0].key(), "dns.providers.exec");
    assert!(publication.configs.is_none());
    assert!(with(json!({ "configs": configs }), None).plan.publications.is_empty());
    let tls = json!({ "encrypted_client_hello": {}, "dns": { "name": "none" } });
    let error = compile(&config(json!({ "tls": tls })), &ServedNames::default()).err().unwrap();
    assert_eq!(error.path, "apps.tls.dns");
    // An empty list says that nobody does.
    let nobody = json!({ "configs": configs, "publication": [] });
    assert!(with(nobody, Some(exec())).plan.publications.is_empty());
}

#[test]
fn names_are_those_of_servers_with_automatic_https() {
    let http = json!({
        "http_port": 8080,
        "servers": {
            "plain": { "listen": [":8080"], "routes": routes(&["plain.test"]) },
            "off": {
                "listen": [":443"],
                "automatic_https": { "disable": true },
                "routes": routes(&["off.test"]),
            },
            "some": {
                "listen": [":443"],
                "automatic_https": { "skip": ["skipped.test"] },
                "protocols": ["h1", "h2"],
                "routes": routes(&[
                    "A.test", "skipped.test", "*.b.test", "127.0.0.1", "[::1]", "::1", "x.y.ts.net",
                    "{http.request.host}", "c.test:8443",
                ]),
            },
            "more": { "listen": [":8443"], "protocols": ["h3"], "routes": routes(&["a.test"]) },
            "policies": {
                "listen": [":9443"],
                "automatic_https": { "disable": true },
                "tls_connection_policies": [
                    { "match": { "sni": ["off.test", "a.test"] } },
                    { "match": { "sni": ["odd.test"] }, "alpn": ["x/1", "http/1.1", "h2"] },
                ],
                "protocols": ["h1", "h3"],
            },
        },
    });
    let publish = |config: Json| {
        let mut publication = config;
        publication["publishers"] = json!({ "dns": { "provider": exec() } });
        let ech = json!({ "configs": [{ "public_name": "p.test" }], "publication": [publication] });
        names(&of(ech, http.clone()).unwrap()).remove(0)
    };
    let hosts = ["*.b.test h2,http/1.1", "a.test h3,h2,http/1.1", "c.test h2,http/1.1"];
    assert_eq!(publish(json!({})), hosts);
    assert_eq!(publish(json!({ "domains": null })), hosts);
    let given = publish(json!({ "domains": ["c.test", "other.test", "off.test"] }));
    assert_eq!(given, ["c.test h2,http/1.1", "other.test ", "off.test "]);
    // Where nothing says what is published, the names of connection policies are as well.
    let tls = json!({
        "encrypted_client_hello": { "configs": [{ "public_name": "p.test" }] },
        "dns": exec(),
    });
    let config = config(json!({ "tls": tls, "http": http }));
    let needs = compile(&config, &ServedNames::of(&config)).unwrap().unwrap();
    let all = [
        "*.b.test h2,http/1.1",
        "a.test h3,h2,http/1.1",
        "c.test h2,http/1.1",
        "odd.test http/1.1,x/1",
        "off.test http/1.1",
    ];
    assert_eq!(names(&needs), [all]);
}

#[test]
fn addresses_and_placeholders_cannot_be_hidden() {
    for (name, host) in [
        ("A.test", Some("a.test")),
        (" a.test:443 ", Some("a.test")),
        ("*.a.test", Some("*.a.test")),
        ("", None),
        ("10.0.0.1", None),
        ("10.0.0.1:443", None),
        ("::1", None),
        ("[::1]", None),
        ("[::1]:443", None),
        ("{env.NONE}", None),
        ("{x}.test", None),
        (":443", None),
    ] {
        assert_eq!(hidden(name).as_deref(), host, "{name}");
    }
}
