//! Cipher suites, curves, versions and ALPN of a policy, by the names that Go uses.

use std::sync::Arc;

use caddis_config::ConfigError;
use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::cipher_suite as suites},
    version,
};

use super::ServerFacts;
use crate::{
    certificate::provider as default_provider,
    ech::{self, GROUPS, RANDOM},
};

/// Suites that Caddy takes and rustls does not have: weak ones.
const OLD_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
];

/// The process' provider with a policy's suites and curves.
pub(super) fn provider(
    names: &[String],
    curves: &[String],
    warnings: &mut Vec<String>,
) -> Result<Arc<CryptoProvider>, ConfigError> {
    let base = default_provider();
    Ok(Arc::new(CryptoProvider {
        cipher_suites: cipher_suites(names, warnings)?,
        kx_groups: groups(curves)?,
        signature_verification_algorithms: base.signature_verification_algorithms,
        secure_random: RANDOM,
        key_provider: base.key_provider,
    }))
}

/// AES first where the processor has instructions for it, as in Go.
fn defaults() -> Vec<SupportedCipherSuite> {
    let [aes_128, aes_256, chacha] = *ech::suites();
    let aes = [
        aes_128,
        aes_256,
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ];
    let chacha = [
        chacha,
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    if has_aes_instructions() {
        aes.into_iter().chain(chacha).collect()
    } else {
        chacha.into_iter().chain(aes).collect()
    }
}

fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

fn cipher_suites(
    names: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, ConfigError> {
    let all = defaults();
    if names.is_empty() {
        return Ok(all);
    }
    // The suites of TLS 1.3 are not configurable.
    let mut chosen: Vec<_> = all.iter().filter(|suite| suite.tls13().is_some()).copied().collect();
    let fixed = chosen.len();
    for name in names {
        if let Some(suite) = all.iter().find(|suite| suite_name(suite.suite()) == name) {
            if !chosen.contains(suite) {
                chosen.push(*suite);
            }
        } else if OLD_SUITES.contains(&name.as_str()) {
            warnings.push(format!(
                "cipher_suites: {name} is left out: suites with CBC are weak; remove it"
            ));
        } else {
            let all: Vec<&str> = all.iter().map(|suite| suite_name(suite.suite())).collect();
            let message =
                format!("unsupported cipher suite: {name} (there are: {})", all.join(", "));
            return Err(ConfigError::new("cipher_suites", message));
        }
    }
    if chosen.len() == fixed && !names.iter().any(|name| name.starts_with("TLS_AES_")) {
        let message = "cipher_suites: none of them is left for TLS 1.2, so only TLS 1.3 is spoken";
        warnings.push(message.to_owned());
    }
    Ok(chosen)
}

fn groups(names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, ConfigError> {
    if names.is_empty() {
        // The first three of those that can be named (T008).
        return Ok(GROUPS.iter().take(3).map(|(_, group)| *group).collect());
    }
    let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in names {
        let Some((_, group)) = GROUPS.iter().find(|(known, _)| known == name) else {
            let all: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            let message = format!("unsupported curve: {name} (there are: {})", all.join(", "));
            return Err(ConfigError::new("curves", message));
        };
        if !chosen.iter().any(|other| other.name() == group.name()) {
            chosen.push(*group);
        }
    }
    Ok(chosen)
}

/// The versions from `min` to `max`.
pub(super) fn versions(
    min: &str,
    max: &str,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let number = |name: &str, default: u8, field: &str| match name {
        "" => Ok(default),
        "tls1.2" => Ok(2),
        "tls1.3" => Ok(3),
        // Go has them still, and Caddy lets JSON name them.
        "tls1.0" | "tls1.1" => {
            let message = format!("unsupported protocol: {name}: too weak; the lowest is tls1.2");
            Err(ConfigError::new(field, message))
        }
        _ => {
            let message = format!("unsupported protocol: {name} (there are: tls1.2, tls1.3)");
            Err(ConfigError::new(field, message))
        }
    };
    let (low, high) = (number(min, 2, "protocol_min")?, number(max, 3, "protocol_max")?);
    if low > high {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let message = format!(
            "protocol min ({}) cannot be greater than protocol max ({}): {min} is above {max}",
            hex(min),
            hex(max)
        );
        return Err(ConfigError::new("protocol_min", message));
    }
    let all = [(3, &version::TLS13), (2, &version::TLS12)];
    Ok(all
        .into_iter()
        .filter(|(number, _)| (low..=high).contains(number))
        .map(|(_, version)| version)
        .collect())
}

/// Sees that there is a suite for some version.
pub(super) fn check_together(
    provider: &CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<(), ConfigError> {
    let has = |suite: &SupportedCipherSuite| versions.contains(&suite.version());
    if provider.cipher_suites.iter().any(has) {
        return Ok(());
    }
    let message = "none of these suites can be used with TLS 1.2, and TLS 1.3 is ruled out: leave \
        `cipher_suites` away, or allow tls1.3";
    Err(ConfigError::new("cipher_suites", message))
}

/// The ALPN protocols: the policy's or the default ones, without what the server does not speak.
/// An empty list of the policy's is none at all (spec T009): whatever a client offers, it gets
/// HTTP/1.1.
pub(super) fn alpn(names: Option<&[String]>, facts: ServerFacts) -> Vec<Vec<u8>> {
    let names: Vec<&str> = match names {
        None => vec!["h2", "http/1.1"],
        Some(names) => names.iter().map(String::as_str).collect(),
    };
    names
        .into_iter()
        .filter(|name| (facts.h2 || *name != "h2") && (facts.h1 || *name != "http/1.1"))
        .map(|name| name.as_bytes().to_vec())
        .collect()
}

/// The IANA name of a suite; rustls has its own form for TLS 1.3.
pub(crate) fn suite_name(suite: rustls::CipherSuite) -> &'static str {
    match suite.as_str().unwrap_or_default() {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{alpn, cipher_suites, groups, suite_name, versions};
    use crate::policy::ServerFacts;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn suites_of_tls_1_3_stay() {
        let names = list(&["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]);
        let chosen = cipher_suites(&names, &mut Vec::new()).unwrap();
        assert_eq!(chosen.len(), 4);
        assert_eq!(suite_name(chosen[3].suite()), names[0]);
        let error = cipher_suites(&list(&["X"]), &mut Vec::new()).unwrap_err();
        let start = "unsupported cipher suite: X (there are: TLS_AES_";
        assert!(error.message.starts_with(start), "{}", error.message);
    }

    #[test]
    fn curves_keep_their_order() {
        use rustls::NamedGroup::{X25519, X25519MLKEM768, secp384r1, secp521r1};
        let names = list(&["secp384r1", "x25519", "secp384r1", "secp521r1"]);
        let chosen: Vec<_> = groups(&names).unwrap().iter().map(|group| group.name()).collect();
        assert_eq!(chosen, [secp384r1, X25519, secp521r1]);
        assert!(groups(&list(&["p1"])).is_err());
        assert_eq!(groups(&[]).unwrap()[0].name(), X25519MLKEM768);
    }

    #[test]
    fn version_ranges() {
        for (min, max, count) in [("", "", 2), ("tls1.3", "", 1), ("", "tls1.2", 1)] {
            assert_eq!(versions(min, max).unwrap().len(), count, "{min} {max}");
        }
        assert!(versions("tls1.3", "tls1.2").is_err());
        assert!(versions("tls1.1", "").is_err());
    }

    #[test]
    fn alpn_follows_the_server() {
        let names = |facts| alpn(None, facts).len();
        assert_eq!(names(ServerFacts::default()), 2);
        assert_eq!(alpn(None, ServerFacts { h1: true, h2: false }), [b"http/1.1".to_vec()]);
        assert_eq!(alpn(Some(&list(&["foo"])), ServerFacts { h1: false, h2: false }).len(), 1);
    }
}
