//! Accepting a hidden hello with a TLS library that knows nothing of it.
//!
//! A server shows that it has read the hidden hello by the last eight octets of its random number,
//! which depend on all of its own hello (RFC 9849 §7.2), while rustls chooses that number first. So
//! the handshake is begun twice with the same number and the same key exchange: a rehearsal, whose
//! hello tells what the eight octets have to be, and the performance, which has them. The random
//! numbers and key exchanges of all connection policies come from here for that, and are the
//! provider's own outside of these two.
//!
//! A rehearsal signs nothing, logs no secrets, and is dropped. Both are over before anything is
//! awaited, so what they share is kept by the thread.

use std::{cell::RefCell, mem, sync::Arc};

use rustls::{
    CipherSuite, Error, NamedGroup, NoKeyLog, ProtocolVersion, ServerConfig, ServerConnection,
    SignatureAlgorithm, SignatureScheme, Tls13CipherSuite,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SecureRandom, SharedSecret,
        SupportedKxGroup, aws_lc_rs::kx_group,
    },
    quic,
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use super::{config::Reader, hello};
use crate::{certificate::provider, policy::P521};

/// The random number of a hello.
type Random = [u8; 32];

/// How many octets of it tell of acceptance.
const CONFIRMATION: usize = 8;
/// Where these begin in a server's hello, header included.
const CONFIRMATION_AT: usize = 4 + 2 + 32 - CONFIRMATION;
/// The handshake message's number.
const SERVER_HELLO: u8 = 2;
/// The content type of records that have handshake messages.
const HANDSHAKE: u8 = 22;
/// What a record of TLS has at most.
const MAX_RECORD: usize = 1 << 14;

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// What a handshake that is being begun on this thread finds in the place of chance.
struct Stage {
    random: Option<Random>,
    /// The groups that the client has key shares of: an answer that asks for another one would have
    /// to say that the hello was accepted, which rustls has no words for.
    groups: Vec<u16>,
    exchange: Exchange,
}

enum Exchange {
    /// Is made, and kept.
    Open,
    /// Was made.
    Done(CompletedKeyExchange),
}

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
        let chance = provider().secure_random.fill(&mut random);
        chance.map_err(|GetRandomFailed| Refused::Handshake(GetRandomFailed.into()))?;
        let mut silent = ServerConfig::clone(config);
        silent.cert_resolver = Arc::new(Unsigned(silent.cert_resolver.clone()));
        silent.key_log = Arc::new(NoKeyLog {});
        let stage = Stage { random: Some(random), groups, exchange: Exchange::Open };
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

/// Runs `begin` on this thread with a stage; gives that back.
fn perform<T>(stage: Stage, begin: impl FnOnce() -> T) -> (T, Stage) {
    /// Nothing of it is left when `begin` panics.
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            STAGE.set(None);
        }
    }
    STAGE.set(Some(stage));
    let clear = Clear;
    let done = begin();
    let stage = STAGE.take();
    drop(clear);
    // It is only taken here.
    let stage =
        stage.unwrap_or(Stage { random: None, groups: Vec::new(), exchange: Exchange::Open });
    (done, stage)
}

/// A handshake message in records.
pub fn records(message: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(message.len() + 5);
    for piece in message.chunks(MAX_RECORD) {
        records.extend([HANDSHAKE, 3, 1]);
        super::config::opaque16(&mut records, piece);
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

/// The provider's random numbers, or those of the stage.
#[derive(Debug)]
pub(crate) struct StagedRandom;

impl SecureRandom for StagedRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        let staged = STAGE.with_borrow_mut(|stage| {
            let buffer: &mut Random = buffer.try_into().ok()?;
            *buffer = stage.as_mut()?.random.take()?;
            Some(())
        });
        match staged {
            Some(()) => Ok(()),
            None => provider().secure_random.fill(buffer),
        }
    }
}

/// A key exchange, or the one of the stage.
#[derive(Debug)]
pub(crate) struct StagedGroup(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for StagedGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.0.start()
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let staged = STAGE.with_borrow_mut(|stage| {
            Some(mem::replace(&mut stage.as_mut()?.exchange, Exchange::Open))
        });
        match staged {
            None => self.0.start_and_complete(peer),
            Some(Exchange::Done(exchange)) => Ok(exchange),
            Some(Exchange::Open) => {
                let exchange = self.0.start_and_complete(peer)?;
                let kept = CompletedKeyExchange {
                    group: exchange.group,
                    pub_key: exchange.pub_key.clone(),
                    secret: SharedSecret::from(exchange.secret.secret_bytes()),
                };
                STAGE.with_borrow_mut(|stage| {
                    if let Some(stage) = stage {
                        stage.exchange = Exchange::Done(kept);
                    }
                });
                Ok(exchange)
            }
        }
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        let name = u16::from(self.0.name());
        let staged = STAGE.with_borrow(|stage| Some(stage.as_ref()?.groups.contains(&name)));
        staged.unwrap_or(true) && self.0.usable_for_version(version)
    }
}

/// Random numbers for connection policies.
pub(crate) static RANDOM: &dyn SecureRandom = &StagedRandom;
/// The key exchanges of connection policies, by the names that Go uses.
pub(crate) static GROUPS: &[(&str, &dyn SupportedKxGroup)] = &[
    ("x25519mlkem768", &StagedGroup(kx_group::X25519MLKEM768)),
    ("x25519", &StagedGroup(kx_group::X25519)),
    ("secp256r1", &StagedGroup(kx_group::SECP256R1)),
    ("secp384r1", &StagedGroup(kx_group::SECP384R1)),
    ("secp521r1", &StagedGroup(&P521)),
];

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
