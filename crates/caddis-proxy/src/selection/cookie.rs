//! The `cookie` policy: a client stays with the upstream its cookie names.

use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::{Candidates, Cookies, Policy, View, last_value};

/// The compiled policy.
#[derive(Debug)]
pub(crate) struct Sticky {
    /// The cookie's name.
    pub(crate) name: String,
    /// The key of the cookie's value.
    pub(crate) secret: String,
    /// Seconds for `Max-Age`; 0 for a session cookie.
    pub(crate) max_age: u64,
    /// Chooses for clients without a valid cookie.
    pub(crate) fallback: Box<Policy>,
}

impl Sticky {
    pub(super) fn choose(
        &self,
        from: &Candidates<'_>,
        view: &View<'_>,
        cookies: &mut Cookies,
    ) -> Option<usize> {
        if let Some(value) = self.cookie(view)
            && let Some(at) =
                from.indexes().find(|at| self.value(&from.pool[*at].dial) == value.as_str())
        {
            return Some(at);
        }
        let at = self.fallback.choose(from, view, cookies)?;
        *cookies = HeaderValue::try_from(self.set_cookie(&from.pool[at].dial, view)).ok();
        Some(at)
    }

    /// The client's cookie; names are case-sensitive.
    fn cookie(&self, view: &View<'_>) -> Option<String> {
        view.headers()
            .get_all(http::header::COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value.trim_matches('"').to_owned())
    }

    fn set_cookie(&self, dial: &str, view: &View<'_>) -> String {
        let mut text = format!("{}={}; Path=/", self.name, self.value(dial));
        if self.max_age > 0 {
            text.push_str(&format!("; Max-Age={}", self.max_age));
        }
        text.push_str("; HttpOnly");
        let https = view.ex.trusted_proxy
            && last_value(view.headers(), "x-forwarded-proto")
                .is_some_and(|proto| proto == "https");
        if https || view.ex.connection.tls.is_some() {
            text.push_str("; Secure; SameSite=None");
        } else {
            text.push_str("; SameSite=Lax");
        }
        text
    }

    /// The cookie's value for an upstream: HMAC-SHA256 in hexadecimal.
    fn value(&self, dial: &str) -> String {
        let nibbles = hmac_sha256(self.secret.as_bytes(), dial.as_bytes())
            .into_iter()
            .flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
    }
}

/// HMAC (RFC 2104) over SHA-256.
fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(data);
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner.finalize())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::hmac_sha256;

    #[test]
    fn hmac_of_rfc_4231() {
        let hex =
            |bytes: [u8; 32]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac_sha256(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
