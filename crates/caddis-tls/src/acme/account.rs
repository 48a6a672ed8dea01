//! Accounts per authority and mail address, kept in the storage where Caddy keeps them
//! (T128, T129): `acme/<ca>/users/<email>/<user>.json` and `.key`.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use instant_acme::{Account, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::{Acme, Failure, config::AcmeConfig, eab, failure, transport::Transport};
use crate::{
    error::{Context, Error, Result},
    key,
    storage::{Storage, keys},
};

/// An account with its way to the authority.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) transport: Transport,
    /// The account's key.
    pub(super) key: Arc<Vec<u8>>,
}

/// Directory, mail address, root files, way there.
type SessionKey = (String, String, Vec<String>, String);

/// The sessions that are open; one registration at a time for each.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<SessionKey, Arc<tokio::sync::Mutex<Option<Session>>>>>);

/// The stored form of an account, as Caddy writes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Registration {
    #[serde(default)]
    status: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    #[serde(default, rename = "termsOfServiceAgreed")]
    terms_of_service_agreed: bool,
    #[serde(default)]
    orders: String,
    #[serde(default)]
    location: String,
}

impl Registration {
    /// Whether the account can be used as it is.
    fn is_usable(&self) -> bool {
        self.status == "valid" && !self.location.is_empty()
    }
}

struct Stored {
    registration: Registration,
    pkcs8: Vec<u8>,
}

const LOCK_WAIT: Duration = Duration::from_secs(30);

impl Acme {
    fn slot(
        &self,
        config: &AcmeConfig,
        directory: &str,
    ) -> Arc<tokio::sync::Mutex<Option<Session>>> {
        let key = (
            directory.to_owned(),
            config.email.clone(),
            config.trusted_roots.clone(),
            format!("{:?}", config.route),
        );
        let mut all = self.accounts.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key).or_default().clone()
    }

    /// The account for an authority: open, stored or new.
    pub(super) async fn session(
        &self,
        config: &AcmeConfig,
        directory: &str,
        storage: &Arc<dyn Storage>,
    ) -> std::result::Result<Session, Failure> {
        let slot = self.slot(config, directory);
        let mut slot = slot.lock().await;
        if let Some(session) = &*slot {
            return Ok(session.clone());
        }
        let session = self.open(config, directory, storage).await?;
        tracing::info!(
            target: "tls.issuance.acme",
            account_id = session.account.id(),
            ca = directory,
            "using ACME account"
        );
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Forgets an open session; the next one reads the directory anew.
    pub(super) async fn close(&self, config: &AcmeConfig, directory: &str) {
        *self.slot(config, directory).lock().await = None;
    }

    /// Forgets an account that the authority does not know (any more).
    pub(super) async fn forget(
        &self,
        config: &AcmeConfig,
        directory: &str,
        storage: &Arc<dyn Storage>,
    ) {
        tracing::warn!(
            target: "tls.issuance.acme",
            ca = directory,
            "the account is not known to the authority: registering again"
        );
        self.close(config, directory).await;
        let (registration, _) = storage_keys(directory, &config.email);
        let storage = storage.clone();
        // Where it cannot be removed it is overwritten later.
        let _ = tokio::task::spawn_blocking(move || storage.delete(&registration)).await;
    }

    async fn open(
        &self,
        config: &AcmeConfig,
        directory: &str,
        storage: &Arc<dyn Storage>,
    ) -> std::result::Result<Session, Failure> {
        let transport = Transport::new(self.client(&config.trusted_roots, &config.route).await?);
        if !config.account_key.is_empty() {
            let pkcs8 = pkcs8_of(config.account_key.as_bytes()).context("account_key")?;
            let found = with_key(&transport, &pkcs8, directory, true).await?;
            return Ok(Session { account: found, transport, key: Arc::new(pkcs8) });
        }
        // Two processes must not register at the same time and overwrite each other's account.
        let lock = format!("acme_account_{}_{}", keys::acme_issuer_key(directory), config.email);
        let locking = storage.clone();
        let guard = tokio::task::spawn_blocking(move || locking.lock(&lock, LOCK_WAIT)).await;
        let guard = guard.map_err(Failure::new)?;
        let guard = guard.map_err(|error| Failure::of_storage("unable to acquire lock", &error))?;
        let result = self.open_locked(config, directory, storage, transport).await;
        // Letting go of a lock writes to the storage.
        let _ = tokio::task::spawn_blocking(move || drop(guard)).await;
        result
    }

    async fn open_locked(
        &self,
        config: &AcmeConfig,
        directory: &str,
        storage: &Arc<dyn Storage>,
        transport: Transport,
    ) -> std::result::Result<Session, Failure> {
        let (reading, place) = (storage.clone(), directory.to_owned());
        let email = config.email.clone();
        let stored = tokio::task::spawn_blocking(move || load(&*reading, &place, &email));
        // An account that cannot be read now is not replaced.
        let stored = stored.await.map_err(Failure::new)?;
        let stored = stored.map_err(|error| Failure::of_storage("loading account", &error))?;
        if let Some(stored) = &stored
            && stored.registration.is_usable()
        {
            let builder = Account::builder_with_http(Box::new(transport.clone()));
            let location = stored.registration.location.clone();
            let pkcs8 = PrivatePkcs8KeyDer::from(stored.pkcs8.clone());
            let account = builder.from_parts(location, pkcs8, directory.to_owned()).await;
            let account = account.map_err(|error| failed(&error, &transport))?;
            return Ok(Session { account, transport, key: Arc::new(stored.pkcs8.clone()) });
        }
        let contact: Vec<String> = if config.email.is_empty() {
            Vec::new()
        } else {
            vec![format!("mailto:{}", config.email)]
        };
        let (account, pkcs8) =
            self.register(config, directory, &contact, stored, &transport).await?;
        tracing::info!(
            target: "tls.issuance.acme.acme_client",
            contact = contact.join(","),
            location = account.id(),
            "new ACME account registered"
        );
        let registration = Registration {
            status: "valid".into(),
            contact,
            terms_of_service_agreed: true,
            orders: String::new(),
            location: account.id().to_owned(),
        };
        let saving = Stored { registration, pkcs8: pkcs8.clone() };
        let (writing, place) = (storage.clone(), directory.to_owned());
        let email = config.email.clone();
        let saved =
            tokio::task::spawn_blocking(move || save(&*writing, &place, &email, &saving)).await;
        if let Err(error) = saved.map_err(Error::new).and_then(|saved| saved) {
            // The account works; the next start makes another one.
            tracing::error!(target: "tls.issuance.acme", error = %error, "storing account");
        }
        Ok(Session { account, transport, key: Arc::new(pkcs8) })
    }

    async fn register(
        &self,
        config: &AcmeConfig,
        directory: &str,
        contact: &[String],
        stored: Option<Stored>,
        transport: &Transport,
    ) -> std::result::Result<(Account, Vec<u8>), Failure> {
        let external = eab::external_account(config, directory, transport, self).await?;
        if let (Some(stored), None) = (&stored, &external) {
            let account = with_key(transport, &stored.pkcs8, directory, false).await?;
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            if !contact.is_empty()
                && let Err(error) = account.update_contacts(&contact).await
            {
                tracing::warn!(target: "tls.issuance.acme", %error, "setting account contact");
            }
            return Ok((account, stored.pkcs8.clone()));
        }
        tracing::info!(
            target: "tls.issuance.acme",
            email = config.email,
            ca = directory,
            "creating new account because no account for configured email is known to us"
        );
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = external.map(|(id, key)| ExternalAccountKey::new(id, &key));
        let mut left = 6;
        loop {
            let builder = Account::builder_with_http(Box::new(transport.clone()));
            match builder.create(&new, directory.to_owned(), external.as_ref()).await {
                Ok((account, credentials)) => {
                    return Ok((account, credentials.private_key().secret_pkcs8_der().to_vec()));
                }
                Err(instant_acme::Error::Api(problem))
                    if left > 0 && failure::is(&problem, "badNonce") =>
                {
                    left -= 1;
                }
                Err(error) => {
                    return Err(failed(&error, transport).while_doing("registering account"));
                }
            }
        }
    }
}

async fn with_key(
    transport: &Transport,
    pkcs8: &[u8],
    directory: &str,
    existing: bool,
) -> std::result::Result<Account, Failure> {
    let mut left = 6;
    loop {
        let der = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        let key = Key::from_pkcs8_der(der.clone_key())
            .map_err(|error| Failure::new(format!("account key: {error}")))?;
        let pair = (key, PrivateKeyDer::Pkcs8(der));
        let builder = Account::builder_with_http(Box::new(transport.clone()));
        let found = if existing {
            builder.from_key(pair, directory.to_owned()).await
        } else {
            builder.create_from_key(pair, directory.to_owned()).await
        };
        match found {
            Ok((account, _)) => return Ok(account),
            Err(instant_acme::Error::Api(problem))
                if left > 0 && failure::is(&problem, "badNonce") =>
            {
                left -= 1;
            }
            Err(error) => return Err(failed(&error, transport).while_doing("looking up account")),
        }
    }
}

fn failed(error: &instant_acme::Error, transport: &Transport) -> Failure {
    Failure::of(error, transport.take_retry_after())
}

fn storage_keys(directory: &str, email: &str) -> (String, String) {
    let email = if email.is_empty() { "default" } else { email };
    let user = match email.split_once('@') {
        Some(("", rest)) => rest,
        Some((user, _)) => user,
        None => email,
    };
    let (folder, user) = (keys::safe(email), keys::safe(user));
    let base = format!("{}/users/{folder}/{user}", super::storage_prefix(directory));
    (format!("{base}.json"), format!("{base}.key"))
}

/// Whether an account is stored that can be used as it is.
///
/// # Errors
/// The storage cannot be read.
pub(super) fn is_stored(storage: &dyn Storage, directory: &str, email: &str) -> io::Result<bool> {
    Ok(load(storage, directory, email)?.is_some_and(|stored| stored.registration.is_usable()))
}

/// The stored account; nothing where there is none, or none that can be used.
///
/// # Errors
/// The storage cannot be read.
fn load(storage: &dyn Storage, directory: &str, email: &str) -> io::Result<Option<Stored>> {
    let mut found = None;
    if email.is_empty() && !storage.exists(&storage_keys(directory, "").0)? {
        // Without an address, an account that is there already is taken (T066).
        let users = format!("{}/users", super::storage_prefix(directory));
        let folders = storage.list(&users)?;
        for name in folders.iter().filter_map(|folder| folder.rsplit('/').next()) {
            let keys = storage_keys(directory, name);
            if storage.exists(&keys.0)? {
                found = Some(keys);
                break;
            }
        }
    }
    let (registration, private_key) = found.unwrap_or_else(|| storage_keys(directory, email));
    let text = match storage.load(&private_key) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(target: "tls.issuance.acme", %error, "loading account");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let pkcs8 = match pkcs8_of(&text) {
        Ok(pkcs8) => pkcs8,
        Err(error) => {
            tracing::error!(target: "tls.issuance.acme", key = private_key, error = %error,
                "the stored account's key is unusable");
            return Ok(None);
        }
    };
    let registration = storage.load(&registration).ok();
    let registration = registration.and_then(|text| serde_json::from_slice(&text).ok());
    Ok(Some(Stored { registration: registration.unwrap_or_default(), pkcs8 }))
}

fn save(storage: &dyn Storage, directory: &str, email: &str, stored: &Stored) -> Result<()> {
    let (registration, private_key) = storage_keys(directory, email);
    let json =
        caddis_config::json::write::to_string_pretty(&stored.registration).map_err(Error::new)?;
    storage.store(&private_key, key::pkcs8_to_pem(&stored.pkcs8).as_bytes())?;
    storage.store(&registration, json.as_bytes())?;
    Ok(())
}

fn pkcs8_of(text: &[u8]) -> Result<Vec<u8>> {
    match key::from_pem(text)? {
        PrivateKeyDer::Pkcs8(der) => Ok(der.secret_pkcs8_der().to_vec()),
        PrivateKeyDer::Sec1(der) => key::p256_pkcs8(der.secret_sec1_der())
            .ok_or_else(|| Error::new("account keys must be P-256 keys")),
        _ => Err(Error::new("account keys must be P-256 keys")),
    }
}

#[cfg(test)]
mod tests {
    use super::{load, pkcs8_of, storage_keys};
    use crate::{
        key::{KeyType, to_pem},
        storage::{FileSystem, Storage},
        testing::TempDir,
    };

    #[test]
    fn places_equal_the_known_layout() {
        let ca = "https://acme-v02.api.letsencrypt.org/directory";
        let base = "acme/acme-v02.api.letsencrypt.org-directory/users";
        let cases = [
            ("a.b@c.test", "a.b@c.test/a.b"),
            ("", "default/default"),
            ("@x", "@x/x"),
            ("plain", "plain/plain"),
        ];
        for (email, want) in cases {
            assert_eq!(storage_keys(ca, email).0, format!("{base}/{want}.json"), "{email}");
        }
    }

    #[test]
    fn keys_in_either_form_are_the_same() {
        let key = KeyType::P256.generate().unwrap();
        let sec1 = pkcs8_of(to_pem(&key).as_bytes()).unwrap();
        instant_acme::Key::from_pkcs8_der(sec1.clone().into()).unwrap();
        let pem = crate::key::pkcs8_to_pem(&sec1);
        assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----"));
        assert_eq!(pkcs8_of(pem.as_bytes()).unwrap(), sec1);
        assert!(pkcs8_of(to_pem(&KeyType::P384.generate().unwrap()).as_bytes()).is_err());
    }

    #[test]
    fn broken_registrations_leave_the_key() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let ca = "https://ca.test/dir";
        assert!(load(&storage, ca, "a@b.test").unwrap().is_none());
        let key = KeyType::P256.generate().unwrap();
        let (registration, private_key) = storage_keys(ca, "a@b.test");
        storage.store(&private_key, to_pem(&key).as_bytes()).unwrap();
        storage.store(&registration, b"{").unwrap();
        assert_eq!(load(&storage, ca, "a@b.test").unwrap().unwrap().registration.location, "");
        assert!(
            load(&storage, ca, "").unwrap().is_some(),
            "without an address any account will do"
        );
        storage.store(&private_key, b"nothing").unwrap();
        assert!(load(&storage, ca, "a@b.test").unwrap().is_none());
    }
}
