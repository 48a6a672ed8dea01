//! Names of protocol versions, cipher suites and curves.

use caddis_caddyfile::{Dispenser, Result as ParseResult};

const PROTOCOLS: [&str; 2] = ["tls1.2", "tls1.3"];

const CURVES: [&str; 5] = ["x25519mlkem768", "x25519", "secp256r1", "secp384r1", "secp521r1"];

/// Suites that Go counts as secure.
const CIPHERS: [&str; 13] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// # Errors
/// The name is none of a protocol version.
pub(super) fn check_protocol(d: &Dispenser, name: &str) -> ParseResult<()> {
    if PROTOCOLS.contains(&name) {
        return Ok(());
    }
    let message = format_args!("wrong protocol name or protocol not supported: '{name}'");
    Err(d.err(message).meant_one_of(name, PROTOCOLS))
}

/// # Errors
/// The current token is no cipher suite.
pub(super) fn check_cipher(d: &Dispenser) -> ParseResult<()> {
    let message = "wrong cipher suite name or cipher suite not supported";
    check(d, &CIPHERS, message)
}

/// # Errors
/// The current token is no curve.
pub(super) fn check_curve(d: &Dispenser) -> ParseResult<()> {
    check(d, &CURVES, "Wrong curve name or curve not supported")
}

fn check(d: &Dispenser, known: &[&str], message: &str) -> ParseResult<()> {
    if known.contains(&d.val()) {
        return Ok(());
    }
    let error = d.err(format_args!("{message}: '{}'", d.val()));
    Err(d.did_you_mean(error, known.iter().copied()))
}
