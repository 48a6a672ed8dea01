//! Credentials that a container or an instance is given over HTTP. Forward proxies are passed over:
//! who gives them is on this machine or its link.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use serde::Deserialize;

use super::{AwsError, CredentialProvider, Credentials, Found, end};
use crate::http::{HttpClient, HttpOptions, Route};

/// Where there is no metadata service, nobody refuses.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
const CONTAINER: &str = "http://169.254.170.2";
const INSTANCE: &str = "http://169.254.169.254";
const INSTANCE_V6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// Seconds that a session with the metadata service may last; it is used at once.
const SESSION: &str = "60";

/// What is given, by services and by `credential_process`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    secret_access_key: String,
    #[serde(default, alias = "SessionToken")]
    token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Reads what is given.
pub(super) fn read(text: &[u8]) -> Result<Found, AwsError> {
    let given: Given = serde_json::from_slice(text)
        .map_err(|error| AwsError(format!("unexpected answer: {error}")))?;
    let credentials = Credentials {
        access_key_id: given.access_key_id,
        secret_access_key: given.secret_access_key,
        session_token: given.token.unwrap_or_default(),
    };
    if !credentials.is_complete() {
        let (code, message) = (given.code.unwrap_or_default(), given.message.unwrap_or_default());
        return Err(AwsError(format!("no credentials in the answer {code} {message}")));
    }
    Ok(Found { credentials, expires: end(&given.expiration.unwrap_or_default())? })
}

impl CredentialProvider {
    /// Those of the container; none outside of one.
    pub(super) async fn of_container(&self) -> Result<Option<Found>, AwsError> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match &*relative {
            "" => self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            path => format!("{CONTAINER}{path}"),
        };
        if url.is_empty() {
            return Ok(None);
        }
        if !is_trusted(&url) {
            return Err(AwsError(format!(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI {url} must be https, or on this machine"
            )));
        }
        let mut token = self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let file = self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        if !file.is_empty() {
            let text = tokio::fs::read_to_string(&file).await;
            token = text.map_err(|error| AwsError(format!("{file}: {error}")))?.trim().to_owned();
        }
        let fields = [("authorization", token.as_str())];
        let fields = if token.is_empty() { &fields[..0] } else { &fields[..] };
        let answer = ask(&client(), Method::GET, &url, fields).await?;
        let found = if answer.status().is_success() {
            read(answer.body())
        } else {
            Err(AwsError(format!("HTTP {}", answer.status().as_u16())))
        };
        found.map(Some).map_err(|error| AwsError(format!("credentials of {url}: {}", error.0)))
    }

    /// Those of the instance's role; none where its metadata service is not wanted.
    pub(super) async fn of_instance(&self) -> Result<Option<Found>, AwsError> {
        if self.variable("AWS_EC2_METADATA_DISABLED").eq_ignore_ascii_case("true") {
            return Ok(None);
        }
        let v6 = self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        let base = match self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            url if !url.is_empty() => url.trim_end_matches('/').to_owned(),
            _ if v6.eq_ignore_ascii_case("ipv6") => INSTANCE_V6.to_owned(),
            _ => INSTANCE.to_owned(),
        };
        let client = client();
        let what = |error: AwsError| AwsError(format!("metadata of the instance: {}", error.0));
        let get = async |path: &str, session: &str| {
            let (url, fields) = (format!("{base}{path}"), [("x-aws-ec2-metadata-token", session)]);
            let answer = ask(&client, Method::GET, &url, &fields).await.map_err(what)?;
            Ok::<_, AwsError>(answer)
        };
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", SESSION)];
        let url = format!("{base}/latest/api/token");
        let answer = ask(&client, Method::PUT, &url, &ttl).await.map_err(what)?;
        if !answer.status().is_success() {
            let text = format!("no session: HTTP {}", answer.status().as_u16());
            return Err(what(AwsError(text)));
        }
        let session = String::from_utf8_lossy(answer.body()).trim().to_owned();
        let answer = get(ROLES, &session).await?;
        let names = String::from_utf8_lossy(answer.body()).into_owned();
        let role = names.lines().map(str::trim).find(|name| !name.is_empty());
        let Some(role) = role.filter(|_| answer.status().is_success()) else {
            return Err(what(AwsError("the instance has no role".to_owned())));
        };
        let answer = get(&format!("{ROLES}{role}"), &session).await?;
        if !answer.status().is_success() {
            let text = format!("role {role}: HTTP {}", answer.status().as_u16());
            return Err(what(AwsError(text)));
        }
        read(answer.body()).map(Some).map_err(what)
    }
}

fn client() -> HttpClient {
    HttpClient::with(HttpOptions {
        route: Route::Direct,
        timeout: TIMEOUT,
        ..HttpOptions::default()
    })
}

/// Whether secrets may be asked for there: over TLS, or where no other machine listens in.
pub(super) fn is_trusted(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") if host == "localhost" => true,
        Some("http") => host.parse().is_ok_and(|ip: IpAddr| {
            let agents = [
                IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
                IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
            ];
            ip.is_loopback() || agents.contains(&ip)
        }),
        _ => false,
    }
}

/// Asks, again where the service had a bad moment.
async fn ask(
    client: &HttpClient,
    method: Method,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<Response<Bytes>, AwsError> {
    let mut attempt = 1;
    loop {
        let mut request = Request::builder().method(method.clone()).uri(url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new());
        let request = request.map_err(|error| AwsError(format!("{url}: {error}")))?;
        match client.send(request).await {
            Ok(answer) if answer.status().is_server_error() && attempt < ATTEMPTS => {}
            Ok(answer) => return Ok(answer),
            Err(error) => return Err(AwsError(error.to_string())),
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}
