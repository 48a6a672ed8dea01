//! With a scripted provider and resolver.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use caddis_dns::{
    DnsError, DnsFuture, DnsProvider, NameRecords, ServiceRecord, TxtRecord, query::SOA,
    testing::name_server,
};
use serde_json::json;

use super::{DnsPublisher, PROVIDER_LIMIT, Published, PublishedName, within};

/// The records of zone `a.test` by their names, and what was asked.
#[derive(Debug, Default)]
struct Scripted {
    records: BTreeMap<&'static str, Vec<(&'static str, &'static str)>>,
    calls: Mutex<Vec<String>>,
}

impl Scripted {
    fn with(mut self, name: &'static str, records: &[(&'static str, &'static str)]) -> Self {
        self.records.insert(name, records.to_vec());
        self
    }

    fn call(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    /// What was set, without the look-ups.
    fn set(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.starts_with("set ")).cloned().collect()
    }
}

impl DnsProvider for Scripted {
    fn append<'a>(&'a self, _: &'a str, _: &'a [TxtRecord]) -> DnsFuture<'a> {
        unreachable!("no texts are published")
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a [TxtRecord]) -> DnsFuture<'a> {
        unreachable!("no texts are published")
    }

    fn look_up<'a>(&'a self, zone: &'a str, name: &'a str) -> DnsFuture<'a, NameRecords> {
        Box::pin(async move {
            self.call(format!("look {name} in {zone}"));
            match name {
                "broken" => return Err(DnsError::new("HTTP 500")),
                "slow" => std::future::pending().await,
                _ => {}
            }
            let mut found = NameRecords::default();
            for (kind, data) in self.records.get(name).into_iter().flatten() {
                found.add(kind, data)?;
            }
            Ok(found)
        })
    }

    fn set_service<'a>(&'a self, zone: &'a str, record: &'a ServiceRecord) -> DnsFuture<'a> {
        Box::pin(async move {
            let ServiceRecord { name, binding, ttl } = record;
            self.call(format!("set {name} in {zone}: {} {binding}", ttl.as_secs()));
            if name == "refused" { Err(DnsError::new("HTTP 403")) } else { Ok(()) }
        })
    }
}

async fn publisher(provider: &Arc<Scripted>) -> DnsPublisher {
    let zones = name_server(|name, kind| {
        let is_zone = kind == SOA && ["a.test", "zone.a.test"].contains(&name);
        is_zone.then(|| vec![0; 22])
    });
    let publisher = DnsPublisher::for_provider(provider.clone(), "scripted");
    DnsPublisher { resolvers: vec![zones.await], ..publisher }
}

fn names(names: &[&str], alpn: &[&str]) -> Vec<PublishedName> {
    let alpn: Vec<String> = alpn.iter().map(|protocol| (*protocol).to_owned()).collect();
    names.iter().map(|name| PublishedName { name: (*name).into(), alpn: alpn.clone() }).collect()
}

#[tokio::test]
async fn records_are_set_beside_what_there_is() {
    let provider = Arc::new(
        Scripted::default()
            .with("@", &[("A", "192.0.2.1"), ("SOA", "…")])
            .with("www", &[("AAAA", "::1"), ("HTTPS", "2 . alpn=h2 port=8443 ech=AAA= key9=x")])
            .with("*", &[("A", "192.0.2.1")])
            .with("xn--bcher-kva", &[("A", "192.0.2.1")])
            .with("two", &[("HTTPS", "1 . port=1"), ("HTTPS", "2 . port=2")])
            .with("manual", &[("HTTPS", "1 svc.test. port=1"), ("HTTPS", "3 . key7=x")]),
    );
    let publisher = publisher(&provider).await;
    assert_eq!(publisher.key(), "dns.providers.scripted");
    let all = names(
        &["a.test", "WWW.a.test.", "*.a.test", "two.a.test", "manual.a.test", "bücher.a.test"],
        &["h3", "h2", "http/1.1"],
    );
    let results = publisher.publish(&all, b"list").await;
    assert!(results.iter().all(|(_, result)| *result == Ok(Published::Set)), "{results:?}");
    assert_eq!(results[1].0, "WWW.a.test.");
    let ours = r#"alpn="h3,h2,http/1.1""#;
    let mut set = provider.set();
    set.sort();
    assert_eq!(
        set,
        [
            format!(r#"set * in a.test: 300 2 . {ours} ech="bGlzdA==""#),
            format!(r#"set @ in a.test: 300 2 . {ours} ech="bGlzdA==""#),
            format!(r#"set manual in a.test: 300 2 . {ours} ech="bGlzdA==" dohpath="x""#),
            format!(r#"set two in a.test: 300 2 . {ours} port="2" ech="bGlzdA==""#),
            format!(r#"set www in a.test: 300 2 . {ours} port="8443" ech="bGlzdA==" key9="x""#),
            format!(r#"set xn--bcher-kva in a.test: 300 2 . {ours} ech="bGlzdA==""#),
        ]
    );
    // One look-up for each name.
    assert_eq!(provider.calls.lock().unwrap().len(), 12);
}

#[tokio::test]
async fn protocols_that_are_not_known_stay_as_published() {
    let provider = Arc::new(Scripted::default().with("x", &[("HTTPS", "2 . alpn=h2")]));
    let publisher = publisher(&provider).await;
    publisher.publish(&names(&["x.a.test"], &[]), b"list").await;
    assert_eq!(provider.set(), [r#"set x in a.test: 300 2 . alpn="h2" ech="bGlzdA==""#]);
}

#[tokio::test]
async fn names_that_can_have_no_record_are_left_out() {
    let provider = Arc::new(
        Scripted::default()
            .with("alias", &[("CNAME", "b.test.")])
            .with("svc", &[("A", "192.0.2.1"), ("HTTPS", "0 svc.test.")]),
    );
    let publisher = publisher(&provider).await;
    let all = names(&["alias.a.test", "none.a.test", "svc.a.test"], &["h2"]);
    let results = publisher.publish(&all, b"list").await;
    assert!(results.iter().all(|(_, result)| *result == Ok(Published::Skipped)), "{results:?}");
    assert_eq!(provider.set(), [""; 0]);
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others() {
    let odd = [("HTTPS", "2 . what=ever")];
    let provider = Arc::new(
        Scripted::default()
            .with("refused", &[("A", "192.0.2.1")])
            .with("odd", &odd)
            .with("in", &[("A", "192.0.2.1")]),
    );
    let publisher = publisher(&provider).await;
    let all = names(
        &["broken.a.test", "b.test", "127.0.0.1", "refused.a.test", "odd.a.test", "in.zone.a.test"],
        &["h2"],
    );
    let results = publisher.publish(&all, b"list").await;
    let said: Vec<String> = results
        .into_iter()
        .map(|(_, result)| {
            result.map_or_else(|error| error.to_string(), |done| format!("{done:?}"))
        })
        .collect();
    let server = &publisher.resolvers[0];
    assert_eq!(
        said,
        [
            "unable to get existing DNS records to publish ECH data to HTTPS DNS record: HTTP 500"
                .to_owned(),
            format!(
                "could not determine zone for domain: could not find the start of authority for \
                 b.test (domain=b.test nameservers=[{server}])"
            ),
            format!(
                "could not determine zone for domain: an IP address has no zone \
                 (domain=127.0.0.1 nameservers=[{server}])"
            ),
            "unable to publish ECH data to HTTPS DNS record: HTTP 403 (zone=a.test. \
             dns_record_name=refused)"
                .to_owned(),
            "unable to get existing DNS records to publish ECH data to HTTPS DNS record: HTTPS \
             record '2 . what=ever' cannot be read: service binding: unknown parameter \"what\"; \
             change it or remove it"
                .to_owned(),
            "Set".to_owned(),
        ]
    );
    assert!(provider.set().iter().any(|call| call.starts_with("set in in zone.a.test: ")));
}

#[tokio::test]
async fn nothing_takes_forever() {
    let hangs = within::<(), DnsError>(Duration::from_millis(1), std::future::pending()).await;
    assert_eq!(hangs.unwrap_err().to_string(), "no answer within 0 s");
    let provider = Arc::new(Scripted::default().with("x", &[("A", "192.0.2.1")]));
    let publisher = publisher(&provider).await;
    let all = names(&["slow.a.test", "x.a.test"], &["h2"]);
    let publisher = DnsPublisher { limit: Duration::from_millis(50), ..publisher };
    let results = publisher.publish(&all, b"list").await;
    let error = results[0].1.as_ref().unwrap_err().to_string();
    assert!(error.ends_with("HTTPS DNS record: no answer within 0 s"), "{error}");
    assert_eq!(results[1].1, Ok(Published::Set));
    // Nor do all names together.
    let publisher =
        DnsPublisher { limit: PROVIDER_LIMIT, whole_limit: Duration::from_millis(50), ..publisher };
    let all = names(&["slow.a.test"; 6], &["h2"]);
    let publishing = publisher.publish(&all, b"list");
    for (_, result) in can_be_spawned(publishing).await {
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "not done within 0 s, which all names share");
    }
}

fn can_be_spawned<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn settings() {
    let json = json!({"provider": {"name": "exec", "command": ["true"]}});
    assert_eq!(DnsPublisher::compile(&json).unwrap().key(), "dns.providers.exec");
    for (json, want) in [
        (json!({}), "provider: publishing ECH configs needs a DNS provider"),
        (json!({"provider": {"name": "no"}}), "provider: unknown module: dns.providers.no"),
        (json!({"x": 1}), "unknown field \"x\""),
    ] {
        let error = DnsPublisher::compile(&json).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}
