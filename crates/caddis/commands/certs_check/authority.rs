//! What the authorities themselves say: whether they can be reached, and what they want and offer.

use std::{collections::HashMap, sync::Arc};

use caddis_tls::{AcmeConfig, Directory, Issuer, ManagedSubject, Unread, storage::Storage};
use tokio::task::JoinSet;

use super::{Point, Status};

/// Directories read at a time.
const AT_A_TIME: usize = 16;

/// The directories of all issuers that would be used.
#[derive(Default)]
pub(super) struct Authorities(HashMap<Key, Result<Directory, Unread>>);

/// What decides on an answer: directory, trusted root files, way there.
type Key = (String, Vec<String>, String);

fn key(config: &AcmeConfig) -> Key {
    (config.directory.clone(), config.trusted_roots.clone(), format!("{:?}", config.route))
}

impl Authorities {
    /// Reads each directory once, several at a time.
    pub(super) async fn read<'a>(subjects: impl Iterator<Item = &'a ManagedSubject>) -> Self {
        let mut wanted = HashMap::new();
        for issuer in subjects.flat_map(|subject| &subject.issuers) {
            if let Issuer::Acme(config) = issuer {
                wanted.entry(key(config)).or_insert_with(|| config.clone());
            }
        }
        let mut wanted = wanted.into_iter();
        let (mut reading, mut found) = (JoinSet::new(), HashMap::new());
        loop {
            for (key, config) in wanted.by_ref().take(AT_A_TIME.saturating_sub(reading.len())) {
                reading.spawn(async move { (key, config.look().await) });
            }
            match reading.join_next().await {
                Some(Ok((key, read))) => found.insert(key, read),
                Some(Err(_)) => continue,
                None => return Self(found),
            };
        }
    }

    /// What its directory says, where it could be read.
    pub(super) fn directory(&self, config: &AcmeConfig) -> Option<&Directory> {
        self.0.get(&key(config))?.as_ref().ok()
    }

    /// What is to be told of an issuer's authority.
    pub(super) async fn points(
        &self,
        config: &AcmeConfig,
        storage: &Arc<dyn Storage>,
    ) -> Vec<Point> {
        let url = &config.directory;
        let point = |status, detail: String| Point::new("authority", status, detail);
        let directory = match self.0.get(&key(config)) {
            Some(Ok(directory)) => directory,
            Some(Err(Unread { message, remedy })) => {
                let detail = format!("{url} cannot be used: {message}; {remedy}");
                return vec![point(Status::Fail, detail)];
            }
            None => return vec![point(Status::Unknown, format!("{url} was not asked"))],
        };
        let mut points = vec![point(Status::Ok, format!("{url} answers"))];
        points.extend(profile(config, directory));
        points.extend(account(config, directory, storage).await);
        points
    }
}

/// Whether the wanted profile is offered.
fn profile(config: &AcmeConfig, directory: &Directory) -> Option<Point> {
    let wanted = &config.profile;
    if wanted.is_empty() {
        return None;
    }
    let offered = &directory.profiles;
    let point = |status, detail: String| Some(Point::new("profile", status, detail));
    if offered.contains(wanted) {
        return point(Status::Ok, format!("{wanted} is offered"));
    }
    let remedy = if offered.is_empty() {
        "the authority offers none: take `profile` out".to_owned()
    } else {
        format!("let `profile` be one of: {}", offered.join(" "))
    };
    point(Status::Fail, format!("{wanted:?} is not offered; {remedy}"))
}

/// Whether the account can be made that an authority wants to know from elsewhere.
async fn account(
    config: &AcmeConfig,
    directory: &Directory,
    storage: &Arc<dyn Storage>,
) -> Option<Point> {
    if !directory.external_account_required {
        return None;
    }
    let point = |status, detail: &str| Some(Point::new("account", status, detail));
    if config.has_external_account() {
        return point(Status::Ok, "is bound to an external one, as the authority requires");
    }
    let (looking, storage) = (config.clone(), storage.clone());
    let known = tokio::task::spawn_blocking(move || looking.has_account(&*storage)).await;
    match known.map_err(std::io::Error::other).flatten() {
        Ok(true) => point(Status::Ok, "is known already"),
        Ok(false) => {
            let detail = "the authority requires an external account, and none is configured: set \
                          its key id and MAC key by the option `acme_eab` (of the issuer: `eab`)";
            point(Status::Fail, detail)
        }
        // The storage has a point of its own.
        Err(_) => point(
            Status::Unknown,
            "the authority requires an external account unless one is known already, which cannot be \
             seen in the storage",
        ),
    }
}

/// The domains by which CAA records may name an authority (RFC 8659 §4.2): those that its directory
/// tells, or those that are known.
pub(super) fn caa_domains<'a>(
    config: &AcmeConfig,
    directory: Option<&'a Directory>,
) -> Vec<&'a str> {
    let told = directory.map(|directory| &directory.caa_identities);
    if let Some(told) = told.filter(|told| !told.is_empty()) {
        return told.iter().map(String::as_str).collect();
    }
    let host = host(config);
    let known = AUTHORITIES.iter().find(|(known, _)| *known == host);
    known.map(|(_, domains)| domains.to_vec()).unwrap_or_default()
}

/// The host of an issuer's directory.
pub(super) fn host(config: &AcmeConfig) -> &str {
    let host = config.directory.split('/').nth(2).unwrap_or_default();
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

/// Hosts of directories, and the domains by which CAA records name their authorities.
const AUTHORITIES: &[(&str, &[&str])] = &[
    ("acme-v02.api.letsencrypt.org", &["letsencrypt.org"]),
    ("acme-staging-v02.api.letsencrypt.org", &["letsencrypt.org"]),
    ("acme.zerossl.com", &["sectigo.com", "zerossl.com"]),
    ("dv.acme-v02.api.pki.goog", &["pki.goog"]),
    ("dv.acme-v02.test-api.pki.goog", &["pki.goog"]),
    ("api.buypass.com", &["buypass.com"]),
    ("acme.ssl.com", &["ssl.com"]),
];
