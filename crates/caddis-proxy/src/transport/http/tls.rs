//! TLS to upstreams.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use caddis_config::{ConfigError, Value};
use caddis_core::{CompileCx, Template, trust::TrustPools};
use caddis_dns::server_check::{Anyone, ServerVerifier};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::TlsConnector;

use super::{
    client_auth,
    config::TlsConfig,
    pinned::{Pinned, Roots},
    stream::Carrier,
    trust,
};
use crate::transport::Failure;

/// Compiled TLS settings of a transport.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    /// With ALPN for all versions of the transport.
    pub(crate) any: Arc<ClientConfig>,
    /// With ALPN for HTTP/1.1 alone.
    pub(crate) only_h1: Arc<ClientConfig>,
    /// For QUIC, where the transport speaks HTTP/3.
    pub(crate) quic: Option<Quic>,
    /// Name to ask for; the upstream's host if `None`.
    pub(crate) server_name: Option<Template>,
    /// Ports without TLS.
    pub(crate) except_ports: Vec<String>,
    /// Time for the handshake.
    pub(crate) handshake_timeout: Option<std::time::Duration>,
}

/// The same for QUIC.
#[derive(Clone)]
pub(crate) struct Quic(pub(crate) Arc<QuicClientConfig>);

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic").finish_non_exhaustive()
    }
}

/// The certificates that the system trusts, read once.
#[derive(Default)]
struct SystemRoots(OnceLock<Arc<RootCertStore>>);

/// Compiles the settings.
pub(crate) fn compile(
    config: &TlsConfig,
    alpn: &[&str],
    cx: &CompileCx<'_>,
) -> Result<TlsSettings, ConfigError> {
    let provider = Arc::new(provider(config)?);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("", error.to_string()))?;
    let builder = if config.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(Anyone, provider)))
    } else if trust::is_loaded_late(&config.ca) && no_other_pool(config)? {
        let pool = cx.state.single::<TrustPools>().want(config.ca.clone());
        let late = trust::Deferred::new(pool, provider.clone());
        let verifier = Arc::new(ServerVerifier::new(late, provider));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        let pinned = Pinned::new(roots(config, cx)?, provider.clone())
            .map_err(|error| ConfigError::new("ca", error))?;
        let verifier = Arc::new(ServerVerifier::new(pinned, provider));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    };
    let given = client_certificate(config)?;
    let mut any = match (&config.client_certificate_automate, given) {
        (name, _) if !name.is_empty() => {
            cx.manage_certificate(name);
            let certificates = cx.state.single();
            let managed = client_auth::Managed { name: name.clone(), certificates };
            builder.with_client_cert_resolver(Arc::new(managed))
        }
        (_, Some((chain, key))) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| ConfigError::new("client_certificate_file", error.to_string()))?,
        (_, None) => builder.with_no_client_auth(),
    };
    let quic = if alpn.contains(&"h3") { Some(quic(&any)?) } else { None };
    any.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut only_h1 = any.clone();
    only_h1.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsSettings {
        any: Arc::new(any),
        only_h1: Arc::new(only_h1),
        quic,
        server_name: (!config.server_name.is_empty()).then(|| Template::parse(&config.server_name)),
        except_ports: config.except_ports.clone(),
        handshake_timeout: config.handshake_timeout.positive(),
    })
}

/// The same for QUIC, which knows TLS 1.3 alone.
fn quic(config: &ClientConfig) -> Result<Quic, ConfigError> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    QuicClientConfig::try_from(config)
        .map(|config| Quic(Arc::new(config)))
        .map_err(|error| ConfigError::new("", error.to_string()))
}

fn provider(config: &TlsConfig) -> Result<CryptoProvider, ConfigError> {
    let mut provider = aws_lc_rs::default_provider();
    if !config.curves.is_empty() {
        provider.kx_groups.clear();
        for curve in &config.curves {
            provider.kx_groups.push(match curve.as_str() {
                "x25519mlkem768" => aws_lc_rs::kx_group::X25519MLKEM768,
                "x25519" => aws_lc_rs::kx_group::X25519,
                "secp256r1" => aws_lc_rs::kx_group::SECP256R1,
                "secp384r1" => aws_lc_rs::kx_group::SECP384R1,
                "secp521r1" if config.curves.len() > 1 => {
                    tracing::warn!(
                        target: "http.reverse_proxy.transport.http",
                        "curve secp521r1 is not available and left out"
                    );
                    continue;
                }
                other => {
                    return Err(ConfigError::new("curves", format!("unsupported curve: {other}")));
                }
            });
        }
    }
    Ok(provider)
}

fn client_certificate(
    config: &TlsConfig,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, ConfigError> {
    let (certificate, key) = (&config.client_certificate_file, &config.client_certificate_key_file);
    if certificate.is_empty() && key.is_empty() {
        return Ok(None);
    }
    if certificate.is_empty() || key.is_empty() {
        let why = "client_certificate_file and client_certificate_key_file must both be set";
        return Err(ConfigError::new("client_certificate_file", why));
    }
    let chain = pem_file(certificate)
        .map_err(|error| ConfigError::new("client_certificate_file", error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        ConfigError::new("client_certificate_key_file", format!("{key}: {error}"))
    })?;
    Ok(Some((chain, key)))
}

fn pem_file(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{path}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{path}: no certificates"));
    }
    Ok(certificates)
}

fn roots(config: &TlsConfig, cx: &CompileCx<'_>) -> Result<Roots, ConfigError> {
    let mut roots = Roots::empty();
    if !config.ca.is_null() && no_other_pool(config)? {
        pool(&config.ca, &mut roots, cx, 0).map_err(|error| error.under("ca"))?;
        return Ok(roots);
    }
    for text in &config.root_ca_pool {
        der(text, &mut roots).map_err(|error| ConfigError::new("root_ca_pool", error))?;
    }
    for path in &config.root_ca_pem_files {
        file(path, &mut roots).map_err(|error| ConfigError::new("root_ca_pem_files", error))?;
    }
    if roots.store.is_empty() {
        roots.extend(&system(cx));
    }
    Ok(roots)
}

/// True, or an error: `ca` stands alone.
fn no_other_pool(config: &TlsConfig) -> Result<bool, ConfigError> {
    if config.root_ca_pool.is_empty() && config.root_ca_pem_files.is_empty() {
        return Ok(true);
    }
    Err(ConfigError::new("ca", "conflicting config for Root CA pool"))
}

fn system(cx: &CompileCx<'_>) -> Arc<RootCertStore> {
    let roots = cx.state.single::<SystemRoots>();
    roots
        .0
        .get_or_init(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        })
        .clone()
}

/// Pools of pools deeper than this are refused.
const MAX_DEPTH: usize = 8;

fn pool(
    json: &Value,
    roots: &mut Roots,
    cx: &CompileCx<'_>,
    depth: usize,
) -> Result<(), ConfigError> {
    let texts = |key: &str| -> Vec<String> {
        match json.get(key) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    };
    let name = json.get("provider").and_then(Value::as_str).unwrap_or_default();
    match name {
        "inline" => {
            for text in texts("trusted_ca_certs") {
                der(&text, roots).map_err(|error| ConfigError::new("trusted_ca_certs", error))?;
            }
            Ok(())
        }
        "file" => {
            for path in texts("pem_files") {
                file(&path, roots).map_err(|error| ConfigError::new("pem_files", error))?;
            }
            Ok(())
        }
        "system" => {
            roots.extend(&system(cx));
            Ok(())
        }
        "combined" if depth < MAX_DEPTH => {
            let sources = json.get("sources").and_then(Value::as_array);
            for source in sources.into_iter().flatten() {
                pool(source, roots, cx, depth + 1)?;
            }
            Ok(())
        }
        "http" | "combined" => Err(ConfigError::new(
            "provider",
            format!("tls.ca_pool.source.{name} is not supported in the http transport yet"),
        )),
        _ => Err(caddis_core::compile::unknown_module("tls.ca_pool.source", name, "provider")),
    }
}

fn der(text: &str, roots: &mut Roots) -> Result<(), String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|error| error.to_string())?;
    roots.add(CertificateDer::from(bytes))
}

fn file(path: &str, roots: &mut Roots) -> Result<(), String> {
    for certificate in pem_file(path)? {
        roots.add(certificate).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

/// Makes the handshake; tells whether HTTP/2 was agreed on.
pub(crate) async fn connect(
    carrier: Carrier,
    config: Arc<ClientConfig>,
    name: &str,
    limit: Option<std::time::Duration>,
) -> Result<(Carrier, bool), Failure> {
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
        .map_err(|_| Failure::Dial(format!("tls: invalid server name '{name}'")))?;
    let handshake = TlsConnector::from(config).connect(name, carrier);
    let stream = match limit {
        Some(limit) => tokio::time::timeout(limit, handshake)
            .await
            .map_err(|_| Failure::Timeout("net/http: TLS handshake timeout".to_owned()))?,
        None => handshake.await,
    };
    let stream = stream.map_err(|error| Failure::Dial(format!("tls: {error}")))?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Carrier::Tls(Box::new(stream)), h2))
}
