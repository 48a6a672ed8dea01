//! The key exchange over secp521r1, which the provider has no group for.

use aws_lc_rs::{
    agreement::{ECDH_P521, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup},
};

/// Length of an uncompressed point: the mark and two coordinates of 66 octets.
const POINT: usize = 1 + 2 * 66;

/// The group.
#[derive(Debug)]
pub(crate) struct P521;

struct Exchange {
    private: EphemeralPrivateKey,
    public: PublicKey,
}

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new());
        let private = private.map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // TLS knows uncompressed points alone (RFC 8446 §4.2.8.2).
        if peer.first() != Some(&4) || peer.len() != POINT {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        agree_ephemeral(self.private, peer, refused, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::SupportedKxGroup;

    use super::P521;

    #[test]
    fn both_sides_agree() {
        let (one, other) = (P521.start().unwrap(), P521.start().unwrap());
        let (a, b) = (one.pub_key().to_vec(), other.pub_key().to_vec());
        let (x, y) = (one.complete(&b).unwrap(), other.complete(&a).unwrap());
        assert_eq!(x.secret_bytes(), y.secret_bytes());
        for odd in [&[][..], &a[..132], &[4; 133], &[2; 67]] {
            assert!(P521.start().unwrap().complete(odd).is_err());
        }
    }
}
