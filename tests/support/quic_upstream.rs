//! An HTTP/3 upstream that does on each request stream what the test says, right or wrong.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use quinn::{RecvStream, SendStream, VarInt, crypto::rustls::QuicServerConfig};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::Mutex;

/// One request, as it begins.
pub struct Asked {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The number of its stream on that, from 0.
    pub stream: usize,
    pub quic: quinn::Connection,
    /// The upstream's control stream.
    pub control: Arc<Mutex<SendStream>>,
    pub send: SendStream,
    pub recv: RecvStream,
}

type Done = Pin<Box<dyn Future<Output = Option<()>> + Send>>;

/// A listener on a free port.
pub struct QuicUpstream {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    endpoint: quinn::Endpoint,
}

impl QuicUpstream {
    /// Serves each request by the script, with at most so many requests of a connection at once.
    pub fn start(max_streams: u32, script: impl Fn(Asked) -> Done + Send + Sync + 'static) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let mut tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![signed.cert.der().clone()], key)
                .unwrap();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(VarInt::from_u32(max_streams));
        config.transport_config(Arc::new(transport));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let endpoint = {
            let _entered = runtime.enter();
            quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap()
        };
        let port = endpoint.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, own) = (connections.clone(), endpoint.clone());
        std::thread::spawn(move || {
            let script = Arc::new(script);
            runtime.block_on(async {
                while let Some(incoming) = own.accept().await {
                    let Ok(quic) = incoming.await else { continue };
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(quic, number, script.clone()));
                }
            });
        });
        Self { port, connections, endpoint }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

impl Drop for QuicUpstream {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0x100), b"");
    }
}

async fn serve(
    quic: quinn::Connection,
    connection: usize,
    script: Arc<impl Fn(Asked) -> Done + Send + Sync + 'static>,
) {
    let Ok(mut control) = quic.open_uni().await else { return };
    // Its type, and settings without any.
    if control.write_all(&[0, 4, 0]).await.is_err() {
        return;
    }
    let control = Arc::new(Mutex::new(control));
    for stream in 0.. {
        let Ok((send, recv)) = quic.accept_bi().await else { return };
        let (quic, control) = (quic.clone(), control.clone());
        tokio::spawn(script(Asked { connection, stream, quic, control, send, recv }));
    }
}

/// Reads a whole request.
pub async fn whole(recv: &mut RecvStream) -> Vec<u8> {
    recv.read_to_end(1 << 24).await.unwrap_or_default()
}

/// The head of an answer with status 200 and so many bytes of body.
pub fn head(length: usize) -> Vec<u8> {
    let length = length.to_string();
    // The status is entry 25 of the static table, `content-length` the name of entry 4.
    let mut section = vec![0, 0, 0xd9, 0x54, u8::try_from(length.len()).unwrap()];
    section.extend_from_slice(length.as_bytes());
    let mut out = vec![1, u8::try_from(section.len()).unwrap()];
    out.extend_from_slice(&section);
    out
}

/// A DATA frame of less than 64 bytes.
pub fn data(text: &str) -> Vec<u8> {
    let mut out = vec![0, u8::try_from(text.len()).unwrap()];
    out.extend_from_slice(text.as_bytes());
    out
}

/// Answers with this text.
pub async fn reply(send: &mut SendStream, text: &str) -> Option<()> {
    send.write_all(&head(text.len())).await.ok()?;
    send.write_all(&data(text)).await.ok()?;
    send.finish().ok()
}
