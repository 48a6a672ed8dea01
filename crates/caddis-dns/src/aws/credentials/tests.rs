use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::{CredentialProvider, CredentialSources, Found, look_at};
use crate::{
    aws::Credentials,
    testing::{Answer, Seen, Server, api},
};

/// A folder with files, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("caddis-aws-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(folder.join(".aws")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn provider(sources: CredentialSources, environment: &[(&str, &str)]) -> CredentialProvider {
    let all: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    sources.provider_in(Arc::new(move |name| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }))
}

/// Id and secret, or the error.
async fn found(sources: CredentialSources, environment: &[(&str, &str)]) -> String {
    match provider(sources, environment).get().await {
        Ok(found) => {
            format!("{}/{}/{}", found.access_key_id, found.secret_access_key, found.session_token)
        }
        Err(error) => error.to_string(),
    }
}

fn named(profile: &str) -> CredentialSources {
    CredentialSources { profile: profile.into(), ..CredentialSources::default() }
}

const NO_INSTANCE: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

#[tokio::test]
async fn given_ones_then_the_environment_then_the_files() {
    let credentials = "# c\n[default]\naws_access_key_id = d\naws_secret_access_key=ds\n\n\
                       [ two ]\nAWS_ACCESS_KEY_ID=t\naws_secret_access_key = t=s\n\
                       aws_session_token = tok\n[half]\naws_access_key_id = h\n";
    let config = "[profile two]\nregion = r\naws_access_key_id = overridden\n\
                  [profile run]\ncredential_process = printf '{\"Version\":1,\"AccessKeyId\":\"p\",\"SecretAccessKey\":\"ps\"}'\n\
                  [profile sso]\nsso_session = x\n[profile fails]\ncredential_process = exit 3\n";
    let folder = Folder::new(&[(".aws/credentials", credentials), (".aws/config", config)]);
    let home = folder.0.display().to_string();
    let home = ("HOME", home.as_str());
    let fixed = Credentials {
        access_key_id: "f".into(),
        secret_access_key: "fs".into(),
        session_token: String::new(),
    };
    let fixed = CredentialSources { fixed: Some(fixed), ..CredentialSources::default() };
    let keys = [("AWS_ACCESS_KEY_ID", "e"), ("AWS_SECRET_ACCESS_KEY", "es"), home];
    assert_eq!(found(fixed, &keys).await, "f/fs/");
    assert_eq!(found(named(""), &keys).await, "e/es/");
    assert_eq!(found(named("two"), &keys).await, "t/t=s/tok");
    assert_eq!(found(named(""), &[home]).await, "d/ds/");
    assert_eq!(found(named(""), &[home, ("AWS_PROFILE", "two")]).await, "t/t=s/tok");
    let other = folder.file(".aws/credentials");
    let other = [("AWS_SHARED_CREDENTIALS_FILE", other.as_str())];
    assert_eq!(found(named(""), &other).await, "d/ds/");
    assert_eq!(found(named("run"), &[home]).await, "p/ps/");
    for (profile, why) in [
        ("none", "profile \"none\" is missing"),
        ("half", "profile \"half\""),
        ("sso", "credential_process = aws configure"),
        ("fails", "exit status: 3"),
    ] {
        let error = found(named(profile), &[home]).await;
        assert!(error.contains(why), "{error}");
    }
    let nowhere = [("HOME", "/nowhere"), NO_INSTANCE];
    let error = found(named(""), &nowhere).await;
    assert!(error.starts_with("no AWS credentials"), "{error}");
}

const XML: &str = "<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><X><Credentials>\
    <AccessKeyId>rid</AccessKeyId><SecretAccessKey>rs</SecretAccessKey>\
    <SessionToken>rt</SessionToken><Expiration>2099-01-02T03:04:05Z</Expiration>\
    </Credentials></X></R>";

fn sts() -> Server {
    api(|seen: &Seen, _| {
        if seen.body.contains("RoleArn=denied") {
            let text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message>\
                        </Error></ErrorResponse>";
            return Answer::new(403, text);
        }
        Answer::new(200, XML)
    })
}

#[tokio::test]
async fn roles_are_taken_on_with_other_credentials() {
    let config = "[profile base]\naws_access_key_id = b\naws_secret_access_key = bs\n\
                  [profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n\
                  external_id = x y\nrole_session_name = me\nduration_seconds = 900\nregion = eu-west-1\n\
                  [profile env]\nrole_arn = arn:e\ncredential_source = Environment\n\
                  [profile self]\nrole_arn = arn:s\nsource_profile = self\n\
                  aws_access_key_id = s\naws_secret_access_key = ss\n\
                  [profile round]\nrole_arn = a\nsource_profile = about\n\
                  [profile about]\nrole_arn = a\nsource_profile = round\n\
                  [profile denied]\nrole_arn = denied\nsource_profile = base\n\
                  [profile lost]\nrole_arn = a\n[profile odd]\nrole_arn = a\ncredential_source = Moon\n\
                  [profile gone]\nrole_arn = a\nsource_profile = nobody\n";
    let folder = Folder::new(&[(".aws/config", config)]);
    let home = folder.0.display().to_string();
    let server = sts();
    let keys = [
        ("HOME", home.as_str()),
        ("AWS_ENDPOINT_URL_STS", server.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "e"),
        ("AWS_SECRET_ACCESS_KEY", "es"),
    ];
    for profile in ["role", "env", "self"] {
        assert_eq!(found(named(profile), &keys).await, "rid/rs/rt", "{profile}");
    }
    let seen = server.seen();
    assert_eq!(seen[0].line(), "POST /");
    assert_eq!(
        seen[0].body,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&\
         RoleSessionName=me&ExternalId=x%20y&DurationSeconds=900"
    );
    let signers: Vec<String> = seen
        .iter()
        .map(|seen| seen.header("authorization").split('/').take(4).collect::<Vec<_>>().join("/"))
        .collect();
    let of = |key: &str, region: &str, at: usize| {
        let (start, end) = (format!("Credential={key}/"), format!("/{region}/sts"));
        assert!(signers[at].contains(&start) && signers[at].ends_with(&end), "{signers:?}");
    };
    of("b", "eu-west-1", 0);
    of("e", "us-east-1", 1);
    of("s", "us-east-1", 2);
    for (profile, why) in [
        ("round", "in a circle"),
        ("denied", "taking on denied: HTTP 403 AccessDenied not you"),
        ("lost", "needs source_profile or credential_source"),
        ("odd", "credential_source must be"),
        ("gone", "source_profile \"nobody\" is missing"),
    ] {
        let error = found(named(profile), &keys).await;
        assert!(error.contains(why), "{profile}: {error}");
    }
    // A role of the configuration itself, on top of what there is.
    let sources = CredentialSources {
        role: "arn:top".into(),
        region: "ap-x".into(),
        ..CredentialSources::default()
    };
    assert_eq!(found(sources, &keys).await, "rid/rs/rt");
    assert!(
        server.seen().last().unwrap().body.contains("RoleArn=arn%3Atop&RoleSessionName=caddis")
    );
}

#[tokio::test]
async fn web_identities() {
    let folder = Folder::new(&[("token", "secret.token\n")]);
    let (server, token) = (sts(), folder.file("token"));
    let environment = [
        ("AWS_ENDPOINT_URL", server.url.as_str()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:w"),
        ("HOME", "/nowhere"),
    ];
    assert_eq!(found(named(""), &environment).await, "rid/rs/rt");
    let seen = server.seen();
    assert!(seen[0].body.ends_with("&WebIdentityToken=secret.token"), "{}", seen[0].body);
    assert!(seen[0].body.starts_with("Action=AssumeRoleWithWebIdentity&"));
    assert_eq!(seen[0].header("authorization"), "");
    let gone = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/token"), ("AWS_ROLE_ARN", "arn:w")];
    assert!(found(named(""), &gone).await.contains("web identity /no/token"));
}

const JSON: &str = r#"{"Code":"Success","AccessKeyId":"i","SecretAccessKey":"is","Token":"it","Expiration":"2099-01-02T03:04:05Z"}"#;

#[tokio::test]
async fn containers() {
    let folder = Folder::new(&[("token", "Bearer t\n")]);
    let server = api(|seen: &Seen, count| match (count, seen.header("authorization")) {
        (0, _) => Answer::new(500, "a bad moment"),
        (_, "Bearer t") => Answer::new(200, JSON),
        _ => Answer::new(403, ""),
    });
    let url = format!("{}/v2/credentials", server.url);
    let token = folder.file("token");
    let mut environment = vec![
        ("HOME", "/nowhere"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
    ];
    assert_eq!(found(named(""), &environment).await, "i/is/it");
    assert_eq!(server.lines(), ["GET /v2/credentials", "GET /v2/credentials"]);
    environment.pop();
    let error = found(named(""), &environment).await;
    assert!(error.contains("HTTP 403"), "{error}");
    // A secret never goes over the network in clear text.
    for url in ["http://example.com/x", "http://169.254.169.1/", "ftp://localhost/"] {
        let error = found(named(""), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]).await;
        assert!(error.contains("must be https"), "{error}");
    }
    for url in ["https://a.test/", "http://[::1]:8/", "http://169.254.170.23/v1"] {
        assert!(super::remote::is_trusted(url), "{url}");
    }
}

fn instance(role: &'static str) -> Server {
    api(move |seen: &Seen, _| {
        let session = seen.header("x-aws-ec2-metadata-token");
        match (seen.line().as_str(), session) {
            ("PUT /latest/api/token", "") => {
                let lifetime = seen.header("x-aws-ec2-metadata-token-ttl-seconds");
                assert_eq!(lifetime, "60");
                Answer::new(200, "session")
            }
            ("GET /latest/meta-data/iam/security-credentials/", "session") if role.is_empty() => {
                Answer::new(404, "")
            }
            ("GET /latest/meta-data/iam/security-credentials/", "session") => {
                Answer::new(200, format!("{role}\nother"))
            }
            ("GET /latest/meta-data/iam/security-credentials/bad", "session") => {
                Answer::new(200, r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"no trust"}"#)
            }
            ("GET /latest/meta-data/iam/security-credentials/web", "session") => {
                Answer::new(200, JSON)
            }
            _ => Answer::new(401, ""),
        }
    })
}

#[tokio::test]
async fn instances() {
    let server = instance("web");
    let environment =
        |url: &'static str| [("HOME", "/nowhere"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)];
    let url = |server: &Server| -> &'static str { format!("{}/", server.url).leak() };
    let one = provider(named(""), &environment(url(&server)));
    assert_eq!(one.get().await.unwrap().session_token, "it");
    // They are kept.
    assert_eq!(one.get().await.unwrap().session_token, "it");
    assert_eq!(server.seen().len(), 3);
    for (role, why) in [("", "the instance has no role"), ("bad", "no trust")] {
        let server = instance(role);
        let error = found(named(""), &environment(url(&server))).await;
        assert!(error.contains(why), "{error}");
    }
    // Nobody there.
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap()).leak()
    };
    let error = found(named(""), &environment(gone)).await;
    assert!(error.contains("metadata of the instance: dial tcp"), "{error}");
}

#[tokio::test]
async fn those_that_end_are_replaced_and_outlive_a_failure() {
    let server = api(|_, count| {
        let end = SystemTime::now() + Duration::from_secs(120);
        let end = time::OffsetDateTime::from(end);
        let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();
        match count {
            0 | 1 => Answer::new(
                200,
                format!(
                    r#"{{"AccessKeyId":"i{count}","SecretAccessKey":"s","Expiration":"{end}"}}"#
                ),
            ),
            _ => Answer::new(404, ""),
        }
    });
    let url = server.url.clone();
    let one = provider(named(""), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url), ("HOME", "/no")]);
    assert_eq!(one.get().await.unwrap().access_key_id, "i0");
    assert_eq!(one.get().await.unwrap().access_key_id, "i0");
    let overdue = async || {
        one.kept.lock().await.as_mut().unwrap().look_at = SystemTime::UNIX_EPOCH;
        one.get().await
    };
    assert_eq!(overdue().await.unwrap().access_key_id, "i1");
    assert_eq!(overdue().await.unwrap().access_key_id, "i1");
    one.kept.lock().await.as_mut().unwrap().found.expires = Some(SystemTime::UNIX_EPOCH);
    assert!(overdue().await.is_err());
}

#[test]
fn when_to_look_again() {
    let now = SystemTime::now();
    let of = |seconds: u64| Found {
        credentials: Credentials {
            access_key_id: String::new(),
            secret_access_key: String::new(),
            session_token: String::new(),
        },
        expires: Some(now + Duration::from_secs(seconds)),
    };
    let after = |seconds| look_at(&of(seconds), now).duration_since(now).unwrap().as_secs();
    assert_eq!((after(3_600), after(120), after(0)), (3_300, 1, 0));
}
