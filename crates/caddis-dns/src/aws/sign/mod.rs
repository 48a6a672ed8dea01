//! AWS Signature Version 4 over a request's headers, and where credentials come from.
//!
//! [`Signer::sign`] serves any API of AWS and what imitates them: Route 53 and S3 differ in
//! [`PathRule`] and in whether the hash of the payload is sent. Signed URLs and chunked payloads
//! are left out.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::SystemTime};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use http::{
    HeaderMap, HeaderValue, Request,
    header::{AUTHORIZATION, HOST},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use time::{OffsetDateTime, macros::format_description};

/// The payload's hash where the payload is not signed (S3 over TLS).
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Header fields that proxies and clients may change on the way.
const UNSIGNED: [&str; 6] =
    ["authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"];
/// All but the unreserved characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Who signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id; not secret.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// The token of temporary credentials; empty for lasting ones.
    pub session_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no signature, or there are no credentials: one sentence, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError(pub String);

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AwsError {}

/// How the path of a URI goes into the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// Dot segments and double slashes are resolved, and the path is encoded once more: all
    /// services but S3.
    Normalized,
    /// The path is what it is, encoded once: S3, where any text is a key.
    Literal,
}

/// A signer for one service in one region.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// Who signs.
    pub credentials: &'a Credentials,
    /// The region, such as `us-east-1`.
    pub region: &'a str,
    /// The service's name in signatures, such as `s3`.
    pub service: &'a str,
    /// How the service reads paths.
    pub paths: PathRule,
}

/// The hash of a payload, as [`Signer::sign`] wants it: SHA-256 in hexadecimal digits.
pub fn payload_hash(payload: &[u8]) -> String {
    hex(digest(&SHA256, payload).as_ref())
}

/// Encodes one segment of a path, or a name or value of a query, as AWS wants it; a slash too.
pub fn encode(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED).to_string()
}

/// Encodes a path whose slashes part segments.
pub fn encode_path(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED_IN_PATH).to_string()
}

impl Signer<'_> {
    /// Signs a request with an absolute URI as it stands: sets `Host` where it is absent,
    /// `X-Amz-Date`, `X-Amz-Security-Token`, and `Authorization` over all fields. A field
    /// `X-Amz-Content-Sha256`, which S3 demands, is the caller's to set, with the same `payload`:
    /// a [`payload_hash`] or [`UNSIGNED_PAYLOAD`].
    ///
    /// # Errors
    /// The URI has no host, the time is out of range, or a token holds characters that a header
    /// field cannot.
    pub fn sign<B>(
        &self,
        request: &mut Request<B>,
        payload: &str,
        at: SystemTime,
    ) -> Result<(), AwsError> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let stamp = OffsetDateTime::from(at).format(&format);
        let stamp = stamp.map_err(|error| AwsError(format!("time of signature: {error}")))?;
        let day = stamp.get(..8).unwrap_or_default();
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let headers = request.headers_mut();
        if !headers.contains_key(HOST) {
            let authority =
                authority.ok_or_else(|| AwsError("request to sign has no host".into()))?;
            let host = authority.rsplit_once('@').map_or(&*authority, |(_, host)| host);
            headers.insert(HOST, value("host", host)?);
        }
        headers.insert("x-amz-date", value("time", &stamp)?);
        headers.remove("x-amz-security-token");
        if !self.credentials.session_token.is_empty() {
            let mut token = value("session token", &self.credentials.session_token)?;
            token.set_sensitive(true);
            headers.insert("x-amz-security-token", token);
        }
        let (fields, names) = canonical_headers(request.headers());
        let canonical = format!(
            "{}\n{}\n{}\n{fields}\n{names}\n{payload}",
            request.method(),
            canonical_path(request.uri().path(), self.paths),
            canonical_query(request.uri().query().unwrap_or_default()),
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", payload_hash(canonical.as_bytes()));
        let signature = hex(mac(self.key(day).as_ref(), &text).as_ref());
        let id = &self.credentials.access_key_id;
        let mut authorization = value(
            "access key id",
            &format!(
                "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
            ),
        )?;
        authorization.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// The key of a day, region and service.
    fn key(&self, day: &str) -> hmac::Tag {
        let secret = format!("AWS4{}", self.credentials.secret_access_key);
        let key = mac(secret.as_bytes(), day);
        let key = mac(key.as_ref(), self.region);
        let key = mac(key.as_ref(), self.service);
        mac(key.as_ref(), "aws4_request")
    }
}

fn value(what: &str, text: &str) -> Result<HeaderValue, AwsError> {
    HeaderValue::from_str(text)
        .map_err(|_| AwsError(format!("{what} has characters that no header field can hold")))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Bytes as hexadecimal digits, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn canonical_path(path: &str, rule: PathRule) -> String {
    match rule {
        PathRule::Literal => {
            // By segment: an encoded slash is part of a key.
            let segments = path.split('/').map(|segment| {
                percent_encode(&percent_decode_str(segment).collect::<Vec<u8>>(), RESERVED)
                    .to_string()
            });
            segments.collect::<Vec<_>>().join("/")
        }
        PathRule::Normalized => {
            let mut kept: Vec<&str> = Vec::new();
            for segment in path.split('/') {
                match segment {
                    "" | "." => {}
                    ".." => {
                        kept.pop();
                    }
                    segment => kept.push(segment),
                }
            }
            let mut joined = format!("/{}", kept.join("/"));
            if path.ends_with('/') && joined.len() > 1 {
                joined.push('/');
            }
            percent_encode(joined.as_bytes(), RESERVED_IN_PATH).to_string()
        }
    }
}

fn canonical_query(query: &str) -> String {
    let recode = |text: &str| {
        percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (recode(name), recode(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The signed fields, one a line, and their names.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if UNSIGNED.contains(&name) {
            continue;
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        fields
            .entry(name)
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&text);
            })
            .or_insert(text);
    }
    let names = fields.keys().copied().collect::<Vec<_>>().join(";");
    let mut lines = String::new();
    for (name, value) in fields {
        lines.extend([name, ":", &value, "\n"]);
    }
    (lines, names)
}

/// Where credentials are looked for. The first place that has them wins: the fields here, the
/// environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), the file of
/// shared credentials (`AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`) under its profile.
/// Where a profile is named here, the environment is passed over, as AWS's own programs do.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Credentials as they are, if id and secret are not empty.
    pub fixed: Option<Credentials>,
    /// The profile; empty for `AWS_PROFILE`, else `default`.
    pub profile: String,
}

impl CredentialSources {
    /// Looks for credentials; reads a file, so never on a thread that serves requests.
    ///
    /// # Errors
    /// They are nowhere, or the profile's are incomplete.
    pub fn find(&self) -> Result<Credentials, AwsError> {
        let environment = |name: &str| std::env::var(name).unwrap_or_default();
        self.find_in(&environment, &|path| std::fs::read_to_string(path))
    }

    fn find_in(
        &self,
        environment: &dyn Fn(&str) -> String,
        read: &dyn Fn(&PathBuf) -> std::io::Result<String>,
    ) -> Result<Credentials, AwsError> {
        if let Some(fixed) = &self.fixed
            && !fixed.access_key_id.is_empty()
            && !fixed.secret_access_key.is_empty()
        {
            return Ok(fixed.clone());
        }
        let found = Credentials {
            access_key_id: environment("AWS_ACCESS_KEY_ID"),
            secret_access_key: environment("AWS_SECRET_ACCESS_KEY"),
            session_token: environment("AWS_SESSION_TOKEN"),
        };
        let complete = !found.access_key_id.is_empty() && !found.secret_access_key.is_empty();
        if complete && self.profile.is_empty() {
            return Ok(found);
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let profile = match &*self.profile {
            "" => or(environment("AWS_PROFILE"), "default"),
            profile => profile.to_owned(),
        };
        let path = match environment("AWS_SHARED_CREDENTIALS_FILE") {
            path if path.is_empty() => {
                PathBuf::from(environment("HOME")).join(".aws").join("credentials")
            }
            path => PathBuf::from(path),
        };
        let shown = path.display();
        let text = read(&path).map_err(|error| {
            AwsError(format!(
                "no AWS credentials: none are configured or in AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, and {shown}: {error}"
            ))
        })?;
        let missing = |what: &str| AwsError(format!("profile \"{profile}\" of {shown} {what}"));
        let mut section = profile_section(&text, &profile).ok_or_else(|| missing("is missing"))?;
        let mut take = |key: &str| section.remove(key).unwrap_or_default();
        let found = Credentials {
            access_key_id: take("aws_access_key_id"),
            secret_access_key: take("aws_secret_access_key"),
            session_token: take("aws_session_token"),
        };
        if found.access_key_id.is_empty() || found.secret_access_key.is_empty() {
            return Err(missing("has no aws_access_key_id and aws_secret_access_key"));
        }
        Ok(found)
    }
}

/// The keys of a section of an INI file; a later section of the same name adds to it.
fn profile_section(text: &str, profile: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.trim();
            inside =
                name == profile || name.strip_prefix("profile ").map(str::trim) == Some(profile);
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && let Some(found) = &mut found
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::Request;

    use super::{
        CredentialSources, Credentials, PathRule, Signer, UNSIGNED_PAYLOAD, encode, encode_path,
        payload_hash,
    };

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
        let mut credentials =
            credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
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
            (
                Literal,
                "/./example",
                "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff",
            ),
            // The suite writes these two paths unencoded.
            (
                Literal,
                "/%E1%88%B4",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
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

    #[test]
    fn credentials_come_from_fields_then_environment_then_file() {
        let file = "# c\n[default]\naws_access_key_id = d\naws_secret_access_key=ds\n\n\
                    [ two ]\nAWS_ACCESS_KEY_ID=t\naws_secret_access_key = t=s\n\
                    aws_session_token = tok\n[half]\naws_access_key_id = h\n";
        let find = |sources: &CredentialSources, environment: &[(&str, &str)]| {
            let get = |name: &str| {
                let found = environment.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned()).unwrap_or_default()
            };
            sources
                .find_in(&get, &|path| {
                    if path.ends_with(".aws/credentials") || path.ends_with("other") {
                        Ok(file.to_owned())
                    } else {
                        Err(std::io::ErrorKind::NotFound.into())
                    }
                })
                .map(|found| found.access_key_id + "/" + &found.secret_access_key)
        };
        let fixed = CredentialSources { fixed: Some(credentials("f", "fs")), ..Default::default() };
        let environment = [("AWS_ACCESS_KEY_ID", "e"), ("AWS_SECRET_ACCESS_KEY", "es")];
        let named =
            |profile: &str| CredentialSources { profile: profile.into(), ..Default::default() };
        assert_eq!(find(&fixed, &environment).unwrap(), "f/fs");
        assert_eq!(find(&named(""), &environment).unwrap(), "e/es");
        assert_eq!(find(&named("two"), &environment).unwrap(), "t/t=s");
        assert_eq!(find(&named(""), &[("HOME", "/h")]).unwrap(), "d/ds");
        assert_eq!(find(&named(""), &[("AWS_PROFILE", "two")]).unwrap(), "t/t=s");
        let other = [("AWS_SHARED_CREDENTIALS_FILE", "/other")];
        assert_eq!(find(&named(""), &other).unwrap(), "d/ds");
        for profile in ["none", "half"] {
            assert!(find(&named(profile), &other).unwrap_err().to_string().contains(profile));
        }
        let nowhere = [("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")];
        assert!(find(&named(""), &nowhere).unwrap_err().to_string().contains("/nowhere"));
    }
}
