//! Where credentials come from, in the order of AWS's own programs:
//!
//! 1. those that are given,
//! 2. the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`),
//! 3. a token of a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`: EKS and others),
//! 4. the profile (`AWS_PROFILE`, else `default`) of the files of shared credentials and settings,
//! 5. the container (`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `_FULL_URI`: ECS, EKS),
//! 6. the instance (EC2's metadata service, version 2, unless `AWS_EC2_METADATA_DISABLED`).
//!
//! Where a profile is named by the configuration, the environment is passed over. With a role on
//! top, what was found asks STS for that role's credentials. Left out are profiles of SSO, whose
//! tokens want a person at a browser, and version 1 of the metadata service.

mod profile;
mod remote;
mod sts;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Mutex;

use super::{AwsError, Credentials};

/// Credentials with an end are replaced so long before it.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// Credentials without one are looked for again after this time: files change.
const LASTING: Duration = Duration::from_secs(5 * 60);

/// Where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Credentials as they are, if id and secret are not empty.
    pub fixed: Option<Credentials>,
    /// The profile; empty for `AWS_PROFILE`, else `default`.
    pub profile: String,
    /// A role to take on with what was found; empty for none.
    pub role: String,
    /// The region whose STS is asked; empty for that of the environment or of the profile.
    pub region: String,
}

/// Reads a variable of the environment; an absent one is empty.
type Variables = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// Finds credentials and keeps them until they end.
pub struct CredentialProvider {
    sources: CredentialSources,
    variables: Variables,
    /// One looks at a time; others then have what it found.
    kept: Mutex<Option<Kept>>,
}

impl fmt::Debug for CredentialProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialProvider").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// Credentials with the time of their end.
#[derive(Clone)]
struct Found {
    credentials: Credentials,
    expires: Option<SystemTime>,
}

struct Kept {
    found: Found,
    look_at: SystemTime,
}

impl From<Credentials> for Found {
    fn from(credentials: Credentials) -> Self {
        Self { credentials, expires: None }
    }
}

impl CredentialSources {
    /// What finds and keeps them. Nothing is looked for yet.
    pub fn provider(self) -> CredentialProvider {
        self.provider_in(Arc::new(|name| std::env::var(name).unwrap_or_default()))
    }

    fn provider_in(self, variables: Variables) -> CredentialProvider {
        CredentialProvider { sources: self, variables, kept: Mutex::default() }
    }
}

impl CredentialProvider {
    /// Credentials that are valid for some minutes yet.
    ///
    /// # Errors
    /// They are nowhere, a profile is incomplete, or who gives them does not answer; where those of
    /// before have not ended yet, they are taken instead.
    pub async fn get(&self) -> Result<Credentials, AwsError> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some(kept) = &*kept
            && now < kept.look_at
        {
            return Ok(kept.found.credentials.clone());
        }
        match self.find().await {
            Ok(found) => {
                let credentials = found.credentials.clone();
                *kept = Some(Kept { look_at: look_at(&found, now), found });
                Ok(credentials)
            }
            Err(error) => {
                let still = kept.as_ref().map(|kept| &kept.found);
                let still = still.filter(|found| found.expires.is_some_and(|end| now < end));
                let Some(still) = still else { return Err(error) };
                tracing::warn!(target: "aws", %error, "no new credentials: the old ones are used on");
                Ok(still.credentials.clone())
            }
        }
    }

    async fn find(&self) -> Result<Found, AwsError> {
        let found = self.base().await?;
        if self.sources.role.is_empty() {
            return Ok(found);
        }
        let role = sts::Role { arn: self.sources.role.clone(), ..sts::Role::default() };
        self.sts("").assume(&role, &found.credentials).await
    }

    async fn base(&self) -> Result<Found, AwsError> {
        if let Some(fixed) = self.sources.fixed.as_ref().filter(|fixed| fixed.is_complete()) {
            return Ok(fixed.clone().into());
        }
        if self.sources.profile.is_empty() {
            if let Some(found) = self.of_environment() {
                return Ok(found.into());
            }
            if let Some(found) = self.of_web_identity().await? {
                return Ok(found);
            }
        }
        if let Some(found) = self.of_profile().await? {
            return Ok(found);
        }
        if let Some(found) = self.of_container().await? {
            return Ok(found);
        }
        match self.of_instance().await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(nowhere("")),
            Err(error) => Err(nowhere(&format!("; {error}"))),
        }
    }

    fn variable(&self, name: &str) -> String {
        (self.variables)(name)
    }

    fn of_environment(&self) -> Option<Credentials> {
        let found = Credentials {
            access_key_id: self.variable("AWS_ACCESS_KEY_ID"),
            secret_access_key: self.variable("AWS_SECRET_ACCESS_KEY"),
            session_token: self.variable("AWS_SESSION_TOKEN"),
        };
        found.is_complete().then_some(found)
    }

    async fn of_web_identity(&self) -> Result<Option<Found>, AwsError> {
        let file = self.variable("AWS_WEB_IDENTITY_TOKEN_FILE");
        let arn = self.variable("AWS_ROLE_ARN");
        if file.is_empty() || arn.is_empty() {
            return Ok(None);
        }
        let session = self.variable("AWS_ROLE_SESSION_NAME");
        let role = sts::Role { arn, session, ..sts::Role::default() };
        self.sts("").assume_with_token(&role, &file).await.map(Some)
    }

    /// STS of the region of the configuration, of the environment, or of a profile.
    fn sts(&self, of_profile: &str) -> sts::Sts {
        let candidates = [
            self.sources.region.clone(),
            self.variable("AWS_REGION"),
            self.variable("AWS_DEFAULT_REGION"),
            of_profile.to_owned(),
        ];
        let region = candidates.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let urls = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"].map(|name| self.variable(name));
        sts::Sts::new(region, urls.into_iter().find(|url| !url.is_empty()))
    }
}

fn look_at(found: &Found, now: SystemTime) -> SystemTime {
    match found.expires {
        // Those that end within the margin are kept for a moment, so that not each call asks.
        Some(end) => (end - AHEAD).max((now + Duration::from_secs(1)).min(end)),
        None => now + LASTING,
    }
}

fn nowhere(more: &str) -> AwsError {
    AwsError(format!(
        "no AWS credentials: none are configured, none in AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, in the files of shared credentials, or from a container or \
         instance{more}"
    ))
}

/// The end of credentials as AWS writes it (RFC 3339).
fn end(text: &str) -> Result<Option<SystemTime>, AwsError> {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    if text.is_empty() {
        return Ok(None);
    }
    let at = OffsetDateTime::parse(text, &Rfc3339);
    at.map(|at| Some(at.into())).map_err(|_| AwsError(format!("expiration \"{text}\" is no time")))
}
