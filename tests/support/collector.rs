//! A collector of OTLP that answers as the test says: over HTTP, or over gRPC with and without TLS.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::{
    Scripted, eventually,
    protobuf::{Message, written},
};

/// What a collector answers once.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Of HTTP, or of gRPC.
    pub status: u16,
    /// Header fields, or trailers of gRPC.
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub delay: Duration,
}

/// What came in one request.
#[derive(Debug, Clone)]
pub struct Export {
    pub path: String,
    /// In lower case.
    pub fields: BTreeMap<String, String>,
    pub message: Message,
}

/// A span, as far as it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub name: String,
    pub kind: u64,
    /// Nanoseconds.
    pub lasted: u64,
    pub attributes: BTreeMap<String, String>,
    pub dropped: u64,
    pub status: u64,
    pub flags: u64,
}

#[derive(Clone, Default)]
struct Book {
    exports: Arc<Mutex<Vec<Export>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

/// The collector; answers with success where no reply is left.
pub struct Collector {
    /// `127.0.0.1:port`.
    pub address: String,
    book: Book,
    _http: Option<Scripted>,
}

impl Collector {
    /// Over HTTP.
    pub fn http() -> Self {
        let book = Book::default();
        let of_script = book.clone();
        let http = Scripted::start(move |wire| {
            while let Some((head, body)) = wire.request() {
                let reply = of_script.take(&head, &body);
                std::thread::sleep(reply.delay);
                let status = if reply.status == 0 { 200 } else { reply.status };
                let mut answer = format!("HTTP/1.1 {status} X\r\n");
                for (name, value) in &reply.fields {
                    answer += &format!("{name}: {value}\r\n");
                }
                answer += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
                let mut answer = answer.into_bytes();
                answer.extend(&reply.body);
                if !wire.send(&answer) {
                    return;
                }
            }
        });
        Self { address: http.address(), book, _http: Some(http) }
    }

    /// Over gRPC; with TLS where there is a configuration.
    pub fn grpc(tls: Option<rustls::ServerConfig>) -> Self {
        let book = Book::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls)));
        let of_thread = book.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (book, acceptor) = (of_thread.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        match acceptor {
                            None => book.converse(stream).await,
                            Some(acceptor) => {
                                let stream = acceptor.accept(stream).await.ok()?;
                                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                                book.converse(stream).await
                            }
                        }
                    });
                }
            });
        });
        Self { address, book, _http: None }
    }

    /// Answers like this, after what is to be answered before.
    pub fn reply(&self, reply: Reply) {
        self.book.replies.lock().unwrap().push_back(reply);
    }

    /// What came so far.
    pub fn exports(&self) -> Vec<Export> {
        self.book.exports.lock().unwrap().clone()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.exports().iter().flat_map(Export::spans).collect()
    }

    /// Waits for so many spans.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Span> {
        eventually("the spans have come", || self.spans().len() >= count);
        self.spans()
    }
}

impl Book {
    fn take(&self, head: &str, body: &[u8]) -> Reply {
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let fields: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        self.note(path, fields, body, "content-encoding")
    }

    fn note(
        &self,
        path: String,
        fields: BTreeMap<String, String>,
        body: &[u8],
        encoding: &str,
    ) -> Reply {
        let mut plain = Vec::new();
        if fields.get(encoding).is_some_and(|coding| coding == "gzip") {
            flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap();
        } else {
            plain = body.to_vec();
        }
        let message = Message::parse(&plain);
        self.exports.lock().unwrap().push(Export { path, fields, message });
        self.replies.lock().unwrap().pop_front().unwrap_or_default()
    }

    async fn converse<S>(&self, stream: S) -> Option<()>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = h2::server::handshake(stream).await.ok()?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let book = self.clone();
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let mut all = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data.ok()?;
                    body.flow_control().release_capacity(data.len()).ok()?;
                    all.extend(data);
                }
                let pair = |(name, value): (&HeaderName, &HeaderValue)| {
                    (name.to_string(), value.to_str().unwrap().to_owned())
                };
                let fields: BTreeMap<_, _> = head.headers.iter().map(pair).collect();
                assert_eq!(fields["te"], "trailers");
                assert_eq!(
                    u32::from_be_bytes(all[1..5].try_into().unwrap()) as usize,
                    all.len() - 5
                );
                let path = head.uri.path().to_owned();
                let reply = book.note(path, fields, &all[5..], "grpc-encoding");
                tokio::time::sleep(reply.delay).await;
                let answer = Response::builder().header("content-type", "application/grpc");
                let mut send = respond.send_response(answer.body(()).unwrap(), false).ok()?;
                let mut framed = vec![0];
                framed.extend((reply.body.len() as u32).to_be_bytes());
                framed.extend(reply.body);
                if reply.status == 0 {
                    send.send_data(Bytes::from(framed), false).ok()?;
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(reply.status));
                for (name, value) in &reply.fields {
                    trailers.insert(*name, HeaderValue::try_from(value).unwrap());
                }
                send.send_trailers(trailers).ok()
            });
        }
        Some(())
    }
}

impl Export {
    fn spans(&self) -> Vec<Span> {
        let scopes = self.message.messages(1).into_iter().flat_map(|one| one.messages(2));
        scopes.flat_map(|scope| scope.messages(2)).map(|span| Span::read(&span)).collect()
    }

    /// The resource's attributes.
    pub fn resource(&self) -> BTreeMap<String, String> {
        attributes(&self.message.messages(1)[0].messages(1)[0], 1)
    }

    /// The scope's name.
    pub fn scope(&self) -> String {
        self.message.messages(1)[0].messages(2)[0].messages(1)[0].text(1)
    }
}

impl Span {
    fn read(span: &Message) -> Self {
        let hex = |number| {
            span.bytes(number).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        Self {
            trace: hex(1),
            id: hex(2),
            parent: hex(4),
            state: span.text(3),
            name: span.text(5),
            kind: span.number(6),
            lasted: span.number(8).checked_sub(span.number(7)).unwrap(),
            attributes: attributes(span, 9),
            dropped: span.number(10),
            status: span.messages(15)[0].number(3),
            flags: span.number(16),
        }
    }
}

/// Attributes as texts; a number after `#`.
pub fn attributes(message: &Message, number: u64) -> BTreeMap<String, String> {
    let one = |pair: Message| {
        let value = &pair.messages(2)[0];
        let value = if value.has(3) { format!("#{}", value.number(3)) } else { value.text(1) };
        (pair.text(1), value)
    };
    message.messages(number).into_iter().map(one).collect()
}

/// The answer that some were not taken.
pub fn partial(rejected: u8, why: &str) -> Vec<u8> {
    let mut inner = vec![1 << 3, rejected];
    inner.extend(written(2, why.as_bytes()));
    written(1, &inner)
}
