//! Streams and datagrams as no proper client sends them.

use std::net::UdpSocket;

use super::{BIG, Site, block_on};
use crate::support::{
    Scripted,
    quic::{Options, dial},
};

#[test]
fn rubbish_datagrams_do_no_harm() {
    let mut site = Site::start("\trespond hi\n");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state: u64 = 0x2545_f491_4f6c_dd1d;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    };
    for number in 0..5000 {
        let length = [0, 1, 5, 11, 20, 40, 1200, 1472][number % 8];
        let mut datagram: Vec<u8> = (0..length).map(|_| random()).collect();
        if number % 3 == 0 && datagram.len() > 6 {
            // The head of a first packet of version 1.
            datagram[..6].copy_from_slice(&[0xc0 | (random() & 0x3f), 0, 0, 0, 1, 8]);
        }
        socket.send_to(&datagram, ("127.0.0.1", site.tls)).unwrap();
    }
    block_on(async {
        let mut client = site.connect().await;
        assert_eq!(client.get(&site.uri("/")).await.unwrap().text(), "hi");
    });
    site.no_panic();
}

/// A HEADERS frame with literal fields.
pub(super) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    let length = |first: u8, mask: u8, length: usize, section: &mut Vec<u8>| {
        let mut rest = length;
        if rest < usize::from(mask) {
            return section.push(first | rest as u8);
        }
        section.push(first | mask);
        rest -= usize::from(mask);
        while rest >= 128 {
            section.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        section.push(rest as u8);
    };
    for (name, value) in fields {
        length(0x20, 7, name.len(), &mut section);
        section.extend_from_slice(name.as_bytes());
        length(0, 127, value.len(), &mut section);
        section.extend_from_slice(value.as_bytes());
    }
    frame(1, &section)
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind], &length.to_be_bytes()[..], payload].concat()
}

pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];

/// How a bare stream was answered: the bytes, or the code it was reset with.
pub(super) async fn exchange(
    connection: &quinn::Connection,
    bytes: &[u8],
    finish: bool,
) -> Result<Vec<u8>, Option<u64>> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let _ = send.write_all(bytes).await;
    if finish {
        let _ = send.finish();
    }
    let answer = recv.read_to_end(1 << 20).await;
    drop(send);
    answer.map_err(|error| match error {
        quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) => Some(code.into_inner()),
        _ => None,
    })
}

/// The code that the server closed a connection with.
pub(super) async fn closed_with(connection: &quinn::Connection) -> u64 {
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn malformed_streams_are_refused() {
    let mut site =
        Site::start("\trequest_body {\n\t\tmax_size 1MB\n\t}\n\treverse_proxy 127.0.0.1:1\n");
    let options = Options::default();
    block_on(async {
        let dial = || async { dial(site.tls, "localhost", &site.root, &options).await.unwrap() };
        let (_endpoint, connection) = dial().await;
        // Wrong requests end their stream, and nothing else.
        let malformed = [
            headers(&GET[1..]),
            headers(&[&GET[..], &[("Upper", "1")]].concat()),
            headers(&[&GET[..], &[("connection", "close")]].concat()),
            headers(&[&GET[..], &[("host", "other")]].concat()),
            headers(&[&GET[..3], &[(":path", "/a b")]].concat()),
        ];
        for bytes in &malformed {
            assert_eq!(exchange(&connection, bytes, true).await, Err(Some(0x10e)));
        }
        assert_eq!(exchange(&connection, &[], true).await, Err(Some(0x10d)));
        // A body that is not as long as the head says.
        let post = [&[(":method", "POST")], &GET[1..], &[("content-length", "5")]].concat();
        let short = [headers(&post), frame(0, b"1234")].concat();
        assert!(exchange(&connection, &short, true).await.is_err_or_error());
        // A head beyond the limit is told so, however it comes.
        let long = "x".repeat(30_000);
        let head = headers(&[&GET[..], &[("a", &long)]].concat());
        let answer = exchange(&connection, &head, true).await.unwrap();
        assert!(answer.windows(3).any(|part| part == b"431"), "{answer:?}");
        let announced = [&[1], &[0xff; 8][..]].concat();
        let answer = exchange(&connection, &announced, false).await.unwrap();
        assert!(answer.windows(3).any(|part| part == b"431"), "{answer:?}");
        assert!(connection.close_reason().is_none());
        // Wrong frames end the connection.
        for (bytes, code) in [
            (frame(0, b"data first"), 0x105),
            (frame(4, &[]), 0x105),
            ([headers(&post), frame(2, &[])].concat(), 0x105),
            (frame(1, &[0, 0, 0x80]), 0x200),
        ] {
            let (_endpoint, connection) = dial().await;
            let _ = exchange(&connection, &bytes, false).await;
            assert_eq!(closed_with(&connection).await, code, "{bytes:?}");
        }
        // And so do wrong control streams.
        for (bytes, code) in [
            (&[0x00, 0x0d, 1, 1][..], 0x10a),
            (&[0x00, 0x04, 2, 2, 1], 0x109),
            (&[0x01, 0x00], 0x103),
            (&[0x02, 0x3f, 0xe1, 0x1f], 0x201),
        ] {
            let (_endpoint, connection) = dial().await;
            let mut control = connection.open_uni().await.unwrap();
            control.write_all(bytes).await.unwrap();
            assert_eq!(closed_with(&connection).await, code, "{bytes:?}");
        }
        let (_endpoint, connection) = dial().await;
        for kind in [0x21, 0x40] {
            let mut other = connection.open_uni().await.unwrap();
            other.write_all(&[kind, kind, 1, 2, 3]).await.unwrap();
        }
        let answer = exchange(&connection, &headers(&GET), true).await.unwrap();
        assert!(answer.windows(3).any(|part| part == b"502"), "{answer:?}");
    });
    site.no_panic();
}

trait Refused {
    fn is_err_or_error(&self) -> bool;
}

impl Refused for Result<Vec<u8>, Option<u64>> {
    /// Reset, or answered with an error.
    fn is_err_or_error(&self) -> bool {
        match self {
            Err(code) => code.is_some(),
            Ok(answer) => answer.windows(3).any(|part| part == b"502" || part == b"400"),
        }
    }
}

#[test]
fn slow_clients_are_not_waited_for() {
    let timeouts = "\tservers {\n\t\ttimeouts {\n\t\t\tread_header 400ms\n\
                    \t\t\tread_body_idle 400ms\n\t\t\twrite_idle 400ms\n\t\t}\n\t}\n";
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let length = if head.starts_with("GET") { BIG } else { 2 };
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            let piece = vec![b'x'; length.min(64 * 1024)];
            for _ in 0..length / piece.len() {
                if !wire.send(&piece) {
                    return;
                }
            }
        }
    });
    let site = Site::start_with(timeouts, &format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let options = Options::default();
        let (_endpoint, connection) =
            dial(site.tls, "localhost", &site.root, &options).await.unwrap();
        // Half a head.
        let head = headers(&GET);
        let half = exchange(&connection, &head[..head.len() / 2], false).await;
        assert_eq!(half, Err(Some(0x10c)));
        // A body that stops.
        let post = [&[(":method", "POST")], &GET[1..], &[("content-length", "5")]].concat();
        let stopped = [headers(&post), frame(0, b"123")].concat();
        let answer = exchange(&connection, &stopped, false).await;
        assert!(answer.as_ref().is_ok_and(|answer| !answer.is_empty()), "{answer:?}");
        // An answer that nobody reads.
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&headers(&GET)).await.unwrap();
        send.finish().unwrap();
        let reset = recv.received_reset().await.unwrap();
        assert_eq!(reset.map(quinn::VarInt::into_inner), Some(0x10c));
        assert!(connection.close_reason().is_none());
    });
}
