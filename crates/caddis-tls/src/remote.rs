//! Who may use the remote admin endpoint (spec A011, J002, J004, J013): clients with a certificate
//! that the configuration names, or that an authority signed which it names.
//!
//! ```json
//! [{"public_keys": ["<base64 DER certificate>"],
//!   "permissions": [{"paths": ["/config"], "methods": ["GET"]}]}]
//! ```
//!
//! A listed certificate that is an authority vouches for those it signed; any listed one vouches for
//! itself. Of what else a client sends nothing counts: only its own certificate and the authority at
//! the end of its chain, so that nobody gains a right by sending somebody else's certificate along.

use std::{net::IpAddr, sync::Arc};

use caddis_config::{AdminAccess, ConfigError};
use http::Method;
use rustls::{
    CertificateError, DistinguishedName, RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    certificate::provider,
    error::{Error, Result},
    index::CertStore,
    policy::{ClientCheck, ClientVerifier, ca_pool::decode, in_time, trusted_itself},
    resolver::Resolver,
};

/// What a client may do.
#[derive(Debug)]
pub struct RemoteAccess {
    entries: Vec<Entry>,
    verifier: Arc<ClientVerifier<Known>>,
}

/// Whether a request is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Allowed,
    /// No listed key is in the client's chain.
    Unknown,
    /// The client may not use this method.
    WrongMethod,
    /// The client may not use this path.
    WrongPath,
}

#[derive(Debug)]
struct Entry {
    /// Public keys (`SubjectPublicKeyInfo`, DER).
    keys: Vec<Vec<u8>>,
    permissions: Vec<Permission>,
}

#[derive(Debug)]
struct Permission {
    paths: Option<Vec<String>>,
    methods: Option<Vec<String>>,
}

/// A listed certificate.
#[derive(Debug)]
struct Listed {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    /// Verifies chains that end at it, where it is an authority.
    authority: Option<Arc<dyn ClientCertVerifier>>,
}

impl RemoteAccess {
    /// Resolves `access_control`.
    ///
    /// # Errors
    /// A certificate that is none, named by its place in the list.
    pub fn compile(config: &[AdminAccess]) -> std::result::Result<Self, ConfigError> {
        let mut entries = Vec::new();
        let mut listed: Vec<Listed> = Vec::new();
        for (at, access) in config.iter().enumerate() {
            let mut keys = Vec::new();
            for (of, text) in access.public_keys.iter().enumerate() {
                let under = |error: ConfigError| error.under(format!("{at}.public_keys.{of}"));
                let der = decode(text).map_err(under)?;
                let one = Listed::new(der).map_err(|error| {
                    under(ConfigError::new("", format!("parsing certificate: {error}")))
                })?;
                keys.push(one.key.clone());
                if !listed.iter().any(|other| other.der == one.der) {
                    listed.push(one);
                }
            }
            let permissions = access.permissions.iter().map(|permission| Permission {
                paths: permission.paths.clone(),
                methods: permission.methods.clone(),
            });
            entries.push(Entry { keys, permissions: permissions.collect() });
        }
        let hints = listed.iter().filter_map(|one| {
            let (_, certificate) = X509Certificate::from_der(&one.der).ok()?;
            Some(DistinguishedName::from(certificate.subject().as_raw().to_vec()))
        });
        let known = Known { hints: hints.collect(), listed };
        Ok(Self { entries, verifier: Arc::new(ClientVerifier::new(known, provider())) })
    }

    /// TLS with a certificate of `store` by the name that the client asks for (or the address that
    /// it connected to, `local`), which has to show one itself. Sessions are not resumed: who was
    /// let in before may not be now.
    ///
    /// # Errors
    /// The provider has no protocol version in common with the library.
    pub fn server_config(
        &self,
        store: Arc<CertStore>,
        local: Option<IpAddr>,
    ) -> Result<ServerConfig> {
        let resolver = Resolver {
            store,
            default_sni: "".into(),
            fallback_sni: "".into(),
            selection: None,
            local,
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::new)?
            .with_client_cert_verifier(self.verifier.clone())
            .with_cert_resolver(Arc::new(resolver));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// What a client that showed these certificates, its own first, may do.
    pub fn allows(&self, shown: &[CertificateDer<'_>], method: &Method, path: &str) -> Verdict {
        let Some((leaf, intermediates)) = shown.split_first() else { return Verdict::Unknown };
        for keys in self.verifier.check.chains(leaf, intermediates, UnixTime::now()) {
            for key in keys {
                let entry = self.entries.iter().find(|entry| entry.keys.contains(&key));
                if let Some(entry) = entry {
                    return entry.check(method, path);
                }
            }
        }
        Verdict::Unknown
    }
}

impl Entry {
    /// Every permission has to allow the request, as in Caddy.
    fn check(&self, method: &Method, path: &str) -> Verdict {
        for permission in &self.permissions {
            let methods = permission.methods.as_ref();
            if methods.is_some_and(|all| !all.iter().any(|one| one == method.as_str())) {
                return Verdict::WrongMethod;
            }
            let paths = permission.paths.as_ref();
            if paths.is_some_and(|all| !all.iter().any(|one| is_below(path, one))) {
                return Verdict::WrongPath;
            }
        }
        Verdict::Allowed
    }
}

/// Whether a path is an allowed one or below it; the next character is then a `/`.
fn is_below(path: &str, allowed: &str) -> bool {
    match path.strip_prefix(allowed) {
        Some(rest) => {
            rest.is_empty() || allowed.is_empty() || allowed.ends_with('/') || rest.starts_with('/')
        }
        None => false,
    }
}

impl Listed {
    fn new(der: CertificateDer<'static>) -> Result<Self> {
        let (rest, certificate) = X509Certificate::from_der(&der).map_err(Error::new)?;
        if !rest.is_empty() {
            return Err(Error::new("there is something behind it"));
        }
        let key = certificate.public_key().raw.to_vec();
        let is_authority = certificate.is_ca();
        let mut roots = RootCertStore::empty();
        let authority = match is_authority && roots.add(der.clone()).is_ok() {
            true => Some(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .build()
                    .map_err(Error::new)?,
            ),
            false => None,
        };
        Ok(Self { der, key, authority })
    }

    fn is_in_time(&self, now: UnixTime) -> bool {
        X509Certificate::from_der(&self.der)
            .is_ok_and(|(_, certificate)| in_time(&certificate, now).is_ok())
    }
}

/// The listed certificates.
#[derive(Debug)]
struct Known {
    listed: Vec<Listed>,
    hints: Vec<DistinguishedName>,
}

impl Known {
    /// The keys at both ends of each chain that leads from a certificate to a listed one.
    fn chains(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Vec<Vec<Vec<u8>>> {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Vec::new() };
        let own = certificate.public_key().raw.to_vec();
        let mut chains = Vec::new();
        for one in &self.listed {
            if one.der == *leaf {
                if trusted_itself(leaf, now).is_ok() {
                    chains.push(vec![own.clone()]);
                }
            } else if let Some(authority) = &one.authority
                && one.is_in_time(now)
                && authority.verify_client_cert(leaf, intermediates, now).is_ok()
            {
                chains.push(vec![own.clone(), one.key.clone()]);
            }
        }
        chains
    }
}

impl ClientCheck for Known {
    fn is_mandatory(&self) -> bool {
        true
    }

    fn hints(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<(), rustls::Error> {
        match self.chains(leaf, intermediates, now).is_empty() {
            true => Err(CertificateError::UnknownIssuer.into()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use caddis_config::AdminPermissions;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair,
    };

    use super::*;

    fn params(name: &str, ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        } else {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        params
    }

    fn alone(name: &str, ca: bool) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params(name, ca).self_signed(&key).unwrap().der().clone(), key)
    }

    fn access(listed: &[&CertificateDer<'_>], permissions: Vec<AdminPermissions>) -> AdminAccess {
        let public_keys = listed.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
        AdminAccess { public_keys, permissions }
    }

    fn permission(paths: Option<&[&str]>, methods: Option<&[&str]>) -> AdminPermissions {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        AdminPermissions { paths: paths.map(owned), methods: methods.map(owned) }
    }

    #[test]
    fn listed_certificates_and_their_own_are_known() {
        let (pinned, _) = alone("pinned", true);
        let (leaf, _) = alone("leaf", false);
        let (stranger, _) = alone("stranger", false);
        let ca = CertifiedIssuer::self_signed(params("ca", true), KeyPair::generate().unwrap());
        let ca = ca.unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = params("signed", false).signed_by(&key, &ca).unwrap().der().clone();
        let plan = RemoteAccess::compile(&[
            access(&[&pinned, &leaf], Vec::new()),
            access(&[ca.der()], vec![permission(Some(&["/config"]), Some(&["GET"]))]),
        ])
        .unwrap();
        let ask = |shown: &[&CertificateDer<'static>], method, path| {
            let shown: Vec<_> = shown.iter().map(|one| (*one).clone()).collect();
            plan.allows(&shown, &method, path)
        };
        assert_eq!(ask(&[&pinned], Method::POST, "/load"), Verdict::Allowed);
        assert_eq!(ask(&[&leaf], Method::POST, "/load"), Verdict::Allowed);
        assert_eq!(ask(&[&signed], Method::GET, "/config/apps"), Verdict::Allowed);
        assert_eq!(ask(&[&signed], Method::POST, "/config/apps"), Verdict::WrongMethod);
        assert_eq!(ask(&[&signed], Method::GET, "/configure"), Verdict::WrongPath);
        assert_eq!(ask(&[&stranger], Method::GET, "/config/"), Verdict::Unknown);
        assert_eq!(ask(&[], Method::GET, "/config/"), Verdict::Unknown);
        // Certificates that are sent along give no right.
        let along = [&signed, ca.der(), &pinned, &leaf];
        assert_eq!(ask(&along, Method::POST, "/load"), Verdict::WrongMethod);
        assert_eq!(ask(&[&stranger, &pinned], Method::GET, "/"), Verdict::Unknown);
    }

    #[test]
    fn a_listed_certificate_that_is_no_authority_vouches_for_itself_alone() {
        let key = KeyPair::generate().unwrap();
        let leaf = CertifiedIssuer::self_signed(params("leaf", false), key).unwrap();
        let other = KeyPair::generate().unwrap();
        let forged = params("forged", false).signed_by(&other, &leaf).unwrap().der().clone();
        let plan = RemoteAccess::compile(&[access(&[leaf.der()], Vec::new())]).unwrap();
        assert_eq!(plan.allows(&[forged], &Method::GET, "/"), Verdict::Unknown);
        assert_eq!(plan.allows(&[leaf.der().clone()], &Method::GET, "/"), Verdict::Allowed);
    }

    #[test]
    fn certificates_out_of_time_or_for_servers_are_refused() {
        let mut old = params("old", false);
        old.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let mut server = params("server", false);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut early = params("early", false);
        early.not_before = rcgen::date_time_ymd(2500, 1, 1);
        for params in [old, server, early] {
            let key = KeyPair::generate().unwrap();
            let der = params.self_signed(&key).unwrap().der().clone();
            let plan = RemoteAccess::compile(&[access(&[&der], Vec::new())]).unwrap();
            assert_eq!(plan.allows(&[der], &Method::GET, "/"), Verdict::Unknown);
        }
    }

    #[test]
    fn permissions() {
        let all = |list: Vec<AdminPermissions>, method: Method, path: &str| {
            let (pinned, _) = alone("pinned", false);
            let plan = RemoteAccess::compile(&[access(&[&pinned], list)]).unwrap();
            plan.allows(&[pinned], &method, path)
        };
        let get = || permission(None, Some(&["GET"]));
        assert_eq!(all(vec![get()], Method::GET, "/x"), Verdict::Allowed);
        assert_eq!(all(vec![permission(None, Some(&[]))], Method::GET, "/"), Verdict::WrongMethod);
        assert_eq!(all(vec![permission(Some(&[]), None)], Method::GET, "/"), Verdict::WrongPath);
        let both = || vec![get(), permission(Some(&["/a", "/b/"]), None)];
        assert_eq!(all(both(), Method::GET, "/a"), Verdict::Allowed);
        assert_eq!(all(both(), Method::GET, "/b/c"), Verdict::Allowed);
        assert_eq!(all(both(), Method::GET, "/b"), Verdict::WrongPath);
        assert_eq!(all(both(), Method::GET, "/ab"), Verdict::WrongPath);
        assert_eq!(all(both(), Method::PUT, "/a"), Verdict::WrongMethod);
        assert_eq!(all(vec![permission(Some(&["/"]), None)], Method::GET, "/a"), Verdict::Allowed);
    }

    #[test]
    fn what_is_no_certificate_is_told_with_its_place() {
        for text in ["!", "AAAA", ""] {
            let access = AdminAccess { public_keys: vec![text.into()], permissions: Vec::new() };
            let error = RemoteAccess::compile(&[access]).unwrap_err();
            assert_eq!(error.path, "0.public_keys.0", "{text}");
        }
    }
}
