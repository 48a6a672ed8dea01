use super::{
    frame::{PADDED, WITH_PRIORITY},
    *,
};

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Head { length: payload.len(), kind, flags, stream }.write(&mut out);
    [&out[..], payload].concat()
}

/// What the codec reads, where the bytes come in pieces of this length.
fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<Reason>) {
    let (mut screen, mut read) = (Screen::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut out = BytesMut::new();
        let passed = screen.pass(piece, &mut out);
        match passed {
            Ok(Passed::AsTheyAre) => {
                assert!(out.is_empty());
                read.extend_from_slice(piece);
            }
            Ok(Passed::Others) => read.extend_from_slice(&out),
            Err(reason) => {
                read.extend_from_slice(&out);
                return (read, Some(reason));
            }
        }
    }
    (read, None)
}

fn check(bytes: &[u8], expected: &[u8], reason: Option<Reason>) {
    for piece in (1..40).chain([usize::MAX]) {
        let (read, ended) = read(&[BEGIN, bytes].concat(), piece);
        assert_eq!(ended, reason, "in pieces of {piece}");
        assert_eq!(read, [BEGIN, expected].concat(), "in pieces of {piece}");
    }
}

#[test]
fn proper_frames_pass() {
    let all = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0, 0, 1]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(SETTINGS, 0, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        frame(HEADERS, 0, 1, &[0x82, 0x84]),
        frame(CONTINUATION, END_HEADERS, 1, &[0x86]),
        frame(0, 0, 1, b"some data"),
        frame(0, END_STREAM, 1, b""),
        frame(HEADERS, END_HEADERS, 3, &[0x82]),
        frame(0xfa, 0xff, 9, &[7; 1000]),
        frame(PING, 0, 0, &[0; 8]),
    ]
    .concat();
    check(&all, &all, None);
    // All at once nothing is copied.
    let mut out = BytesMut::new();
    let mut screen = Screen::new();
    assert_eq!(screen.pass(BEGIN, &mut out), Ok(Passed::Others));
    assert_eq!(std::mem::take(&mut out), BEGIN);
    assert_eq!(screen.pass(&all[39..], &mut out), Ok(Passed::AsTheyAre));
    // A half head waits for the other one.
    assert_eq!(screen.pass(&all[30..34], &mut out), Ok(Passed::Others));
    assert_eq!(out, &b""[..]);
}

#[test]
fn settings_come_first() {
    for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[])] {
        let bytes = [&BEGIN[..PREFACE], &first].concat();
        assert_eq!(read(&bytes, 1), (BEGIN[..PREFACE].to_vec(), Some(Reason::PROTOCOL_ERROR)));
    }
    let mut screen = Screen::new();
    let begun = screen.begun.clone();
    for byte in BEGIN {
        assert!(!begun.get());
        assert!(screen.pass(&[*byte], &mut BytesMut::new()).is_ok());
    }
    assert!(begun.get());
}

#[test]
fn trailers_are_marked() {
    let request = frame(HEADERS, END_HEADERS, 5, &[0x82]);
    let marked = |before: &[u8], rest: &[u8], flags: u8| {
        let first = [before, &[MARK]].concat();
        [frame(HEADERS, flags & END_STREAM, 5, &first), frame(9, flags & 4, 5, rest)].concat()
    };
    let whole = END_STREAM | END_HEADERS;
    for (payload, flags, before, rest) in [
        (&b"abc"[..], whole, &b""[..], &b"abc"[..]),
        (b"", whole, b"", b""),
        (b"abc", END_STREAM, b"", b"abc"),
        (b"\x02abc\0\0", whole | PADDED, b"", b"abc"),
        (b"\x01\0\0\0\x01\x10abc\0", whole | PADDED | WITH_PRIORITY, b"", b"abc"),
        (b"\x20\x3f\xe1\x1fabc", whole, b"\x20\x3f\xe1\x1f", b"abc"),
    ] {
        let bytes = [request.clone(), frame(HEADERS, flags, 5, payload)].concat();
        let expected = [request.clone(), marked(before, rest, flags)].concat();
        check(&bytes, &expected, None);
    }
    // What the codec refuses in any case.
    for (payload, flags) in [
        (&b"\x09abc"[..], whole | PADDED),
        (b"", whole | PADDED),
        (b"abc", whole | WITH_PRIORITY),
        (b"\x3f\xe1", whole),
    ] {
        let bytes = [request.clone(), frame(HEADERS, flags, 5, payload)].concat();
        check(&bytes, &bytes, None);
    }
}

#[test]
fn undecodable_blocks_are_found_in_pieces() {
    let fine = frame(HEADERS, END_HEADERS, 1, &[0x82]);
    let window = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
    let long = frame(CONTINUATION, 0, 3, &[0x82; MAX_FRAME]);
    for (frames, expected) in [
        (vec![&fine, &frame(HEADERS, END_HEADERS, 3, &[0x82, 0x80])], true),
        (vec![&frame(HEADERS, 0, 3, &[0x82]), &frame(CONTINUATION, 4, 3, &[0x80])], true),
        (vec![&frame(HEADERS, 0, 3, &[0xff]), &frame(CONTINUATION, 4, 3, &[0x80])], true),
        (vec![&fine, &frame(HEADERS, END_HEADERS, 1, &[0x80])], true),
        (vec![&fine, &frame(HEADERS, END_HEADERS, 3, &[0xbe])], true),
        (vec![&fine, &frame(HEADERS, END_HEADERS, 1, &[0xbe])], false),
        (vec![&frame(HEADERS, END_HEADERS, 3, &[0xbe]), &window], false),
        (vec![&frame(HEADERS, 0, 3, &[0xbe]), &window], false),
        (vec![&frame(HEADERS, END_HEADERS, 2, &[0x80])], false),
        (vec![&fine, &fine, &window], false),
        (
            vec![
                &frame(HEADERS, 0, 3, &[0x82]),
                &long,
                &long,
                &long,
                &long,
                &frame(CONTINUATION, 4, 3, &[0x80]),
            ],
            false,
        ),
    ] {
        let bytes: Vec<u8> = frames.iter().copied().flatten().copied().collect();
        for piece in [usize::MAX, 1, 2, 7, 10, 11] {
            let (mut screen, mut out) = (Screen::new(), BytesMut::new());
            assert!(screen.pass(BEGIN, &mut out).is_ok());
            for piece in bytes.chunks(piece) {
                screen.forget();
                assert!(screen.pass(piece, &mut out).is_ok());
            }
            let found = screen.blocks.are_undecodable();
            assert_eq!(found, expected, "{frames:x?} in pieces of {piece}");
            screen.forget();
            assert!(screen.in_block || screen.blocks.frames.capacity() == 0);
        }
    }
}

#[test]
fn wrong_sizes_have_their_code() {
    let before = frame(PING, 0, 0, &[0; 8]);
    for (bytes, reason) in [
        (frame(SETTINGS, 0, 0, &[0, 1, 0]), Reason::FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, &[0, 1, 0, 0, 0, 0]), Reason::FRAME_SIZE_ERROR),
        (frame(PING, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, &[0; 3]), Reason::FRAME_SIZE_ERROR),
        (frame(PRIORITY, 0, 1, &[0; 6]), Reason::FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 1, &[0; 6]), Reason::FRAME_SIZE_ERROR),
        (frame(GOAWAY, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR),
        (frame(0, 0, 1, &[0; MAX_FRAME + 1]), Reason::FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Reason::FLOW_CONTROL_ERROR),
    ] {
        check(&[before.clone(), bytes].concat(), &before, Some(reason));
    }
    // Inside a header block, it is that which is wrong.
    let inside = [frame(HEADERS, 0, 1, &[0x82]), frame(PING, 0, 0, &[0; 7])].concat();
    check(&inside, &inside, None);
}
