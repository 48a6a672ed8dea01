use std::time::Duration;

use roxmltree::Document;
use serde_json::{Value, json};

use super::{Element, Route53, escape, plain};
use crate::{
    DnsProvider,
    testing::{Answer, Server, api, api_of_values, change_beside, txt},
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
