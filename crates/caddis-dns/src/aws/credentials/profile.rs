//! Profiles of the files that AWS's programs share: `AWS_SHARED_CREDENTIALS_FILE`, else
//! `~/.aws/credentials`, and `AWS_CONFIG_FILE`, else `~/.aws/config`.
//!
//! A profile has keys, or a role (`role_arn`) with where to get what takes it on (`source_profile`,
//! `credential_source`, `web_identity_token_file`), or a program (`credential_process`).

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{AwsError, CredentialProvider, Credentials, Found, remote, sts};

/// Profiles that name each other.
const MAX_DEPTH: usize = 8;
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The keys of a profile; those of the file of credentials go before those of the other.
type Section = BTreeMap<String, String>;

/// The files as they are.
struct Files {
    credentials: PathBuf,
    config: PathBuf,
    credentials_text: String,
    config_text: String,
}

impl Files {
    fn section(&self, profile: &str) -> Option<Section> {
        let own = section(&self.credentials_text, profile);
        match (section(&self.config_text, profile), own) {
            (Some(mut base), Some(over)) => {
                base.extend(over);
                Some(base)
            }
            (base, over) => base.or(over),
        }
    }

    fn shown(&self) -> String {
        format!("{} and {}", self.credentials.display(), self.config.display())
    }
}

impl CredentialProvider {
    /// Those of the profile; none where no profile is named and there is no default one with any.
    pub(super) async fn of_profile(&self) -> Result<Option<Found>, AwsError> {
        let named = match &*self.sources.profile {
            "" => self.variable("AWS_PROFILE"),
            profile => profile.to_owned(),
        };
        let files = self.files().await?;
        let profile = if named.is_empty() { "default" } else { &named };
        let Some(found) = files.section(profile) else {
            if named.is_empty() {
                return Ok(None);
            }
            let shown = files.shown();
            return Err(AwsError(format!("profile \"{profile}\" is missing in {shown}")));
        };
        match Box::pin(self.of_section(&files, profile, found, 0)).await? {
            None if !named.is_empty() => {
                let shown = files.shown();
                Err(AwsError(format!(
                    "profile \"{profile}\" of {shown} has no aws_access_key_id with \
                     aws_secret_access_key, no role_arn and no credential_process"
                )))
            }
            found => Ok(found),
        }
    }

    async fn files(&self) -> Result<Files, AwsError> {
        let place = |variable: &str, name: &str| match self.variable(variable) {
            path if path.is_empty() => PathBuf::from(self.variable("HOME")).join(".aws").join(name),
            path => PathBuf::from(path),
        };
        let credentials = place("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = place("AWS_CONFIG_FILE", "config");
        let (credentials_text, config_text) = (read(&credentials).await?, read(&config).await?);
        Ok(Files { credentials, config, credentials_text, config_text })
    }

    async fn of_section(
        &self,
        files: &Files,
        profile: &str,
        mut section: Section,
        depth: usize,
    ) -> Result<Option<Found>, AwsError> {
        let wrong = |what: &str| Err(AwsError(format!("profile \"{profile}\": {what}")));
        let mut take = |key: &str| section.remove(key).unwrap_or_default();
        let keys = Credentials {
            access_key_id: take("aws_access_key_id"),
            secret_access_key: take("aws_secret_access_key"),
            session_token: take("aws_session_token"),
        };
        let (arn, source) = (take("role_arn"), take("source_profile"));
        let (origin, token) = (take("credential_source"), take("web_identity_token_file"));
        let role = sts::Role {
            arn,
            session: take("role_session_name"),
            external_id: take("external_id"),
            seconds: take("duration_seconds"),
        };
        let (region, process) = (take("region"), take("credential_process"));
        let is_sso = section.keys().any(|key| key.starts_with("sso_"));
        if depth > MAX_DEPTH {
            return wrong("source_profile leads round in a circle");
        }
        if !role.arn.is_empty() {
            let sts = self.sts(&region);
            if !token.is_empty() {
                return sts.assume_with_token(&role, &token).await.map(Some);
            }
            let base = match (&*source, &*origin) {
                // Its own keys take the role on.
                (source, _) if source == profile && keys.is_complete() => Some(keys.into()),
                ("", "Environment") => self.of_environment().map(Found::from),
                ("", "EcsContainer") => self.of_container().await?,
                ("", "Ec2InstanceMetadata") => self.of_instance().await?,
                ("", "") => return wrong("role_arn needs source_profile or credential_source"),
                ("", _) => {
                    return wrong(
                        "credential_source must be Environment, EcsContainer or \
                         Ec2InstanceMetadata",
                    );
                }
                (source, _) => match files.section(source) {
                    Some(section) => {
                        Box::pin(self.of_section(files, source, section, depth + 1)).await?
                    }
                    None => return wrong(&format!("source_profile \"{source}\" is missing")),
                },
            };
            let Some(base) = base else {
                return wrong(&format!("no credentials of {origin}{source} to take the role on"));
            };
            return sts.assume(&role, &base.credentials).await.map(Some);
        }
        if keys.is_complete() {
            return Ok(Some(keys.into()));
        }
        if !process.is_empty() {
            return of_process(&process).await.map(Some);
        }
        if is_sso {
            return wrong(
                "credentials of SSO are not supported: use keys, a role, or \
                 credential_process = aws configure export-credentials --format process",
            );
        }
        Ok(None)
    }
}

/// A file's text; an absent one is empty.
async fn read(path: &PathBuf) -> Result<String, AwsError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(AwsError(format!("reading {}: {error}", path.display()))),
    }
}

/// Runs a program that prints credentials.
async fn of_process(command: &str) -> Result<Found, AwsError> {
    let fail = |why: String| AwsError(format!("credential_process: {why}"));
    let mut program = Command::new("sh");
    program.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROCESS_TIMEOUT, program.output()).await;
    let output = output.map_err(|_| fail("timeout".to_owned()))?;
    let output = output.map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(fail(format!("{}: {}", output.status, text.trim())));
    }
    remote::read(&output.stdout).map_err(|error| fail(error.0))
}

/// The keys of a section of an INI file; a later section of the same name adds to it.
fn section(text: &str, profile: &str) -> Option<BTreeMap<String, String>> {
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
