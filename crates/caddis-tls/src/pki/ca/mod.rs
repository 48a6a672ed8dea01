//! One authority: root and intermediate, loaded from storage or made as Caddy makes them
//! (T146–T155). A root key that is there is never replaced: others trust it.

use std::{
    fmt, fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caddis_config::{Ca as CaConfig, KeyPair as KeyPairConfig};
use caddis_core::template::{Template, Unknown};
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;

use super::sign::{self, Issued, LeafRequest};
use crate::{
    certificate::{Facts, parse_chain},
    error::{Context, Error, Result},
    key::{self, KeyType},
    storage::{self, Storage, keys},
    timestamp::{self, Timestamp},
};

const DAY: i64 = 24 * 60 * 60;
const ROOT_LIFETIME: i64 = 3600 * DAY;
const INTERMEDIATE_LIFETIME: i64 = 7 * DAY;
const RENEWAL_RATIO: f64 = 0.2;
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// What the admin API tells about an authority.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CaInfo {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The root's name for new ones.
    pub root_common_name: String,
    /// The intermediate's name for new ones.
    pub intermediate_common_name: String,
    /// The root, PEM.
    pub root_certificate: String,
    /// The intermediate with its chain, PEM.
    pub intermediate_certificate: String,
}

/// A certificate authority.
pub struct Ca {
    id: String,
    name: String,
    root_name: String,
    intermediate_name: String,
    lifetime: i64,
    ratio: f64,
    custom_root: Option<KeyPairConfig>,
    custom_intermediate: Option<KeyPairConfig>,
    install_trust: bool,
    storage: Arc<dyn Storage>,
    root: Vec<CertificateDer<'static>>,
    intermediate: Mutex<Option<Arc<Intermediate>>>,
}

struct Intermediate {
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({})", self.id)
    }
}

impl Ca {
    /// Loads an authority, or makes what is missing. Blocks.
    pub(crate) fn open(
        id: &str,
        config: &CaConfig,
        storage: Arc<dyn Storage>,
        now: Timestamp,
    ) -> Result<Self> {
        let or = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        let mut ca = Self {
            id: id.to_owned(),
            name: or(&config.name, "Caddy Local Authority"),
            root_name: or(&config.root_common_name, "{pki.ca.name} - {time.now.year} ECC Root"),
            intermediate_name: or(
                &config.intermediate_common_name,
                "{pki.ca.name} - ECC Intermediate",
            ),
            lifetime: config
                .intermediate_lifetime
                .positive()
                .map_or(INTERMEDIATE_LIFETIME, |lifetime| seconds(lifetime).max(60)),
            ratio: if config.renewal_window_ratio > 0.0 && config.renewal_window_ratio < 1.0 {
                config.renewal_window_ratio
            } else {
                RENEWAL_RATIO
            },
            custom_root: config.root.clone(),
            custom_intermediate: config.intermediate.clone(),
            install_trust: config.install_trust.unwrap_or(true),
            storage,
            root: Vec::new(),
            intermediate: Mutex::new(None),
        };
        ca.root_name = ca.named(&ca.root_name);
        ca.intermediate_name = ca.named(&ca.intermediate_name);
        ca.root = ca.load_or_make_root(now).context(format!("authority {id}: root"))?;
        ca.check_root(now)?;
        let intermediate =
            ca.load_or_make_intermediate(now).context(format!("authority {id}: intermediate"))?;
        ca.intermediate = Mutex::new(Some(Arc::new(intermediate)));
        Ok(ca)
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the admin API tells.
    pub fn info(&self) -> CaInfo {
        CaInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            root_common_name: self.root_name.clone(),
            intermediate_common_name: self.intermediate_name.clone(),
            root_certificate: self.root_pem(),
            intermediate_certificate: self.intermediate_pem(),
        }
    }

    /// The root (with its chain where a file held one), PEM.
    pub fn root_pem(&self) -> String {
        chain_pem(&self.root)
    }

    /// The intermediate with its chain, PEM.
    pub fn intermediate_pem(&self) -> String {
        self.current().map(|current| chain_pem(&current.chain)).unwrap_or_default()
    }

    /// Puts the root into the trust stores, unless it is there or is not wanted there (T152). What
    /// fails is only told. Blocks.
    pub(crate) fn install_root(&self) {
        let (path, root) = (self.key_of("root.crt"), self.root_pem());
        if !self.install_trust {
            tracing::warn!(
                target: "pki.ca",
                ca = self.id,
                path,
                "root certificate trust store installation disabled; unconfigured clients may show \
                 warnings"
            );
            return;
        }
        if super::trust::is_installed(&root).unwrap_or(false) {
            tracing::info!(
                target: "pki.ca",
                ca = self.id,
                path,
                "root certificate is already trusted by system"
            );
            return;
        }
        match super::trust::install(&root) {
            Ok(stores) => tracing::info!(
                target: "pki.ca",
                ca = self.id,
                path,
                stores = stores.join(", "),
                "installed root certificate in trust stores"
            ),
            Err(error) => tracing::error!(
                target: "pki.ca",
                ca = self.id,
                certificate_file = path,
                %error,
                "failed to install root certificate"
            ),
        }
    }

    /// The root, DER.
    pub fn root_der(&self) -> &[CertificateDer<'static>] {
        &self.root
    }

    /// What the root says of itself.
    pub(crate) fn root_facts(&self) -> Option<Facts> {
        Facts::parse(self.first_root().ok()?).ok()
    }

    /// The intermediate with its chain, DER.
    pub fn intermediate_der(&self) -> Vec<CertificateDer<'static>> {
        self.current().map(|current| current.chain.clone()).unwrap_or_default()
    }

    /// Issues a leaf for a key. Blocks where the intermediate is to be renewed first.
    ///
    /// # Errors
    /// Names that no certificate can hold; an intermediate that cannot be renewed.
    pub fn issue(
        &self,
        request: &LeafRequest,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<Issued> {
        let end = now.saturating_add(request.lifetime.max(1));
        if request.sign_with_root {
            let (issuer, not_after) = (self.root_issuer()?, self.within_root(end, now)?);
            let leaf = sign::leaf(&request.names, key, &issuer, (now, not_after))?;
            return Ok(issued(leaf, &self.root, not_after));
        }
        self.renew_if_due(now)?;
        let current = self.current().ok_or_else(|| Error::new("no intermediate certificate"))?;
        let not_after = end.min(current.not_after);
        let leaf = sign::leaf(&request.names, key, &current.issuer, (now, not_after))?;
        Ok(issued(leaf, &current.chain, not_after))
    }

    /// Renews the intermediate where less than its window is left. Blocks.
    ///
    /// # Errors
    /// An expired intermediate that cannot be renewed.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<bool> {
        let Some(current) = self.current() else { return Ok(false) };
        if self.custom_intermediate.is_some() || self.is_fresh(&current, now) {
            return Ok(false);
        }
        match self.locked(|| self.reload_or_renew(now)) {
            Ok(fresh) => {
                tracing::info!(target: "pki.ca", ca = self.id, "renewed intermediate certificate");
                *self.intermediate.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::new(fresh));
                Ok(true)
            }
            Err(error) if now < current.not_after => {
                tracing::error!(
                    target: "pki.ca",
                    ca = self.id,
                    error = %error,
                    "renewing intermediate certificate"
                );
                Ok(false)
            }
            Err(error) => Err(error.while_doing("renewing intermediate certificate")),
        }
    }

    /// The longest lifetime of leaves in seconds, where it is known beforehand: a custom
    /// intermediate lives as long as it lives.
    pub(crate) fn intermediate_lifetime(&self) -> Option<i64> {
        self.custom_intermediate.is_none().then_some(self.lifetime)
    }

    /// When the intermediate is to be renewed.
    pub fn intermediate_due_at(&self) -> Option<Timestamp> {
        if self.custom_intermediate.is_some() {
            return None;
        }
        self.current().map(|current| self.due_at(&current))
    }

    /// Not due, and not made by a clock that was ahead: clients would take no leaf of it.
    fn is_fresh(&self, found: &Intermediate, now: Timestamp) -> bool {
        now < self.due_at(found) && !timestamp::is_ahead(found.not_before, now)
    }

    fn due_at(&self, current: &Intermediate) -> Timestamp {
        let lifetime = current.not_after.saturating_sub(current.not_before);
        current.not_after.saturating_sub((lifetime as f64 * self.ratio) as i64)
    }

    fn current(&self) -> Option<Arc<Intermediate>> {
        self.intermediate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn first_root(&self) -> Result<&CertificateDer<'static>> {
        self.root.first().ok_or_else(|| Error::new("no root certificate"))
    }

    fn key_of(&self, file: &str) -> String {
        keys::authority(&self.id, file)
    }

    fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _guard = self.storage.lock(&format!("pki_ca_{}", self.id), LOCK_WAIT)?;
        work()
    }

    fn load(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key_of(file);
        match self.storage.load(&key) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::new(error).while_doing(format!("loading {key}"))),
        }
    }

    fn load_or_make_root(&self, now: Timestamp) -> Result<Vec<CertificateDer<'static>>> {
        if let Some(custom) = &self.custom_root {
            let text = read_pem_file(custom, &custom.certificate)?;
            return parse_chain(&text).context(&custom.certificate);
        }
        let stored = || -> Result<Option<Vec<CertificateDer<'static>>>> {
            let Some(text) = self.load("root.crt")? else { return Ok(None) };
            let chain = parse_chain(&text).context(self.key_of("root.crt"))?;
            Facts::parse(&chain[0]).context(self.key_of("root.crt"))?;
            Ok(Some(chain))
        };
        if let Some(chain) = stored()? {
            return Ok(chain);
        }
        self.locked(|| match stored()? {
            Some(chain) => Ok(chain),
            None => self.make_root(now),
        })
    }

    fn make_root(&self, now: Timestamp) -> Result<Vec<CertificateDer<'static>>> {
        let key = match self.load("root.key")? {
            // Without its certificate, but it may be trusted somewhere: used, never replaced.
            Some(text) => key::signing_pair(&text).context(self.key_of("root.key"))?,
            None => {
                let key = KeyType::P256.generate()?;
                self.storage.store(&self.key_of("root.key"), key::to_pem(&key).as_bytes())?;
                key
            }
        };
        let root = sign::root(&self.root_name, &key, now, ROOT_LIFETIME)?;
        let pem = key::encode("CERTIFICATE", &root);
        self.storage.store(&self.key_of("root.crt"), pem.as_bytes())?;
        tracing::info!(target: "pki.ca", ca = self.id, "made root certificate");
        Ok(vec![root])
    }

    fn check_root(&self, now: Timestamp) -> Result<()> {
        let facts = Facts::parse(self.first_root()?)?;
        // That it has expired is told by who looks after all authorities.
        if facts.not_after > now && self.lifetime >= facts.not_after - facts.not_before {
            return Err(Error::new(
                "intermediate certificate lifetime must be less than root certificate lifetime",
            ));
        }
        Ok(())
    }

    fn load_or_make_intermediate(&self, now: Timestamp) -> Result<Intermediate> {
        if let Some(custom) = &self.custom_intermediate {
            let chain = read_pem_file(custom, &custom.certificate)?;
            let key = read_pem_file(custom, &custom.private_key)?;
            return self.intermediate_from(&chain, &key);
        }
        match self.stored_intermediate() {
            Ok(Some(found)) if self.is_fresh(&found, now) => return Ok(found),
            Ok(_) => {}
            Err(error) => tracing::error!(
                target: "pki.ca",
                ca = self.id,
                error = %error,
                "stored intermediate certificate is unusable; making a new one"
            ),
        }
        let fallback = self.stored_intermediate().ok().flatten();
        match (self.locked(|| self.reload_or_renew(now)), fallback) {
            (Ok(fresh), _) => Ok(fresh),
            (Err(error), Some(old)) if now < old.not_after => {
                tracing::error!(
                    target: "pki.ca",
                    ca = self.id,
                    error = %error,
                    "renewing intermediate certificate"
                );
                Ok(old)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn stored_intermediate(&self) -> Result<Option<Intermediate>> {
        let Some(chain) = self.load("intermediate.crt")? else { return Ok(None) };
        let Some(key) = self.load("intermediate.key")? else { return Ok(None) };
        let found = self.intermediate_from(&chain, &key)?;
        if !is_issued_by(&found.chain, self.first_root()?) {
            return Err(Error::new("it was not issued by this root"));
        }
        Ok(Some(found))
    }

    /// What another process made meanwhile, else a new one.
    fn reload_or_renew(&self, now: Timestamp) -> Result<Intermediate> {
        if let Ok(Some(found)) = self.stored_intermediate()
            && self.is_fresh(&found, now)
        {
            return Ok(found);
        }
        let root = self.root_issuer()?;
        let end = self.within_root(now.saturating_add(self.lifetime), now)?;
        let key = KeyType::P256.generate()?;
        let certificate = sign::intermediate(&self.intermediate_name, &key, &root, (now, end))?;
        let (chain_pem, key_pem) = (key::encode("CERTIFICATE", &certificate), key::to_pem(&key));
        let places = ["intermediate.crt", "intermediate.key"].map(|file| self.key_of(file));
        let chain = (&*places[0], chain_pem.as_bytes());
        storage::store_pair(&*self.storage, chain, (&places[1], key_pem.as_bytes()))?;
        self.intermediate_from(chain_pem.as_bytes(), key_pem.as_bytes())
    }

    /// The end of what the root signs: not after its own. Where that has passed it is not looked at,
    /// as in Caddy: many clients do not ask how long what they trust is valid, and an end in the past
    /// would shut those out, too.
    fn within_root(&self, end: Timestamp, now: Timestamp) -> Result<Timestamp> {
        let root_end = Facts::parse(self.first_root()?)?.not_after;
        Ok(if root_end <= now { end } else { end.min(root_end) })
    }

    /// The root as a signer; its key is in memory only for the time of one signature.
    fn root_issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let key = match &self.custom_root {
            Some(custom) if !custom.private_key.is_empty() => {
                read_pem_file(custom, &custom.private_key)?
            }
            Some(_) => return Err(Error::new("the root's private key is not configured")),
            None => self
                .load("root.key")?
                .ok_or_else(|| Error::new(format!("{} is missing", self.key_of("root.key"))))?,
        };
        let key = key::signing_pair(&key).context("root key")?;
        check_key(self.first_root()?, &key).context("root key")?;
        Ok(Issuer::from_ca_cert_der(self.first_root()?, key)?)
    }

    fn intermediate_from(&self, chain: &[u8], key: &[u8]) -> Result<Intermediate> {
        let chain = parse_chain(chain)?;
        let key = key::signing_pair(key)?;
        check_key(&chain[0], &key)?;
        let facts = Facts::parse(&chain[0])?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], key)?;
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        Ok(Intermediate { chain, issuer, not_before, not_after })
    }

    fn named(&self, template: &str) -> String {
        let text = template.replace("{pki.ca.name}", &self.name).replace("{pki.ca.id}", &self.id);
        Template::render_global(&text, Unknown::Empty)
    }
}

/// Sees that an authority can be what its configuration says: what is given has to be there, be read
/// and belong together (T153, T154). Makes nothing. Blocks.
///
/// # Errors
/// It cannot.
pub(super) fn check(
    id: &str,
    config: &CaConfig,
    storage: &dyn Storage,
    now: Timestamp,
) -> Result<()> {
    let mut root_left = ROOT_LIFETIME;
    let mut root = None;
    if let Some(custom) = &config.root {
        let text = read_pem_file(custom, &custom.certificate)?;
        let chain = parse_chain(&text).context(&custom.certificate)?;
        let first = chain.into_iter().next().ok_or_else(|| Error::new("no root certificate"))?;
        let left = Facts::parse(&first).context(&custom.certificate)?.not_after - now;
        // One that has expired is told of by who looks after all authorities.
        root_left = if left > 0 { left } else { i64::MAX };
        root = Some((custom, first));
    }
    if let Some(custom) = &config.intermediate {
        let chain = parse_chain(&read_pem_file(custom, &custom.certificate)?);
        let chain = chain.context(&custom.certificate)?;
        let key = key::signing_pair(&read_pem_file(custom, &custom.private_key)?);
        let key = key.context(&custom.private_key)?;
        let first = chain.first().ok_or_else(|| Error::new("no intermediate certificate"))?;
        return check_key(first, &key).context(&custom.private_key);
    }
    let lifetime = config.intermediate_lifetime.positive().map_or(INTERMEDIATE_LIFETIME, seconds);
    if lifetime >= root_left {
        return Err(Error::new(format!(
            "intermediate certificate lifetime must be less than actual root certificate lifetime \
             ({})",
            timestamp::span(root_left)
        )));
    }
    let Some((custom, first)) = root else { return Ok(()) };
    // The key may be elsewhere as long as there is an intermediate (T150).
    let place = keys::authority(id, "intermediate.crt");
    let needed = matches!(storage.exists(&place), Ok(false));
    if custom.private_key.is_empty() {
        let missing = Error::new("the root's private key is not configured");
        return if needed { Err(missing) } else { Ok(()) };
    }
    match read_pem_file(custom, &custom.private_key) {
        Ok(pem) => key::signing_pair(&pem)
            .and_then(|key| check_key(&first, &key))
            .context(&custom.private_key),
        Err(error) if needed => Err(error),
        Err(_) => Ok(()),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

fn issued(
    leaf: CertificateDer<'static>,
    issuers: &[CertificateDer<'static>],
    not_after: Timestamp,
) -> Issued {
    let mut chain_pem = key::encode("CERTIFICATE", &leaf);
    chain_pem.push_str(&self::chain_pem(issuers));
    Issued { chain_pem, not_after }
}

fn chain_pem(chain: &[CertificateDer<'static>]) -> String {
    chain.iter().map(|der| key::encode("CERTIFICATE", der)).collect()
}

fn read_pem_file(pair: &KeyPairConfig, path: &str) -> Result<Vec<u8>> {
    if !matches!(pair.format.as_str(), "" | "pem_file") {
        return Err(Error::new(format!("unsupported format: {}", pair.format)));
    }
    let path = Template::render_global(path, Unknown::Keep);
    fs::read(&path).context(&path)
}

fn check_key(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<()> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, x509) = X509Certificate::from_der(certificate).map_err(Error::new)?;
    if x509.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(Error::new("private key does not match certificate"));
    }
    Ok(())
}

/// Whether the last certificate of a chain names the root as its issuer, by name and key id.
fn is_issued_by(chain: &[CertificateDer<'static>], root: &CertificateDer<'static>) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let Some(last) = chain.last() else { return false };
    let (Ok((_, last)), Ok((_, root))) =
        (X509Certificate::from_der(last), X509Certificate::from_der(root))
    else {
        return false;
    };
    last.issuer().as_raw() == root.subject().as_raw()
        && last.verify_signature(Some(root.public_key())).is_ok()
}

#[cfg(test)]
mod tests;
