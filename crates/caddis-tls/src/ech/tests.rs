//! Handshakes of rustls' client, which hides its hello, with what is behind connection policies.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, PeerIncompatible, RootCertStore,
    ServerConfig, ServerConnection,
    client::{EchConfig as ClientEch, EchMode, EchStatus, Resumption},
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::hpke, hpke::Hpke},
    pki_types::PrivateKeyDer,
    server::{Acceptor, NoServerSessionStorage},
};

use super::{
    Acceptance, EchConfig, EchKey, GROUPS, Opened, RANDOM, Refused, Rejection, open, records,
    suites,
};
use crate::certificate::provider;

const PUBLIC: &str = "public.test";
const SECRET: &str = "secret.test";

fn groups(names: &[&str]) -> Vec<&'static dyn SupportedKxGroup> {
    let of = |name: &&str| GROUPS.iter().find(|(known, _)| known == name).unwrap().1;
    names.iter().map(of).collect()
}

fn provider_with(names: &[&str]) -> Arc<CryptoProvider> {
    let base = CryptoProvider::clone(&provider());
    Arc::new(CryptoProvider {
        kx_groups: groups(names),
        cipher_suites: suites().to_vec(),
        secure_random: RANDOM,
        ..base
    })
}

struct Peers {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    keys: Vec<EchKey>,
}

impl Peers {
    fn new(of_server: &[&str], of_client: &[&str], suite: &'static dyn Hpke) -> Self {
        let names = vec![PUBLIC.to_owned(), SECRET.to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut server = ServerConfig::builder_with_provider(provider_with(of_server))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let (config, private) = EchConfig::generate(3, PUBLIC).unwrap();
        // The same number, another key.
        let (other, other_private) = EchConfig::generate(3, PUBLIC).unwrap();
        let list = EchConfig::list([&config]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider_with(of_client))
            .with_ech(EchMode::Enable(ClientEch::new(list.into(), &[suite]).unwrap()))
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::in_memory_sessions(4);
        let keys =
            vec![EchKey { config: other, private: other_private }, EchKey { config, private }];
        Self { server: Arc::new(server), client: Arc::new(client), keys }
    }

    fn client(&self) -> (ClientConnection, Vec<u8>) {
        let name = SECRET.try_into().unwrap();
        let mut client = ClientConnection::new(self.client.clone(), name).unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        (client, sent[5..].to_vec())
    }

    fn shake(&self) -> (ClientConnection, ServerConnection) {
        let (mut client, hello) = self.client();
        let Opened::Hidden(inner) = open(&self.keys, &hello) else { panic!("not opened") };
        let acceptance = Acceptance::rehearse(&self.server, &inner).unwrap();
        let mut acceptor = Acceptor::default();
        let bytes = records(&inner);
        let mut bytes = &bytes[..];
        let accepted = loop {
            acceptor.read_tls(&mut bytes).unwrap();
            if let Some(accepted) = acceptor.accept().unwrap() {
                break accepted;
            }
        };
        assert_eq!(accepted.client_hello().server_name(), Some(SECRET));
        let config = self.server.clone();
        let server = acceptance.perform(|| accepted.into_connection(config));
        let mut server = server.map_err(|(error, _)| error).unwrap();
        for _ in 0..4 {
            pass(&mut server, &mut client);
            pass(&mut client, &mut server);
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        (client, server)
    }
}

/// Passes on what one side has to say.
fn pass<A, B>(
    from: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<A>>,
    to: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<B>>,
) where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut sent = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut sent).unwrap();
    }
    let mut sent = &sent[..];
    while !sent.is_empty() {
        to.read_tls(&mut sent).unwrap();
        to.process_new_packets().unwrap();
    }
}

#[test]
fn hidden_hellos_are_accepted_with_each_cipher_and_resumed() {
    let curves = ["x25519mlkem768", "x25519", "secp256r1"];
    let suites: [&'static dyn Hpke; 3] = [
        hpke::DH_KEM_X25519_HKDF_SHA256_AES_128,
        hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
        hpke::DH_KEM_X25519_HKDF_SHA256_CHACHA20_POLY1305,
    ];
    for suite in suites {
        let peers = Peers::new(&curves, &curves, suite);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (client, server) = peers.shake();
            assert_eq!(client.ech_status(), EchStatus::Accepted);
            assert_eq!(client.handshake_kind(), Some(kind));
            assert_eq!(server.handshake_kind(), Some(kind));
            assert_eq!(server.server_name(), Some(SECRET));
        }
    }
}

#[test]
fn the_group_is_one_that_the_client_has_sent_a_share_of() {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    for group in ["x25519", "secp256r1", "secp384r1", "secp521r1"] {
        let peers = Peers::new(&["secp521r1", "secp384r1", "secp256r1", "x25519"], &[group], suite);
        let (client, _) = peers.shake();
        assert_eq!(client.ech_status(), EchStatus::Accepted, "{group}");
    }
    // It could be asked for another one, but for the words.
    let peers = Peers::new(&["secp384r1"], &["x25519", "secp384r1"], suite);
    let (_, hello) = peers.client();
    let Opened::Hidden(inner) = open(&peers.keys, &hello) else { panic!("not opened") };
    let refused = Acceptance::rehearse(&peers.server, &inner).err();
    assert!(matches!(refused, Some(Refused::NoKeyShare)), "{refused:?}");
}

#[test]
fn what_cannot_be_opened_is_left() {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let peers = Peers::new(&["x25519"], &["x25519"], suite);
    let (_, hello) = peers.client();
    assert_eq!(open(&[], &hello), Opened::Sealed);
    assert_eq!(open(&peers.keys[..1], &hello), Opened::Sealed);
    // Whatever bit is changed on the way, it opens no more: the hello around is vouched for, too.
    for at in (0..hello.len()).step_by(7) {
        let mut changed = hello.clone();
        changed[at] ^= 1;
        let opened = open(&peers.keys, &changed);
        assert!(matches!(opened, Opened::Visible | Opened::Sealed), "{at}: {opened:?}");
    }
    for end in (0..hello.len()).step_by(5) {
        assert_eq!(open(&peers.keys, &hello[..end]), Opened::Visible, "{end}");
    }
}

#[test]
fn who_has_an_old_key_is_told_the_new_one() {
    let curves = ["x25519mlkem768", "x25519"];
    let peers = Peers::new(&curves, &curves, hpke::DH_KEM_X25519_HKDF_SHA256_AES_256);
    let (mut client, hello) = peers.client();
    assert_eq!(open(&peers.keys[..1], &hello), Opened::Sealed);
    let list = EchConfig::list([&peers.keys[0].config]).unwrap();
    let rejection = Rejection::new(&list).unwrap();
    let mut server = ServerConnection::new(rejection.config(&peers.server)).unwrap();
    let bytes = records(&hello);
    let mut bytes = &bytes[..];
    let (done, _) = rejection.perform(|| {
        server.read_tls(&mut bytes).unwrap();
        server.process_new_packets()
    });
    done.unwrap();
    assert_eq!(server.server_name(), Some(PUBLIC));
    let mut sent = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut sent).unwrap();
    }
    client.read_tls(&mut &sent[..]).unwrap();
    // It believes what it is told, since the certificate is good for the public name.
    let error = client.process_new_packets().unwrap_err();
    let Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(Some(told))) =
        error
    else {
        panic!("{error:?}")
    };
    let told = format!("{told:?}");
    assert!(told.contains(PUBLIC), "{told}");
}

#[test]
fn lists_that_do_not_fit_are_not_told() {
    assert!(Rejection::new(&[0, 0]).is_none());
    assert!(Rejection::new(&[0; 1020]).is_some());
    assert!(Rejection::new(&[0; 1021]).is_none());
}

#[test]
fn outside_of_a_handshake_nothing_is_staged() {
    let suite = hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let peers = Peers::new(&["x25519"], &["x25519"], suite);
    let (_, hello) = peers.client();
    let Opened::Hidden(inner) = open(&peers.keys, &hello) else { panic!("not opened") };
    let acceptance = Acceptance::rehearse(&peers.server, &inner).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        acceptance.perform(|| panic!("in the midst"));
    }));
    assert!(panicked.is_err());
    let [mut one, mut other] = [[0; 32]; 2];
    RANDOM.fill(&mut one).unwrap();
    RANDOM.fill(&mut other).unwrap();
    assert_ne!(one, other);
    let share = groups(&["x25519"])[0].start().unwrap().pub_key().to_vec();
    let [one, other] = [0; 2].map(|_| groups(&["x25519"])[0].start_and_complete(&share).unwrap());
    assert_ne!(one.pub_key, other.pub_key);
}
