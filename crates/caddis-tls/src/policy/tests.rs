use std::{net::IpAddr, sync::Arc};

use caddis_config::ConnectionPolicy;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

use super::{BindCx, HelloFacts, Policies, ServerFacts, compile_policies};
use crate::{
    automate::{CertManager, Issuer, ManagedSubject, Reconcile},
    certificate::provider,
    info::{ClientCertificate, tls_info},
    key::{self, KeyType},
    pki::LeafRequest,
    storage::FileSystem,
    testing::TempDir,
    timestamp,
};

struct World {
    _dir: TempDir,
    manager: Arc<CertManager>,
    storage: Arc<FileSystem>,
}

impl World {
    async fn new(names: &[&str]) -> Self {
        let dir = TempDir::new();
        let storage = Arc::new(FileSystem::new(dir.path()));
        let manager = CertManager::new(storage.clone());
        let internal =
            Issuer::Internal { ca: String::new(), lifetime: None, sign_with_root: false };
        let subjects = names
            .iter()
            .map(|name| ManagedSubject {
                name: (*name).to_owned(),
                issuers: vec![internal.clone()],
                key_type: KeyType::P256,
                reuse_private_keys: false,
                renewal_window_ratio: 0.0,
                must_staple: false,
                storage: None,
            })
            .collect();
        let wanted = Reconcile {
            subjects,
            unless_loaded: Default::default(),
            on_demand: Vec::new(),
            capacity: 0,
            loaded: Vec::new(),
            ocsp: None,
            clean: None,
            loaders: crate::loaders::Loaders::default(),
            storage: storage.clone(),
        };
        manager.reconcile(wanted).await;
        Self { _dir: dir, manager, storage }
    }

    fn bind(&self, json: Value) -> Policies {
        plan(json).bind(&self.cx()).unwrap()
    }

    fn cx(&self) -> BindCx<'_> {
        BindCx {
            store: self.manager.store(),
            tickets: self.manager.tickets(),
            storage: &*self.storage,
            pki: self.manager.pki(),
        }
    }

    fn client(&self) -> ClientSide {
        let root = self.manager.pki().authority("local", timestamp::now()).unwrap();
        ClientSide { root: root.root_der()[0].clone(), identity: None, alpn: Vec::new() }
    }

    /// A certificate and key for a client, from the local authority.
    fn identity(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let now = timestamp::now();
        let ca = self.manager.pki().authority("local", now).unwrap();
        let pair = KeyType::P256.generate().unwrap();
        let request =
            LeafRequest { names: vec![name.to_owned()], lifetime: 3_600, sign_with_root: false };
        let issued = ca.issue(&request, &pair, now).unwrap();
        let chain = crate::certificate::parse_chain(issued.chain_pem.as_bytes()).unwrap();
        (chain, key::from_pem(key::to_pem(&pair).as_bytes()).unwrap())
    }
}

#[derive(Clone)]
struct ClientSide {
    root: CertificateDer<'static>,
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    alpn: Vec<Vec<u8>>,
}

impl ClientSide {
    fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity.as_deref() {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

fn plan(json: Value) -> super::PolicyPlan {
    let policies: Vec<ConnectionPolicy> = serde_json::from_value(json).unwrap();
    compile_policies(&policies, ServerFacts::default()).unwrap()
}

/// A whole handshake in memory, and one round of data so that tickets arrive.
fn handshake(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..8 {
        let mut buffer = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut buffer).unwrap();
        }
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut buffer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut buffer).unwrap();
        }
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn sni(name: &str) -> HelloFacts<'_> {
    HelloFacts { sni: Some(name), ..HelloFacts::default() }
}

#[tokio::test]
async fn policies_are_matched_in_order() {
    let world = World::new(&[]).await;
    let policies = world.bind(json!([
        {"match": {"sni": ["a.test", "B.test"]}, "alpn": ["0"]},
        {"match": {"sni": ["*.wild.test"]}, "alpn": ["1"]},
        {"match": {"sni": ["x.wild.test"]}, "alpn": ["2"]},
        {"match": {"sni_regexp": {"pattern": "^re[0-9]+\\.test$"}}, "alpn": ["3"]},
        {"match": {"remote_ip": {"ranges": ["10.0.0.0/8"], "not_ranges": ["10.1.0.0/16"]}}, "alpn": ["4"]},
        {"match": {"local_ip": {"ranges": ["192.168.0.1"]}}, "alpn": ["5"]},
        {"match": {"sni": ["dropped.test"]}, "drop": true},
        {"match": {"sni": [""]}, "alpn": ["7"]},
        {"match": {"sni": ["a.test"]}, "alpn": ["8"]},
    ]));
    let chosen = |facts: &HelloFacts<'_>| {
        let policy = policies.choose(facts)?;
        Some(String::from_utf8(policy.config.alpn_protocols[0].clone()).unwrap())
    };
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    let cases = [
        (sni("a.test"), Some("0")),
        (sni("B.TEST"), Some("0")),
        (sni("x.wild.test"), Some("1")),
        (sni("x.y.wild.test"), None),
        (sni("re12.test"), Some("3")),
        (HelloFacts { remote: ip("10.2.0.1"), ..sni("q.test") }, Some("4")),
        (HelloFacts { remote: ip("::ffff:10.2.0.1"), ..sni("q.test") }, Some("4")),
        (HelloFacts { remote: ip("10.1.0.1"), ..sni("q.test") }, None),
        (HelloFacts { local: ip("192.168.0.1"), ..sni("q.test") }, Some("5")),
        (sni("dropped.test"), None),
        (HelloFacts::default(), Some("7")),
        (sni("q.test"), None),
    ];
    for (facts, want) in cases {
        assert_eq!(chosen(&facts).as_deref(), want, "{facts:?}");
    }
}

#[test]
fn bad_policies_are_refused() {
    for (policy, want) in [
        (json!({"cipher_suites": ["X"]}), "0.cipher_suites: unsupported cipher suite: X"),
        (json!({"match": {"x": 1}}), "0.match.x: unknown module: tls.handshake_match.x"),
        (
            json!({"protocol_min": "tls1.3", "protocol_max": "tls1.2"}),
            "cannot be greater than protocol max",
        ),
        (
            json!({"client_authentication": {"mode": "x"}}),
            "0.client_authentication.mode: client auth mode not recognized: x",
        ),
        (
            json!({"client_authentication": {"ca": {"provider": "x"}}}),
            "unknown module: tls.ca_pool.source.x",
        ),
        // Nobody is let in where authorities are missing.
        (
            json!({"client_authentication": {"ca": null}}),
            "module name not specified with key 'provider'",
        ),
        (
            json!({"client_authentication": {"mode": "require_and_verify", "ca": null}}),
            "module name not specified with key 'provider'",
        ),
        (
            json!({"client_authentication": {
                "ca": {"provider": "system"}, "trusted_ca_certs": ["AA=="]}}),
            "conflicting config for client authentication trust CA",
        ),
    ] {
        let policies: Vec<ConnectionPolicy> = serde_json::from_value(json!([policy])).unwrap();
        let error = compile_policies(&policies, ServerFacts::default()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn fingerprints_tell_changes() {
    let one = plan(json!([{"alpn": ["h2"]}])).fingerprint;
    assert_eq!(one, plan(json!([{"alpn": ["h2"]}])).fingerprint);
    assert_ne!(one, plan(json!([{"alpn": ["http/1.1"]}])).fingerprint);
    assert_ne!(one, plan(json!([{"alpn": ["h2"]}, {}])).fingerprint);
}

#[tokio::test]
async fn a_client_trusts_the_internal_certificate() {
    let world = World::new(&["a.test", "*.wild.test", "127.0.0.1"]).await;
    let policies = world.bind(json!([{}]));
    let client = ClientSide { alpn: vec![b"h2".to_vec()], ..world.client() }.config();
    let config = policies.choose(&sni("a.test")).unwrap().config_for(&sni("a.test"));
    let (_, server) = handshake(&client, "a.test", &config).unwrap();
    let info = tls_info(&server);
    assert_eq!((info.version, info.alpn.as_str()), (0x0304, "h2"));
    assert!(info.cipher_name.starts_with("TLS_"), "{}", info.cipher_name);
    assert_eq!((info.server_name.as_str(), info.resumed), ("a.test", false));
    let (_, server) = handshake(&client, "a.test", &config).unwrap();
    assert!(tls_info(&server).resumed);
    handshake(&client, "x.wild.test", &config).unwrap();
    assert!(handshake(&client, "x.y.wild.test", &config).is_err());
    assert!(handshake(&client, "other.test", &config).is_err());

    let local = "127.0.0.1".parse().ok();
    let facts = HelloFacts { local, ..HelloFacts::default() };
    let policy = policies.choose(&facts).unwrap();
    assert!(handshake(&client, "127.0.0.1", &policy.config).is_err(), "no name, no default");
    handshake(&client, "127.0.0.1", &policy.config_for(&facts)).unwrap();
    assert_eq!(policy.missing_certificate(&sni("x.wild.test")), None);
    let missing = policy.missing_certificate(&sni("Q.test")).unwrap();
    assert_eq!((missing.asked.as_str(), missing.name.as_str()), ("q.test", "q.test"));
    assert_eq!(policy.missing_certificate(&facts), None);
    let elsewhere = HelloFacts { local: "127.0.0.2".parse().ok(), ..facts };
    let missing = policy.missing_certificate(&elsewhere).unwrap();
    assert_eq!((missing.asked.as_str(), missing.name.as_str()), ("", "127.0.0.2"));
    assert!(policy.has_certificate(&facts) && policy.has_certificate(&sni("x.wild.test")));
    assert!(!policy.has_certificate(&elsewhere) && !policy.has_certificate(&sni("q.test")));
    let policies = world.bind(json!([{"default_sni": "d.test"}]));
    let missing = policies.choose(&elsewhere).unwrap().missing_certificate(&elsewhere).unwrap();
    assert_eq!((missing.asked.as_str(), missing.name.as_str()), ("", "d.test"));
}

#[tokio::test]
async fn client_authentication_modes() {
    let world = World::new(&["a.test"]).await;
    let anonymous = world.client();
    let known = world.identity("known.test");
    let leaf = known.0[0].clone();
    let known = ClientSide { identity: Some(Arc::new(known)), ..world.client() };
    let stranger = World::new(&[]).await.identity("stranger.test");
    let stranger = ClientSide { identity: Some(Arc::new(stranger)), ..world.client() };
    let other = ClientSide { identity: Some(Arc::new(world.identity("o.test"))), ..world.client() };
    let pool = json!({"provider": "pki_root", "authority": ["local"]});
    let leaf_pem = key::encode("CERTIFICATE", &leaf);
    let leaf_only = json!([{"verifier": "leaf", "leaf_certs_loaders":
        [{"loader": "pem", "certificates": [leaf_pem]}]}]);
    let cases = [
        (json!({"mode": "request"}), [true, true, true, true]),
        (json!({"mode": "require"}), [false, true, true, true]),
        (json!({}), [true, true, true, true]),
        (json!({"mode": "verify_if_given", "ca": pool}), [true, true, false, true]),
        (json!({"ca": pool}), [false, true, false, true]),
        (json!({"ca": pool, "verifiers": leaf_only}), [false, true, false, false]),
        (json!({"mode": "request", "verifiers": leaf_only}), [false, true, false, false]),
    ];
    for (auth, want) in cases {
        let policies = world.bind(json!([{"client_authentication": auth}]));
        let config = &policies.choose(&sni("a.test")).unwrap().config;
        let got = [&anonymous, &known, &stranger, &other]
            .map(|side| handshake(&side.config(), "a.test", config).is_ok());
        assert_eq!(got, want, "{auth}");
    }
    let policies = world.bind(json!([{"client_authentication": {"ca": pool}}]));
    let config = &policies.choose(&sni("a.test")).unwrap().config;
    let client = known.config();
    for _ in 0..2 {
        let (_, server) = handshake(&client, "a.test", config).unwrap();
        let info = tls_info(&server);
        assert!(!info.resumed, "no tickets with client authentication");
        let shown = ClientCertificate::of(&info).unwrap();
        assert_eq!(shown.value("san.dns_names.0").unwrap().text(), "known.test");
    }
}

#[tokio::test]
async fn restricted_versions_and_missing_files() {
    let world = World::new(&["a.test"]).await;
    let policies = world.bind(json!([{"protocol_max": "tls1.2"}]));
    let config = &policies.choose(&sni("a.test")).unwrap().config;
    let client = world.client().config();
    let (_, server) = handshake(&client, "a.test", config).unwrap();
    assert_eq!(tls_info(&server).version, 0x0303);
    assert!(tls_info(&server).cipher_name.starts_with("TLS_ECDHE_ECDSA_"));
    let files = json!([{"client_authentication": {"ca": {"provider": "file", "pem_files": ["/none/x.pem"]}}}]);
    let error = plan(files).bind(&world.cx()).unwrap_err();
    assert!(error.to_string().contains("/none/x.pem"), "{error}");
}

#[tokio::test]
async fn quic_has_a_configuration_of_its_own() {
    let world = World::new(&["a.test"]).await;
    let policies = world.bind(json!([
        { "match": { "sni": ["old.test"] }, "protocol_max": "tls1.2" },
        { "alpn": ["h2"] },
    ]));
    let old = policies.choose(&sni("old.test")).unwrap();
    assert!(old.quic_config_for(&sni("old.test")).is_none());
    let policy = policies.choose(&sni("a.test")).unwrap();
    let config = policy.quic_config_for(&sni("a.test")).unwrap();
    assert_eq!(config.alpn_protocols, [b"h3"]);
    assert_eq!(policy.config_for(&sni("a.test")).alpn_protocols, [b"h2"]);
    assert!(Arc::ptr_eq(&config, &policy.quic_config_for(&sni("b.test")).unwrap()));
    let local = HelloFacts { local: Some(IpAddr::from([127, 0, 0, 1])), ..HelloFacts::default() };
    let nameless = policy.quic_config_for(&local).unwrap();
    assert_eq!(nameless.alpn_protocols, [b"h3"]);
    assert_eq!(policy.config_for(&local).alpn_protocols, [b"h2"]);
}

#[tokio::test]
async fn secrets_are_logged_where_asked_for() {
    let world = World::new(&["a.test"]).await;
    let file = world.storage.root().join("secrets.log");
    let policies = world.bind(json!([{"insecure_secrets_log": file}]));
    let config = &policies.choose(&sni("a.test")).unwrap().config;
    handshake(&world.client().config(), "a.test", config).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.lines().any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")), "{text}");
}

#[tokio::test]
async fn clients_of_http_1_come_to_policies_of_http_2() {
    let world = World::new(&["a.test"]).await;
    let policies = world.bind(json!([{"alpn": ["h2"]}, {}]));
    let config = policies.iter().next().unwrap().config_for(&sni("a.test"));
    let left = |offered: Option<&[&'static str]>| {
        let offered = offered.map(|names| names.iter().map(|name| name.as_bytes()));
        super::for_protocols(config.clone(), offered).alpn_protocols.len()
    };
    for (offered, want) in [
        (Some(&["http/1.1"][..]), 0),
        (Some(&["http/1.0", "http/1.1"]), 0),
        (Some(&["h2", "http/1.1"]), 1),
        (Some(&["other"]), 1),
        (None, 1),
    ] {
        assert_eq!(left(offered), want, "{offered:?}");
    }
}

/// A client that names ChaCha20 first gets it (spec T007), any other one what the server prefers.
#[tokio::test]
async fn clients_without_instructions_for_aes() {
    use rustls::CipherSuite as Suite;
    let world = World::new(&["a.test"]).await;
    let mut roots = RootCertStore::empty();
    roots.add(world.client().root.clone()).unwrap();
    for (low, strong, plain, chacha) in [
        (
            "tls1.3",
            Suite::TLS13_AES_256_GCM_SHA384,
            Suite::TLS13_AES_128_GCM_SHA256,
            Suite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
        (
            "tls1.2",
            Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ] {
        let policies = world.bind(json!([{ "protocol_min": low, "protocol_max": low }]));
        let config = policies.iter().next().unwrap().config_for(&sni("a.test"));
        for (offered, want) in [([strong, chacha, plain], plain), ([chacha, plain, strong], chacha)]
        {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            let known = provider.cipher_suites.clone();
            let suite = |one| *known.iter().find(|suite| suite.suite() == one).unwrap();
            provider.cipher_suites = offered.map(suite).to_vec();
            let client = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let config = super::for_suites(config.clone(), &offered);
            let (_, server) = handshake(&Arc::new(client), "a.test", &config).unwrap();
            assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), want, "{offered:?}");
        }
    }
}

/// Where the policy's own choice leaves none of a name's certificates, there is none (spec T050).
#[tokio::test]
async fn a_choice_that_leaves_none() {
    let world = World::new(&["a.test"]).await;
    for (selection, want) in [(json!(null), true), (json!({ "any_tag": ["none"] }), false)] {
        let policies = world.bind(json!([{ "certificate_selection": selection }]));
        let policy = policies.iter().next().unwrap();
        assert!(policy.missing_certificate(&sni("a.test")).is_none());
        assert_eq!(policy.may_answer(&sni("a.test")), want);
    }
}
