use std::time::Duration;

use roxmltree::Document;
use serde_json::{Value, json};

use super::{Element, Route53, escape, plain};
use crate::{
    DnsProvider,
    testing::{
        Answer, OUR_SERVICE, Server, THEIR_SERVICE, alias, api, api_of_values, change_beside, kept,
        set_service_beside, set_values, txt, values,
    },
};

const NAME: &str = "_acme-challenge.sub.a.test.";

fn xml(root: &str, inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<{root} xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">{inner}</{root}>"
    )
}

fn change(status: &str) -> Answer {
    let inner = format!("<ChangeInfo><Id>/change/C1</Id><Status>{status}</Status></ChangeInfo>");
    Answer::new(200, xml("ChangeResourceRecordSetsResponse", &inner))
}

/// The zone `a.test`, private and public, with these values at `_acme-challenge.sub`.
fn fake(values: &[&str]) -> Server {
    api_of_values(values, move |seen, values| {
        let signed = seen.header("authorization");
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=id/"), "{signed}");
        assert!(signed.contains("/us-east-1/route53/aws4_request, "), "{signed}");
        assert_eq!(seen.header("x-amz-security-token"), "tok");
        let path = seen.path.strip_prefix("/2013-04-01/").unwrap();
        match (&*seen.method, path) {
            ("GET", path) if path.starts_with("hostedzonesbyname?") => {
                let zone = |id: &str, private: bool| {
                    format!(
                        "<HostedZone><Id>/hostedzone/{id}</Id><Name>a.test.</Name><Config>\
                     <PrivateZone>{private}</PrivateZone></Config></HostedZone>"
                    )
                };
                let all = zone("PRIVATE", true) + &zone("Z1", false);
                let all = format!("<HostedZones>{all}</HostedZones>");
                Answer::new(200, xml("ListHostedZonesByNameResponse", &all))
            }
            ("GET", path) if path.starts_with("hostedzone/Z1/rrset?maxitems=1&name=") => {
                assert!(path.ends_with(&format!("{NAME}&type=TXT")), "{path}");
                let name = if values.is_empty() { "zzz.a.test." } else { NAME };
                let all: String = values
                    .iter()
                    .map(|value| {
                        format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(value))
                    })
                    .collect();
                let set = format!(
                    "<ResourceRecordSets><ResourceRecordSet><Name>{name}</Name><Type>TXT</Type>\
                     <TTL>77</TTL><ResourceRecords>{all}</ResourceRecords></ResourceRecordSet>\
                     </ResourceRecordSets>"
                );
                Answer::new(200, xml("ListResourceRecordSetsResponse", &set))
            }
            ("POST", "hostedzone/Z1/rrset/") => {
                let (action, _, all) = told(&seen.body);
                *values = if action == "DELETE" { Vec::new() } else { all };
                change("PENDING")
            }
            ("GET", "change/C1") => change("INSYNC"),
            _ => Answer::new(404, "?"),
        }
    })
}

/// Action, time to live and values of a change.
fn told(body: &str) -> (String, String, Vec<String>) {
    let document = Document::parse(body).unwrap();
    let all = |name: &str| -> Vec<String> {
        let found = document.descendants().filter(|node| node.has_tag_name_of(name));
        found.map(|node| node.text().unwrap().to_owned()).collect()
    };
    assert_eq!(all("Name"), [NAME]);
    (all("Action").remove(0), all("TTL").remove(0), all("Value"))
}

fn provider(server: &Server, more: &Value) -> Route53 {
    let mut json = json!({
        "region": "eu-west-1",
        "access_key_id": "id",
        "secret_access_key": "s3cr3t",
        "session_token": "tok",
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut provider = Route53::new(&json, Some(&server.url)).unwrap();
    provider.poll = Duration::from_millis(1);
    provider
}

#[tokio::test]
async fn values_beside_ours_stay() {
    let server = fake(&["\"one\"", "\"t<w>o\""]);
    let provider = provider(&server, &json!({}));
    change_beside(&provider, "sub.a.test", "one").await;
    let written: Vec<_> = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| told(&seen.body))
        .collect();
    let set = |values: &[&str]| {
        let values = values.iter().map(|value| format!("\"{value}\"")).collect();
        ("UPSERT".to_owned(), "77".to_owned(), values)
    };
    assert_eq!(written, [set(&["one", "t<w>o", "ours"]), set(&["one", "t<w>o"])]);
    assert!(!server.lines().iter().any(|line| line.contains("/change/")));
}

#[tokio::test]
async fn the_last_value_takes_the_set_along_and_changes_are_waited_for() {
    let server = fake(&[]);
    let more = json!({
        "wait_for_route53_sync": true,
        "skip_route53_sync_on_delete": true,
        "hosted_zone_id": "Z1",
    });
    let provider = provider(&server, &more);
    let ours = [txt("_acme-challenge", "ours")];
    provider.append("sub.a.test", &ours).await.unwrap();
    assert_eq!(server.lines().last().unwrap(), "GET /2013-04-01/change/C1");
    provider.delete("sub.a.test", &ours).await.unwrap();
    let last = server.seen().pop().unwrap();
    assert_eq!(told(&last.body), ("DELETE".into(), "77".into(), vec!["\"ours\"".into()]));
    assert!(!server.lines().iter().any(|line| line.contains("hostedzonesbyname")));
}

#[tokio::test]
async fn throttling_is_waited_out_and_refusals_are_told() {
    let error = |code: &str, message: &str| {
        let inner = format!(
            "<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        xml("ErrorResponse", &inner)
    };
    let server = api(move |_, count| match count {
        0 => Answer::new(429, "").header("retry-after", "0"),
        1 => Answer::new(400, error("Throttling", "Rate exceeded")),
        _ => Answer::new(403, error("AccessDenied", "User s3cr3t may not")),
    });
    let provider = provider(&server, &json!({"max_retries": 4}));
    let error = provider.append("a.test", &[txt("x", "y")]).await.unwrap_err();
    assert_eq!(error.to_string(), "route53: HTTP 403: User *** may not (AccessDenied)");
    assert_eq!(server.seen().len(), 3);
    assert!(!format!("{provider:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn zones_that_are_elsewhere() {
    let server = fake(&[]);
    let provider = provider(&server, &json!({}));
    let error = provider.append("b.test", &[txt("x", "y")]).await.unwrap_err();
    assert!(error.to_string().starts_with("route53: no zone for b.test"), "{error}");
}

#[test]
fn partitions_and_names() {
    let of = |region: &str| {
        let provider = Route53::new(&json!({"region": region}), None).unwrap();
        (provider.api.base().to_owned(), provider.region)
    };
    assert_eq!(of("eu-west-1"), ("https://route53.amazonaws.com".into(), "us-east-1"));
    assert_eq!(of("us-gov-east-1").1, "us-gov-west-1");
    assert_eq!(plain("\\052.A.test."), "*.a.test");
    assert_eq!(plain("a\\9"), "a\\9");
}

#[tokio::test]
async fn aliases_take_the_place_of_old_ones() {
    let values = std::sync::Mutex::new(vec!["old.test.".to_owned()]);
    let server = api(move |seen, _| {
        let path = seen.path.strip_prefix("/2013-04-01/").unwrap();
        let mut values = values.lock().unwrap();
        match (&*seen.method, path) {
            ("GET", path) if path.starts_with("hostedzonesbyname?") => {
                let zone = "<HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>a.test.</Name>\
                            </HostedZone></HostedZones>";
                Answer::new(200, xml("ListHostedZonesByNameResponse", zone))
            }
            ("GET", path) if path.starts_with("hostedzone/Z1/rrset?maxitems=1&name=") => {
                assert!(path.ends_with("_x.a.test.&type=CNAME"), "{path}");
                let name = if values.is_empty() { "zzz.a.test." } else { "_x.a.test." };
                let all: String = values
                    .iter()
                    .map(|one| format!("<ResourceRecord><Value>{one}</Value></ResourceRecord>"))
                    .collect();
                let set = format!(
                    "<ResourceRecordSets><ResourceRecordSet><Name>{name}</Name><Type>CNAME</Type>\
                     <TTL>77</TTL><ResourceRecords>{all}</ResourceRecords></ResourceRecordSet>\
                     </ResourceRecordSets>"
                );
                Answer::new(200, xml("ListResourceRecordSetsResponse", &set))
            }
            ("POST", "hostedzone/Z1/rrset/") => {
                assert!(seen.body.contains("<Name>_x.a.test.</Name><Type>CNAME</Type>"));
                let document = Document::parse(&seen.body).unwrap();
                let all = document.descendants().filter(|node| node.has_tag_name_of("Value"));
                let all = all.map(|node| node.text().unwrap().to_owned()).collect();
                *values = if seen.body.contains("DELETE") { Vec::new() } else { all };
                change("INSYNC")
            }
            _ => Answer::new(404, "?"),
        }
    });
    let (provider, ours) = (provider(&server, &json!({})), alias("_x", "y.new.test"));
    for _ in 0..2 {
        provider.append_alias("a.test", &ours).await.unwrap();
    }
    for _ in 0..2 {
        provider.delete_alias("a.test", &ours).await.unwrap();
    }
    let writes: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "POST").collect();
    assert_eq!(writes.len(), 2, "{:?}", server.lines());
    assert!(writes[0].body.contains("<Action>UPSERT</Action>"));
    assert!(writes[0].body.contains("<Value>y.new.test.</Value>"));
    assert!(!writes[0].body.contains("old.test"));
    assert!(writes[1].body.contains("<Action>DELETE</Action>"));
}

#[tokio::test]
async fn services_take_the_place_of_ours() {
    let all = kept();
    let records = all.clone();
    let server = api(move |seen, _| {
        let path = seen.path.strip_prefix("/2013-04-01/").unwrap();
        let mut records = records.lock().unwrap();
        match (&*seen.method, path) {
            ("GET", path) if path.starts_with("hostedzonesbyname?") => {
                let zone = "<HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>a.test.</Name>\
                            </HostedZone></HostedZones>";
                Answer::new(200, xml("ListHostedZonesByNameResponse", zone))
            }
            ("GET", path) => {
                let query = path.strip_prefix("hostedzone/Z1/rrset?maxitems=1&name=").unwrap();
                let (name, kind) = query.split_once(".a.test.").unwrap();
                let kind = kind.strip_prefix("&type=");
                let found = records.iter().find(|record| {
                    record.name == name && kind.is_none_or(|kind| record.kind == kind)
                });
                let (name, kind, values) = match found {
                    Some(found) => {
                        (&*found.name, &*found.kind, values(&records, &found.name, &found.kind))
                    }
                    None => ("zzz", "A", vec!["192.0.2.2".to_owned()]),
                };
                let values: String = values
                    .iter()
                    .map(|one| {
                        format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(one))
                    })
                    .collect();
                let set = format!(
                    "<ResourceRecordSets><ResourceRecordSet><Name>{name}.a.test.</Name>\
                     <Type>{kind}</Type><TTL>77</TTL><ResourceRecords>{values}</ResourceRecords>\
                     </ResourceRecordSet></ResourceRecordSets>"
                );
                Answer::new(200, xml("ListResourceRecordSetsResponse", &set))
            }
            ("POST", "hostedzone/Z1/rrset/") => {
                let head = "<Action>UPSERT</Action><ResourceRecordSet><Name>www.a.test.</Name>\
                            <Type>HTTPS</Type><TTL>77</TTL>";
                assert!(seen.body.contains(head), "{}", seen.body);
                let document = Document::parse(&seen.body).unwrap();
                let all = document.descendants().filter(|node| node.has_tag_name_of("Value"));
                let all: Vec<String> = all.map(|node| node.text().unwrap().to_owned()).collect();
                set_values(&mut records, "www", "HTTPS", &all);
                change("INSYNC")
            }
            _ => Answer::new(404, "?"),
        }
    });
    set_service_beside(&provider(&server, &json!({})), "a.test").await;
    let records = all.lock().unwrap();
    assert_eq!(values(&records, "www", "HTTPS"), [THEIR_SERVICE, OUR_SERVICE]);
    let writes = server.lines().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(writes, 1);
}

#[tokio::test]
async fn services_that_are_aliases_at_aws_stay() {
    let server = api(|_, _| {
        let set = "<ResourceRecordSets><ResourceRecordSet><Name>www.a.test.</Name><Type>HTTPS\
                   </Type><AliasTarget><DNSName>x.cloudfront.net.</DNSName></AliasTarget>\
                   </ResourceRecordSet></ResourceRecordSets>";
        Answer::new(200, xml("ListResourceRecordSetsResponse", set))
    });
    let provider = provider(&server, &json!({"hosted_zone_id": "Z1"}));
    assert!(provider.look_up("a.test", "www").await.unwrap().is_used);
    let record = crate::ServiceRecord {
        name: "www".into(),
        binding: OUR_SERVICE.parse().unwrap(),
        ttl: Duration::ZERO,
    };
    let error = provider.set_service("a.test", &record).await.unwrap_err().to_string();
    assert!(
        error.starts_with("route53: www.a.test has an HTTPS record that is an alias"),
        "{error}"
    );
    assert!(server.lines().iter().all(|line| line.starts_with("GET")));
}
