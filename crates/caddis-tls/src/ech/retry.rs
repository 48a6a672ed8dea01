//! Telling a client whose hidden hello could not be opened what to hide it with: an extension of the
//! encrypted extensions (RFC 9849 §7.1), which rustls has no place for.
//!
//! It is put in where that message is hashed and where it is encrypted, both by suites of our own
//! around the provider's; over QUIC, whoever passes the message on puts it in.

use std::sync::{Arc, OnceLock};

use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, ServerConfig, SupportedCipherSuite,
    Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon,
        aws_lc_rs::cipher_suite as suites,
        cipher::{
            AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
            OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
        },
        hash::{Context, Hash, HashAlgorithm, Output},
    },
};

use super::{
    config::{Reader, VERSION, opaque16},
    stage::{Stage, on_stage, perform},
};

/// The handshake message's number.
const ENCRYPTED_EXTENSIONS: u8 = 8;
/// How much longer a message may become.
const MAX_LIST: usize = 1 << 10;
/// How much a record may have so that the longer message fits into it.
const MAX_FRAGMENT: usize = (1 << 14) - MAX_LIST;

/// What a client is told.
pub(super) struct Retry {
    list: Vec<u8>,
    hashed: bool,
    encrypted: bool,
}

/// A hello that is answered as it is, with a word on how to hide the next one.
pub struct Rejection(Retry);

impl Rejection {
    /// With the configurations that are to be used (an `ECHConfigList`). `None` where there are none,
    /// or too many to be told.
    pub fn new(list: &[u8]) -> Option<Self> {
        // A list without configurations has two octets.
        let fits = (3..=MAX_LIST - 4).contains(&list.len());
        fits.then(|| Self(Retry { list: list.to_vec(), hashed: false, encrypted: false }))
    }

    /// The configuration for a handshake over TCP: its records leave room for the longer message.
    pub fn config(&self, config: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = config.clone();
        config.max_fragment_size = Some(MAX_FRAGMENT);
        Arc::new(config)
    }

    /// Begins the handshake with `begin`; for QUIC, [`extend`](Self::extend) is to follow.
    pub fn perform<T>(self, begin: impl FnOnce() -> T) -> (T, Option<Self>) {
        let stage = Stage { retry: Some(self.0), ..Stage::default() };
        let (done, stage) = perform(stage, begin);
        (done, stage.retry.map(Self))
    }

    /// The handshake messages of a flight with the word in them, once.
    pub fn extend(&mut self, flight: &[u8]) -> Option<Vec<u8>> {
        self.0.extend(flight)
    }
}

impl Retry {
    /// What is to be encrypted; nothing where the message was not hashed like that.
    fn extend(&mut self, flight: &[u8]) -> Option<Vec<u8>> {
        if self.encrypted || !self.hashed {
            return None;
        }
        let longer = extended(flight, &self.list)?;
        self.encrypted = true;
        Some(longer)
    }

    fn hash(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if self.hashed {
            return None;
        }
        let longer = extended(message, &self.list)?;
        self.hashed = true;
        Some(longer)
    }
}

/// Messages that begin with encrypted extensions, with one more of those.
fn extended(messages: &[u8], list: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(messages);
    let (ENCRYPTED_EXTENSIONS, 0) = (reader.byte()?, reader.byte()?) else { return None };
    let mut body = Reader(reader.opaque16()?);
    let mut extensions = body.opaque16()?.to_vec();
    if !body.0.is_empty() {
        return None;
    }
    extensions.extend(VERSION.to_be_bytes());
    opaque16(&mut extensions, list);
    let mut body = Vec::with_capacity(extensions.len() + 2);
    opaque16(&mut body, &extensions);
    let mut longer = Vec::with_capacity(messages.len() + list.len() + 4);
    longer.extend([ENCRYPTED_EXTENSIONS, 0]);
    opaque16(&mut longer, &body);
    longer.extend(reader.0);
    Some(longer)
}

/// The suites of TLS 1.3 for connection policies, those with AES first.
pub(crate) fn suites() -> &'static [SupportedCipherSuite; 3] {
    static SUITES: OnceLock<[SupportedCipherSuite; 3]> = OnceLock::new();
    SUITES.get_or_init(|| {
        [
            suites::TLS13_AES_128_GCM_SHA256,
            suites::TLS13_AES_256_GCM_SHA384,
            suites::TLS13_CHACHA20_POLY1305_SHA256,
        ]
        .map(|suite| suite.tls13().map_or(suite, staged))
    })
}

/// The suite with our hash and cipher around its own; made once for the life of the process, since
/// rustls wants it to last.
fn staged(suite: &'static Tls13CipherSuite) -> SupportedCipherSuite {
    let common = &suite.common;
    let staged = Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: common.suite,
            hash_provider: Box::leak(Box::new(StagedHash(common.hash_provider))),
            confidentiality_limit: common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: Box::leak(Box::new(StagedCipher(suite.aead_alg))),
        quic: suite.quic,
    };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(staged)))
}

/// Whether there is something to be told.
fn is_staged() -> bool {
    on_stage(|stage| stage.retry.as_ref().map(|_| ())).is_some()
}

struct StagedHash(&'static dyn Hash);

impl Hash for StagedHash {
    fn start(&self) -> Box<dyn Context> {
        let context = self.0.start();
        if is_staged() { Box::new(StagedContext(context)) } else { context }
    }

    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(data)
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct StagedContext(Box<dyn Context>);

impl Context for StagedContext {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, data: &[u8]) {
        match on_stage(|stage| stage.retry.as_mut()?.hash(data)) {
            Some(longer) => self.0.update(&longer),
            None => self.0.update(data),
        }
    }
}

struct StagedCipher(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for StagedCipher {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let encrypter = self.0.encrypter(key, iv);
        if is_staged() { Box::new(StagedEncrypter(encrypter)) } else { encrypter }
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct StagedEncrypter(Box<dyn MessageEncrypter>);

impl MessageEncrypter for StagedEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let longer = (message.typ == ContentType::Handshake)
            .then(|| {
                let plain = message.payload.to_vec();
                on_stage(|stage| stage.retry.as_mut()?.extend(&plain))
            })
            .flatten();
        match &longer {
            None => self.0.encrypt(message, seq),
            Some(longer) => {
                let payload = OutboundChunks::Single(longer);
                self.0.encrypt(OutboundPlainMessage { payload, ..message }, seq)
            }
        }
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}
