//! Accepting a hidden hello.
//!
//! A server shows that it has read one by the last eight octets of its random number, which depend on
//! all of its own hello (RFC 9849 §7.2), while rustls chooses that number first. So the handshake is
//! begun twice with the same number and the same key exchange: a rehearsal, whose hello tells what
//! the eight octets have to be, and the performance, which has them. A rehearsal signs nothing, logs
//! no secrets, and is dropped.

use std::sync::Arc;

use rustls::{
    CipherSuite, Error, NoKeyLog, ServerConfig, ServerConnection, SignatureAlgorithm,
    SignatureScheme, Tls13CipherSuite,
    crypto::{GetRandomFailed, SupportedKxGroup},
    quic,
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use super::{
    config::{Reader, opaque16},
    hello,
    stage::{Exchange, RANDOM, Stage, perform},
};

/// How many octets of it tell of acceptance.
const CONFIRMATION: usize = 8;
/// Where these begin in a server's hello, header included.
const CONFIRMATION_AT: usize = 4 + 2 + 32 - CONFIRMATION;
/// The handshake message's number.
const SERVER_HELLO: u8 = 2;
/// The content type of records that have handshake messages.
pub const HANDSHAKE: u8 = 22;
/// What a record of TLS has at most.
pub const MAX_RECORD: usize = 1 << 14;

/// A hidden hello that a handshake can be begun with.
pub struct Acceptance {
    stage: Stage,
}

/// Why a hidden hello cannot be accepted.
#[derive(Debug)]
pub enum Refused {
    /// There is no key share of a group that the policy allows: the hello that hides it is to be
    /// answered instead, as if it could not be opened.
    NoKeyShare,
    /// The handshake fails, whichever hello is answered.
    Handshake(Error),
}

impl Acceptance {
    /// Rehearses the answer to a hidden hello (a handshake message) over TCP.
    ///
    /// # Errors
    /// The handshake would fail, or no key share fits.
    pub fn rehearse(config: &Arc<ServerConfig>, hello: &[u8]) -> Result<Self, Refused> {
        Self::rehearse_with(config, hello, |config| {
            let mut connection = ServerConnection::new(config)?;
            let records = records(hello);
            let mut records = &records[..];
            while !records.is_empty() {
                let read = connection.read_tls(&mut records);
                read.map_err(|error| Error::General(error.to_string()))?;
                connection.process_new_packets()?;
            }
            let mut written = Vec::new();
            let sent = connection.write_tls(&mut written);
            sent.map_err(|error| Error::General(error.to_string()))?;
            let mut reader = Reader(&written);
            let (kind, _version) = (reader.byte(), reader.number());
            let record = reader.opaque16().filter(|_| kind == Some(HANDSHAKE));
            Ok(record.unwrap_or_default().to_vec())
        })
    }

    /// Rehearses the answer to a hidden hello over QUIC.
    ///
    /// # Errors
    /// As [`rehearse`](Self::rehearse).
    pub fn rehearse_quic(
        config: &Arc<ServerConfig>,
        hello: &[u8],
        parameters: &[u8],
    ) -> Result<Self, Refused> {
        Self::rehearse_with(config, hello, |config| {
            let (version, parameters) = (quic::Version::V1, parameters.to_vec());
            let mut connection = quic::ServerConnection::new(config, version, parameters)?;
            connection.read_hs(hello)?;
            let mut written = Vec::new();
            // What comes first needs no keys.
            let _keys = connection.write_hs(&mut written);
            Ok(written)
        })
    }

    fn rehearse_with(
        config: &Arc<ServerConfig>,
        hello: &[u8],
        begin: impl FnOnce(Arc<ServerConfig>) -> Result<Vec<u8>, Error>,
    ) -> Result<Self, Refused> {
        let groups = hello::key_shares(hello);
        let allowed = &config.crypto_provider().kx_groups;
        let fits = |group: &&dyn SupportedKxGroup| groups.contains(&u16::from(group.name()));
        if !allowed.iter().any(fits) {
            return Err(Refused::NoKeyShare);
        }
        let mut random = [0; 32];
        let chance = RANDOM.fill(&mut random);
        chance.map_err(|GetRandomFailed| Refused::Handshake(GetRandomFailed.into()))?;
        let mut silent = ServerConfig::clone(config);
        silent.cert_resolver = Arc::new(Unsigned(silent.cert_resolver.clone()));
        silent.key_log = Arc::new(NoKeyLog {});
        let stage = Stage {
            random: Some(random),
            // An answer that asks for another group would have to say that the hello was accepted,
            // which rustls has no words for.
            groups: Some(groups),
            exchange: Some(Exchange::Open),
            retry: None,
        };
        let (answer, stage) = perform(stage, || begin(Arc::new(silent)));
        let answer = answer.map_err(Refused::Handshake)?;
        let confirmation = confirmation(config, hello, &answer).ok_or_else(|| {
            Refused::Handshake(Error::General("the rehearsed handshake has no server hello".into()))
        })?;
        random[32 - CONFIRMATION..].copy_from_slice(&confirmation);
        Ok(Self { stage: Stage { random: Some(random), ..stage } })
    }

    /// Begins the handshake: `begin` is to give rustls the same hello under the same configuration,
    /// and nothing else.
    pub fn perform<T>(self, begin: impl FnOnce() -> T) -> T {
        perform(self.stage, begin).0
    }
}

/// A handshake message in records.
pub fn records(message: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(message.len() + 5);
    for piece in message.chunks(MAX_RECORD) {
        records.extend([HANDSHAKE, 3, 1]);
        opaque16(&mut records, piece);
    }
    records
}

/// The eight octets (RFC 9849 §7.2), from the hidden hello and what the server says to it.
fn confirmation(config: &ServerConfig, hello: &[u8], answer: &[u8]) -> Option<[u8; CONFIRMATION]> {
    let mut reader = Reader(answer);
    let (kind, high, low) = (reader.byte()?, reader.byte()?, reader.number()?);
    let body = reader.take(usize::from(high) << 16 | usize::from(low))?;
    if kind != SERVER_HELLO {
        return None;
    }
    let mut message = answer.get(..4 + body.len())?.to_vec();
    message.get_mut(CONFIRMATION_AT..CONFIRMATION_AT + CONFIRMATION)?.fill(0);
    let mut reader = Reader(body.get(2 + 32..)?);
    reader.opaque8()?;
    let suite = suite(config, reader.number()?)?;
    let mut transcript = suite.common.hash_provider.start();
    transcript.update(hello);
    transcript.update(&message);
    let transcript = transcript.finish();
    let transcript = transcript.as_ref();
    let expander = suite.hkdf_provider.extract_from_secret(None, hello::random(hello)?);
    // HKDF-Expand-Label of RFC 8446 §7.1.
    const LABEL: &[u8] = b"tls13 ech accept confirmation";
    let mut out = [0; CONFIRMATION];
    let info: [&[u8]; 5] = [
        &(CONFIRMATION as u16).to_be_bytes(),
        &[LABEL.len() as u8],
        LABEL,
        &[u8::try_from(transcript.len()).ok()?],
        transcript,
    ];
    expander.expand_slice(&info, &mut out).ok()?;
    Some(out)
}

fn suite(config: &ServerConfig, number: u16) -> Option<&'static Tls13CipherSuite> {
    let number = CipherSuite::from(number);
    let suites = &config.crypto_provider().cipher_suites;
    suites.iter().find(|suite| suite.suite() == number)?.tls13()
}

/// Certificates whose keys do not sign: a rehearsal does not get that far.
#[derive(Debug)]
struct Unsigned<T>(T);

impl ResolvesServerCert for Unsigned<Arc<dyn ResolvesServerCert>> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.0.resolve(hello)?;
        let key = Arc::new(Unsigned(found.key.clone()));
        Some(Arc::new(CertifiedKey { cert: Vec::new(), key, ocsp: None }))
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

impl SigningKey for Unsigned<Arc<dyn SigningKey>> {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        Some(Box::new(Unsigned(signer.scheme())))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Signer for Unsigned<SignatureScheme> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}
