//! Plans of certificates, on configs.

use caddis_config::{AutomationPolicy, Config};
use caddis_tls::Issuer;
use serde_json::{Value as Json, json};

use super::{PolicyIndex, ServedNames, TlsPlan};
use crate::ManagedName;

fn compile(app: Json, names: &[&str]) -> Result<TlsPlan, String> {
    let config: Config = caddis_config::decode(json!({ "apps": { "tls": app } })).unwrap();
    let managed: Vec<ManagedName> = names
        .iter()
        .map(|name| ManagedName { name: (*name).to_owned(), unless_loaded: true })
        .collect();
    TlsPlan::compile(
        &config,
        &managed,
        &std::collections::BTreeSet::new(),
        &ServedNames::of(&config),
    )
    .map_err(|error| error.to_string())
}

#[test]
fn names_of_tailscale_are_its_own() {
    let plan = compile(json!({}), &["a.b.ts.net", "a.test"]).unwrap();
    let names: Vec<_> = plan.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["a.test"]);
    assert_eq!(plan.on_demand[0].subjects, ["a.b.ts.net"]);
    assert_eq!(plan.on_demand[0].getters[0].url(), "tailscale");
    // A policy that names it has its way.
    let named = json!({ "automation": { "policies": [
        { "subjects": ["a.b.ts.net"], "issuers": [{ "module": "internal" }] },
    ]}});
    let plan = compile(named, &["a.b.ts.net"]).unwrap();
    assert_eq!((plan.subjects.len(), plan.on_demand.len()), (1, 0));
    // One that only names it does not.
    let issuers = json!([{ "module": "acme", "ca": "https://ca.test/dir" }]);
    let bare = json!({ "automation": { "policies": [
        { "subjects": ["a.b.ts.net"] }, { "issuers": issuers },
    ]}});
    let plan = compile(bare, &["a.b.ts.net"]).unwrap();
    assert_eq!((plan.subjects.len(), plan.on_demand.len()), (0, 1));
    // Where certificates are made on demand, Tailscale is asked for its names first.
    let internal = json!([{ "module": "internal" }]);
    let demand = json!({ "automation": { "policies": [
        { "on_demand": true, "issuers": internal },
    ]}});
    let plan = compile(demand, &[]).unwrap();
    assert_eq!(plan.on_demand[0].getters[0].url(), "tailscale");
}

#[test]
fn on_demand_is_no_open_door() {
    let acme = json!([{ "module": "acme", "ca": "https://ca.test/dir" }]);
    let with = |policies: Json| compile(json!({ "automation": { "policies": policies } }), &[]);
    let open = json!([{ "on_demand": true, "issuers": acme }]);
    let wide = json!([{ "subjects": ["*.a.test"], "on_demand": true, "issuers": acme }]);
    for policies in [open, wide] {
        let error = with(policies).err().unwrap();
        assert!(error.contains("policies.0.on_demand: on-demand TLS cannot be"), "{error}");
    }
    // Names that are written down are bounded.
    let bounded = json!([{ "subjects": ["a.test"], "on_demand": true, "issuers": acme }]);
    assert_eq!(with(bounded).unwrap().on_demand.len(), 1);
    // Where they are all internal, the own authority gives their certificates (T056).
    let own = |names: &[&str]| {
        let policy = json!([{ "subjects": names, "on_demand": true }]);
        matches!(with(policy).unwrap().on_demand[0].issuers[..], [Issuer::Internal { .. }])
    };
    assert!(own(&["a.localhost", "10.0.0.1"]));
    assert!(!own(&["a.localhost", "a.test"]));
    // After a policy for all names no other one counts.
    let internal = json!([{ "module": "internal" }]);
    let late = json!([
        { "issuers": internal },
        { "subjects": ["a.test"], "on_demand": true, "issuers": internal },
    ]);
    assert_eq!(with(late).unwrap().on_demand.len(), 0);
    let both = json!({ "automation": { "on_demand": {
        "ask": "http://h/", "permission": { "module": "http", "endpoint": "http://h/" },
    }}});
    let error = compile(both, &[]).err().unwrap();
    assert!(error.contains("on-demand TLS config conflict"), "{error}");
    // A module that is null is one without a name, not one that is absent, as in Caddy.
    for none in [json!({}), json!(null)] {
        let none = json!({ "automation": { "on_demand": { "permission": none } } });
        let error = compile(none, &[]).err().unwrap();
        assert!(error.contains("module name not specified"), "{error}");
    }
    for none in [
        json!({ "dns": null }),
        json!({ "automation": { "policies": [{ "subjects": ["a.test"], "storage": null }] } }),
    ] {
        assert!(compile(none.clone(), &[]).is_err(), "{none}");
    }
}

#[test]
fn public_names_get_certificates() {
    let names = |plan: &TlsPlan| -> Vec<String> {
        plan.subjects.iter().map(|subject| subject.name.clone()).collect()
    };
    let ech =
        json!({ "configs": [{ "public_name": " Public.a.test" }, { "public_name": "b.test" }] });
    let app = json!({ "encrypted_client_hello": ech });
    let plan = compile(app.clone(), &["*.a.test", "b.test"]).unwrap();
    // Also where a wildcard that is managed has the name.
    assert_eq!(names(&plan), ["*.a.test", "b.test", "public.a.test"]);
    let mut unless_loaded: Vec<_> = plan.unless_loaded.iter().map(String::as_str).collect();
    unless_loaded.sort_unstable();
    assert_eq!(unless_loaded, ["*.a.test", "b.test", "public.a.test"]);
    let ech = plan.ech.unwrap();
    assert_eq!(ech.plan.public_names, ["public.a.test", "b.test"]);
    assert!(ech.plan.publications.is_empty());
    // The same for what only the storage knows, by the policy that the name has.
    let internal = json!([{ "module": "internal" }]);
    let mut with = app;
    with["automation"] = json!({ "policies": [
        { "subjects": ["old.test"], "issuers": internal },
        { "subjects": ["demand.test"], "on_demand": true, "issuers": internal },
    ]});
    let ech = compile(with, &[]).unwrap().ech.unwrap();
    let found = ech.certificate_of("OLD.test").unwrap().unwrap();
    assert_eq!(found.name, "old.test");
    assert!(matches!(found.issuers[..], [Issuer::Internal { .. }]));
    let other = ech.certificate_of("other.test").unwrap().unwrap();
    assert!(matches!(other.issuers[..], [Issuer::Acme(_)]));
    for name in ["demand.test", "b.test", "no name", ""] {
        assert!(ech.certificate_of(name).unwrap().is_none(), "{name}");
    }
    assert!(compile(json!({}), &[]).unwrap().ech.is_none());
}

#[test]
fn issuers_of_all_kinds() {
    let policy = |issuer: Json| json!({ "automation": { "policies": [{ "issuers": [issuer] }] } });
    let plan = compile(policy(json!({ "module": "zerossl", "api_key": "k" })), &["a.test"]);
    assert!(format!("{:?}", plan.unwrap().subjects[0].issuers).starts_with("[ZeroSsl("));
    let proxy = json!({ "from": "url", "url": "socks5://p:1" });
    let plan = compile(policy(json!({ "module": "acme", "network_proxy": proxy })), &["a.test"]);
    assert!(format!("{:?}", plan.unwrap().subjects[0].issuers).contains("\"p:1\""));
    for (issuer, want) in [
        (json!({ "module": "zerossl" }), "apps.tls.automation.policies.0.issuers.0.api_key"),
        (
            json!({ "module": "acme", "network_proxy": { "from": "url", "url": "ftp://x" } }),
            "apps.tls.automation.policies.0.issuers.0.network_proxy.url",
        ),
    ] {
        let error = compile(policy(issuer), &["a.test"]).err().unwrap();
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn authorities_have_to_be_there() {
    let app = |ca: &str| {
        let issuers = json!([{ "module": "internal", "ca": ca }]);
        json!({ "automation": { "policies": [{ "issuers": issuers }] } })
    };
    for ca in ["", "local"] {
        assert!(compile(app(ca), &["a.test"]).is_ok(), "{ca}");
    }
    let error = compile(app("other"), &["a.test"]).err().unwrap();
    let want = "apps.tls.automation.policies.0.issuers.0.ca: no certificate authority configured \
                with id: other";
    assert_eq!(error, want);
    // Key types may be named by placeholders (T060).
    let policy = json!([{ "key_type": "{env.CARGO_PKG_NAME}" }]);
    let error = compile(json!({ "automation": { "policies": policy } }), &[]).err().unwrap();
    assert!(error.ends_with("unrecognized key type: caddis-plan"), "{error}");
}

#[test]
fn internal_names_need_a_policy_of_their_own_for_other_issuers() {
    let acme = json!([{ "module": "acme", "ca": "https://ca.test/dir" }]);
    let policies = json!([{ "subjects": ["own.internal"], "issuers": acme }, { "issuers": acme }]);
    let config: Config = serde_json::from_value(json!({ "apps": { "tls": {
        "certificates": { "automate": ["listed.internal"] },
        "automation": { "policies": policies },
    } } }))
    .unwrap();
    let names = ["a.example.com", "localhost", "own.internal", "10.0.0.1", "8.8.8.8", "*.com"];
    let managed: Vec<ManagedName> = names
        .iter()
        .map(|name| ManagedName { name: (*name).to_owned(), unless_loaded: false })
        .collect();
    let plan = TlsPlan::compile(
        &config,
        &managed,
        &std::collections::BTreeSet::new(),
        &ServedNames::of(&config),
    )
    .unwrap();
    let outside: Vec<&str> = plan
        .subjects
        .iter()
        .filter(|subject| matches!(&subject.issuers[..], [Issuer::Acme(_)]))
        .map(|subject| subject.name.as_str())
        .collect();
    assert_eq!(outside, ["a.example.com", "own.internal", "8.8.8.8", "listed.internal"]);
    assert_eq!(plan.subjects.len(), 7);
}

#[test]
fn the_first_policy_that_matches_is_found() {
    let policies: Vec<AutomationPolicy> =
        [&["A.test", "b.test"][..], &["*.b.test"], &["x.b.test", "*.c.test"], &[], &["d.test"]]
            .iter()
            .map(|subjects| AutomationPolicy {
                subjects: subjects.iter().map(|one| (*one).to_owned()).collect(),
                ..AutomationPolicy::default()
            })
            .collect();
    let index = PolicyIndex::new(&policies);
    for (name, want) in [
        ("a.TEST", 0),
        ("b.test", 0),
        ("x.b.test", 1),
        ("*.b.test", 1),
        ("x.c.test", 2),
        ("d.test", 3),
        ("other", 3),
    ] {
        assert_eq!(index.find(name).map(|(at, _)| at), Some(want), "{name}");
    }
    assert!(PolicyIndex::new(&policies[..3]).find("x.y.test").is_none());
}
