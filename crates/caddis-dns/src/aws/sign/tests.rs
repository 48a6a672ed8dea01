use std::time::{Duration, SystemTime};

use http::Request;

use super::{PathRule, Signer, UNSIGNED_PAYLOAD, encode, encode_path, payload_hash};
use crate::aws::Credentials;

type Fields = &'static [(&'static str, &'static str)];

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn credentials(id: &str, secret: &str) -> Credentials {
    Credentials {
        access_key_id: id.into(),
        secret_access_key: secret.into(),
        session_token: String::new(),
    }
}

/// The signature of a request of AWS's test suite: 2015-08-30T12:36:00Z.
fn suite(
    paths: PathRule,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    token: &str,
) -> String {
    let mut credentials = credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    credentials.session_token = token.into();
    let signer =
        Signer { credentials: &credentials, region: "us-east-1", service: "service", paths };
    let mut request =
        Request::builder().method(method).uri(format!("https://example.amazonaws.com{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body: &[u8] = if method == "POST" { b"Param1=value1" } else { b"" };
    let hash = payload_hash(body);
    let mut request = request.body(()).unwrap();
    if method == "POST" {
        request.headers_mut().insert("x-amz-content-sha256", hash.parse().unwrap());
    }
    signer.sign(&mut request, &hash, at(1_440_938_160)).unwrap();
    signature(&request)
}

fn signature<B>(request: &Request<B>) -> String {
    let text = request.headers()["authorization"].to_str().unwrap();
    text.rsplit_once("Signature=").unwrap().1.to_owned()
}

#[test]
fn the_test_suite_of_aws() {
    use PathRule::{Literal, Normalized};
    let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    let get = |rule, path| suite(rule, "GET", path, &[], "");
    for path in ["/", "/./", "/example1/example2/../.."] {
        assert_eq!(get(Normalized, path), vanilla, "{path}");
    }
    for (rule, path, want) in [
        (
            Normalized,
            "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            Normalized,
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            Normalized,
            "/?%E1%88%B4=bar",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        (
            Normalized,
            "//example//",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            Literal,
            "//example//",
            "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
        ),
        (Literal, "/./example", "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff"),
        // The suite writes these two paths unencoded.
        (Literal, "/%E1%88%B4", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            Literal,
            "/example%20space/",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
    ] {
        assert_eq!(get(rule, path), want, "{path}");
    }
    assert_eq!(
        suite(
            Normalized,
            "GET",
            "/",
            &[
                ("my-header1", "value4"),
                ("my-header1", "value1"),
                ("my-header1", "value3"),
                ("my-header1", "value2"),
            ],
            "",
        ),
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"
    );
    let trimmed = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
    assert_eq!(
        suite(Normalized, "GET", "/", &trimmed, ""),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
    );
    assert_eq!(
        suite(
            Normalized,
            "GET",
            "/",
            &[],
            "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
        ),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
    );
    let form = [
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("content-length", "13"),
    ];
    assert_eq!(
        suite(Normalized, "POST", "/", &form, ""),
        "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422"
    );
}

#[test]
fn the_examples_of_s3() {
    let credentials =
        credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let signer = Signer {
        credentials: &credentials,
        region: "us-east-1",
        service: "s3",
        paths: PathRule::Literal,
    };
    let cases: [(_, _, _, Fields, _); 4] = [
        (
            "GET",
            "/test.txt",
            "",
            &[("range", "bytes=0-9")],
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            "Welcome to Amazon S3.",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            "",
            &[],
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?prefix=J&max-keys=2",
            "",
            &[],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (method, path, body, headers, want) in cases {
        let hash = payload_hash(body.as_bytes());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://examplebucket.s3.amazonaws.com{path}"))
            .header("x-amz-content-sha256", &hash);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        signer.sign(&mut request, &hash, at(1_369_353_600)).unwrap();
        assert_eq!(signature(&request), want, "{path}");
    }
    // A slash within a key differs from one between segments.
    let sign = |path: &str| {
        let mut request = Request::get(format!("https://s3.test/b/{path}")).body(()).unwrap();
        signer.sign(&mut request, UNSIGNED_PAYLOAD, at(1_369_353_600)).unwrap();
        signature(&request)
    };
    assert_ne!(sign("a%2Fb"), sign("a/b"));
    assert_eq!(sign("a%2Fb"), sign("a%2fb"));
    assert_eq!(encode("a b/ü~"), "a%20b%2F%C3%BC~");
    assert_eq!(encode_path("a b/*"), "a%20b/%2A");
}

#[test]
fn signing_again_replaces_what_was_signed() {
    let credentials = credentials("id", "secret");
    let signer = Signer {
        credentials: &credentials,
        region: "r",
        service: "s",
        paths: PathRule::Normalized,
    };
    let mut once = Request::get("https://u@h.test:99/").body(()).unwrap();
    signer.sign(&mut once, UNSIGNED_PAYLOAD, at(5)).unwrap();
    let first = signature(&once);
    assert_eq!(once.headers()["host"], "h.test:99");
    signer.sign(&mut once, UNSIGNED_PAYLOAD, at(6)).unwrap();
    assert_ne!(signature(&once), first);
    signer.sign(&mut once, UNSIGNED_PAYLOAD, at(5)).unwrap();
    assert_eq!(signature(&once), first);
    assert!(!format!("{signer:?}").contains("secret\""));
    let mut bad = Request::get("/").body(()).unwrap();
    assert!(signer.sign(&mut bad, UNSIGNED_PAYLOAD, at(5)).is_err());
}
