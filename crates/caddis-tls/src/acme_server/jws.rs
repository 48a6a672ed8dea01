//! Signed requests (RFC 8555 §6.2, RFC 7515): the flattened form, one signature, nothing
//! unprotected; ES256, ES384, ES512, RS256 and EdDSA.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use x509_parser::{public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::problem::Problem;

/// Names of the algorithms that are understood.
const ALGORITHMS: &str = "ES256, ES384, ES512, RS256, EdDSA";
/// Bytes of the shortest modulus.
const MIN_MODULUS: usize = 2048 / 8;

/// A request as it came, its signature not yet checked.
#[derive(Debug)]
pub(super) struct Jws {
    /// The protected header.
    pub(super) header: Header,
    /// What it says.
    pub(super) payload: Vec<u8>,
    signed: String,
    signature: Vec<u8>,
}

/// The protected header.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    /// Absent in the inner part of a change of keys.
    #[serde(default)]
    pub(super) nonce: Option<String>,
    /// What the request is for.
    pub(super) url: String,
    /// A new account's key.
    #[serde(default)]
    pub(super) jwk: Option<Json>,
    /// An account's URL.
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default)]
    crit: Option<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    protected: String,
    #[serde(default)]
    payload: String,
    signature: String,
}

impl Jws {
    /// Takes a request apart.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let flattened: Flattened = serde_json::from_slice(body)
            .map_err(|error| Problem::malformed(format!("request is no flattened JWS: {error}")))?;
        let header: Header = serde_json::from_slice(&decode(&flattened.protected, "header")?)
            .map_err(|error| Problem::malformed(format!("protected header: {error}")))?;
        if header.crit.is_some() {
            return Err(Problem::malformed("critical header fields are not understood"));
        }
        if header.jwk.is_some() == header.kid.is_some() {
            return Err(Problem::malformed("exactly one of jwk and kid has to be in the header"));
        }
        Ok(Self {
            payload: decode(&flattened.payload, "payload")?,
            signature: decode(&flattened.signature, "signature")?,
            signed: format!("{}.{}", flattened.protected, flattened.payload),
            header,
        })
    }

    /// Checks the signature.
    pub(super) fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        if self.header.alg != key.algorithm() {
            let detail = format!(
                "algorithm {:?} is not supported or not the key's; supported are {ALGORITHMS}",
                self.header.alg
            );
            return Err(Problem::new(400, "badSignatureAlgorithm", detail));
        }
        if key.verifies(self.signed.as_bytes(), &self.signature) {
            return Ok(());
        }
        Err(Problem::unauthorized("signature does not verify"))
    }
}

/// An account's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Jwk {
    /// Curve and uncompressed point.
    Ec(Curve, Vec<u8>),
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// Ed25519.
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Bytes of a coordinate.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl Jwk {
    /// Reads a key (RFC 7517, RFC 7518 §6, RFC 8037).
    pub(super) fn parse(json: &Json) -> Result<Self, Problem> {
        let bad = |detail: &str| Problem::new(400, "badPublicKey", detail.to_owned());
        let field = |name: &str| {
            let text = json.get(name).and_then(Json::as_str);
            text.ok_or_else(|| bad(&format!("key has no {name}")))
        };
        let bytes = |name: &str| decode(field(name)?, name);
        match field("kty")? {
            "EC" => {
                let curve = match field("crv")? {
                    "P-256" => Curve::P256,
                    "P-384" => Curve::P384,
                    "P-521" => Curve::P521,
                    _ => return Err(bad("curve of the key is not supported")),
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != curve.size() || y.len() != curve.size() {
                    return Err(bad("key is no point of its curve"));
                }
                Ok(Self::Ec(curve, [&[4], &x[..], &y[..]].concat()))
            }
            "RSA" => {
                let trimmed = |bytes: Vec<u8>| -> Vec<u8> {
                    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
                };
                let (modulus, exponent) = (trimmed(bytes("n")?), trimmed(bytes("e")?));
                if modulus.len() < MIN_MODULUS {
                    return Err(bad("RSA key has fewer than 2048 bits"));
                }
                Ok(Self::Rsa(modulus, exponent))
            }
            "OKP" if field("crv")? == "Ed25519" => {
                let key = bytes("x")?;
                if key.len() == 32 { Ok(Self::Ed25519(key)) } else { Err(bad("malformed key")) }
            }
            _ => Err(bad("type of the key is not supported")),
        }
    }

    /// The key of a certificate, where it is one that accounts can have.
    pub(super) fn of_certificate(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let trimmed = |bytes: &[u8]| -> Vec<u8> {
            bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
        };
        let raw = info.subject_public_key.data.as_ref();
        match info.parsed() {
            Ok(PublicKey::RSA(key)) => Some(Self::Rsa(trimmed(key.modulus), trimmed(key.exponent))),
            Ok(PublicKey::EC(_)) => {
                let curves = [Curve::P256, Curve::P384, Curve::P521];
                let curve = curves.into_iter().find(|curve| raw.len() == 1 + 2 * curve.size())?;
                Some(Self::Ec(curve, raw.to_vec()))
            }
            _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
                Some(Self::Ed25519(raw.to_vec()))
            }
            _ => None,
        }
    }

    /// The key in its canonical form, members sorted (RFC 7638 §3).
    pub(super) fn json(&self) -> Json {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(curve, point) => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at(curve.size());
                json!({ "crv": curve.name(), "kty": "EC", "x": text(x), "y": text(y) })
            }
            Self::Rsa(modulus, exponent) => {
                json!({ "e": text(exponent), "kty": "RSA", "n": text(modulus) })
            }
            Self::Ed25519(key) => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(key) }),
        }
    }

    /// The key's thumbprint (RFC 7638).
    pub(super) fn thumbprint(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.json().to_string()))
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(Curve::P256, _) => "ES256",
            Self::Ec(Curve::P384, _) => "ES384",
            Self::Ec(Curve::P521, _) => "ES512",
            Self::Rsa(..) => "RS256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match self {
            Self::Ec(Curve::P256, point) => (&ECDSA_P256_SHA256_FIXED, point),
            Self::Ec(Curve::P384, point) => (&ECDSA_P384_SHA384_FIXED, point),
            Self::Ec(Curve::P521, point) => (&ECDSA_P521_SHA512_FIXED, point),
            Self::Ed25519(key) => (&ED25519, key),
            Self::Rsa(n, e) => {
                let key = RsaPublicKeyComponents { n, e };
                return key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok();
            }
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

/// Base64 for URLs without padding, as JOSE has it.
pub(super) fn decode(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Problem::malformed(format!("{what} is no base64url")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Jwk, Jws};

    #[test]
    fn the_thumbprint_of_the_standard() {
        // RFC 7638 §3.1.
        let key = json!({
            "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        });
        let key = Jwk::parse(&key).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    /// The example of RFC 8037, appendix A.4, with a header that ACME would not take.
    #[test]
    fn an_ed25519_signature_of_the_standard() {
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        });
        let key = Jwk::parse(&key).unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = super::decode(
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            "",
        );
        let mut signature = signature.unwrap();
        assert!(key.verifies(message, &signature));
        signature[3] ^= 1;
        assert!(!key.verifies(message, &signature));
    }

    #[test]
    fn odd_requests_are_refused() {
        let header = |json: serde_json::Value| {
            use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
            let protected = BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
            json!({ "protected": protected, "payload": "", "signature": "AA" }).to_string()
        };
        let good = json!({ "alg": "ES256", "url": "u", "nonce": "n", "kid": "k" });
        assert!(Jws::parse(header(good.clone()).as_bytes()).is_ok());
        for (name, value) in [("jwk", json!({})), ("crit", json!(["x"])), ("alg", json!(1))] {
            let mut odd = good.clone();
            odd[name] = value;
            assert!(Jws::parse(header(odd).as_bytes()).is_err(), "{name}");
        }
        for odd in ["", "[]", "{}", r#"{"protected":"","signature":"","header":{}}"#] {
            assert!(Jws::parse(odd.as_bytes()).is_err(), "{odd}");
        }
        let small = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
        assert_eq!(Jwk::parse(&small).unwrap_err().kind, "badPublicKey");
        let short = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
        assert!(Jwk::parse(&short).is_err() && Jwk::parse(&json!({})).is_err());
    }
}
