//! Looks at a client's frames before the codec does, for what the codec leaves out:
//!
//! - It answers a frame of a wrong size, a window beyond its limit and a header block that cannot
//!   be decoded with the code for everything, where RFC 9113 §4.2, §4.3 and §6 name one.
//! - It takes any frame for the first one, and waits for it without a limit of its own; the first
//!   one has to be SETTINGS (RFC 9113 §3.4).
//! - It passes over pseudo-fields in trailers, which make a request malformed (RFC 9113 §8.1). It
//!   knows that none may follow a field; so trailers get a field of ours in front, and any
//!   pseudo-field behind it, however it is coded, ends the stream as it has to.
//!
//! What is inside a header block only the codec can tell; when it ended a connection, its last
//! blocks are looked at again ([`Blocks`]).

mod blocks;
mod frame;

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, BytesMut};
use caddis_core::exchange::Io;
use h2::Reason;
use http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    blocks::Blocks,
    frame::{
        ACK, CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEAD, HEADERS, Head, MAX_WINDOW, PING,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, fragment,
    },
};
use crate::gather::Gathered;

/// Bytes of the preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The largest frame that is taken; the codec tells no other (RFC 9113 §6.5.2).
const MAX_FRAME: usize = 16_384;
/// An empty `max-forwards`, by the static table of RFC 7541: no trailer may be called so (RFC 9110
/// §6.5.1).
const MARK: u8 = 0xaf;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;

/// Takes what was put in front off.
pub(super) fn unmark(trailers: &mut HeaderMap) {
    trailers.remove(header::MAX_FORWARDS);
}

/// Where in the bytes of a connection we are.
enum At {
    Preface(usize),
    /// So much of a frame's head is here.
    Head(usize, [u8; HEAD]),
    /// So much of a frame is to come; whether it has a part of a header block.
    Payload(usize, bool),
    /// A frame that is looked at as a whole.
    Whole(Head, BytesMut),
}

/// What became of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    /// They are for the codec as they are.
    AsTheyAre,
    /// Others are, if any.
    Others,
}

/// The frames of a connection.
struct Screen {
    at: At,
    /// The largest stream so far.
    last: u32,
    /// A header block goes on.
    in_block: bool,
    /// The client's first frame is here.
    begun: Rc<Cell<bool>>,
    blocks: Blocks,
}

impl Screen {
    fn new() -> Self {
        Self {
            at: At::Preface(PREFACE),
            last: 0,
            in_block: false,
            begun: Rc::default(),
            blocks: Blocks::default(),
        }
    }

    /// Looks at what came. Where it is not for the codec as it is, what is instead is put behind
    /// `out`. An error ends the connection, after what is in `out`.
    fn pass(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<Passed, Reason> {
        // Copies begin where something is held back; what came before is copied then.
        let mut copies = match self.at {
            At::Preface(_) | At::Payload(..) | At::Head(0, _) => false,
            At::Head(..) | At::Whole(..) => true,
        };
        let copy_to = |end: usize, copies: &mut bool, out: &mut BytesMut| {
            if !std::mem::replace(copies, true) {
                out.extend_from_slice(bytes.get(..end).unwrap_or_default());
            }
        };
        let mut position = 0;
        while let Some(rest @ [_, ..]) = bytes.get(position..) {
            match &mut self.at {
                At::Preface(left) | At::Payload(left, _) => {
                    let count = rest.len().min(*left);
                    *left -= count;
                    let (passed, over) = (rest.get(..count).unwrap_or_default(), *left == 0);
                    if let At::Payload(_, true) = self.at {
                        self.blocks.keep(passed);
                    }
                    if copies {
                        out.extend_from_slice(passed);
                    }
                    if over {
                        self.at = At::Head(0, [0; HEAD]);
                    }
                    position += count;
                }
                At::Head(have, head) => {
                    let count = rest.len().min(HEAD - *have);
                    for (to, from) in head.iter_mut().skip(*have).zip(rest) {
                        *to = *from;
                    }
                    *have += count;
                    let begin = position;
                    position += count;
                    if *have < HEAD {
                        copy_to(begin, &mut copies, out);
                        break;
                    }
                    let (bytes_of_head, head) = (*head, Head::parse(*head));
                    match self.check(head) {
                        Ok(true) => {
                            copy_to(begin, &mut copies, out);
                            self.at = At::Whole(head, BytesMut::with_capacity(head.length));
                            if head.length == 0 {
                                self.finish(out)?;
                            }
                        }
                        Ok(false) => {
                            if copies {
                                out.extend_from_slice(&bytes_of_head);
                            }
                            let block = matches!(head.kind, HEADERS | CONTINUATION);
                            if block {
                                self.blocks.keep(&bytes_of_head);
                            }
                            self.at = match head.length {
                                0 => At::Head(0, [0; HEAD]),
                                length => At::Payload(length, block),
                            };
                        }
                        Err(reason) => {
                            copy_to(begin, &mut copies, out);
                            return Err(reason);
                        }
                    }
                }
                At::Whole(head, payload) => {
                    let count = rest.len().min(head.length - payload.len());
                    payload.extend_from_slice(rest.get(..count).unwrap_or_default());
                    position += count;
                    if payload.len() == head.length {
                        self.finish(out)?;
                    }
                }
            }
        }
        Ok(if copies { Passed::Others } else { Passed::AsTheyAre })
    }

    /// The codec asks for more.
    fn forget(&mut self) {
        let in_frame = match &self.at {
            At::Payload(_, block) => *block,
            At::Whole(head, _) => head.kind == HEADERS,
            At::Preface(_) | At::Head(..) => false,
        };
        self.blocks.forget(self.in_block || in_frame);
    }

    /// Whether a frame is to be looked at as a whole.
    fn check(&mut self, head: Head) -> Result<bool, Reason> {
        match head.kind {
            HEADERS if !self.in_block => self.blocks.begin(),
            CONTINUATION if self.in_block => {}
            _ => self.blocks.others = true,
        }
        if self.in_block && head.kind != CONTINUATION {
            // The codec ends it.
            return Ok(false);
        }
        let fits = match head.kind {
            PRIORITY => head.length == 5,
            RST_STREAM | WINDOW_UPDATE => head.length == 4,
            PING => head.length == 8,
            GOAWAY => head.length >= 8,
            SETTINGS if head.has(ACK) => head.length == 0,
            SETTINGS => head.length.is_multiple_of(6),
            _ => true,
        };
        if !fits || head.length > MAX_FRAME {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !self.begun.get() && (head.kind != SETTINGS || head.has(ACK)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            SETTINGS => return Ok(!head.has(ACK)),
            HEADERS => {
                self.in_block = !head.has(END_HEADERS);
                // Whether such a stream may have another block only its state tells.
                self.blocks.others |= head.stream <= self.last;
                let trailers = head.stream <= self.last && head.stream % 2 == 1;
                self.last = self.last.max(head.stream);
                return Ok(trailers);
            }
            CONTINUATION => self.in_block = !head.has(END_HEADERS),
            _ => {}
        }
        Ok(false)
    }

    /// A whole frame is here.
    fn finish(&mut self, out: &mut BytesMut) -> Result<(), Reason> {
        let At::Whole(head, payload) = std::mem::replace(&mut self.at, At::Head(0, [0; HEAD]))
        else {
            return Ok(());
        };
        if head.kind == HEADERS {
            let mut bytes = BytesMut::with_capacity(HEAD);
            head.write(&mut bytes);
            self.blocks.keep(&bytes);
            self.blocks.keep(&payload);
        }
        if head.kind == SETTINGS {
            self.begun.set(true);
            for setting in payload.chunks_exact(6) {
                let mut setting = setting;
                if setting.get_u16() == INITIAL_WINDOW && setting.get_u32() > MAX_WINDOW {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
            }
        } else if let Some((front, rest)) = split_block(head, &payload) {
            let first = Head { length: front.len() + 1, flags: head.flags & END_STREAM, ..head };
            first.write(out);
            out.extend_from_slice(front);
            out.put_u8(MARK);
            let flags = head.flags & END_HEADERS;
            Head { length: rest.len(), kind: CONTINUATION, flags, ..head }.write(out);
            out.extend_from_slice(rest);
            return Ok(());
        }
        head.write(out);
        out.extend_from_slice(&payload);
        Ok(())
    }
}

/// A HEADERS frame's part of a header block in two: changes of the table's size, which have to be
/// in front (RFC 7541 §4.2), and the rest. `None` for what is no such thing.
fn split_block(head: Head, payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let payload = fragment(head, payload)?;
    let mut front = 0;
    while let Some(first) = payload.get(front)
        && first & 0xe0 == 0x20
    {
        front += 1;
        if first & 0x1f == 0x1f {
            while payload.get(front)? & 0x80 != 0 {
                front += 1;
            }
            front += 1;
        }
    }
    payload.split_at_checked(front)
}

/// A stream whose frames are looked at before they are read.
pub(super) struct Screened<S> {
    io: Gathered<S>,
    screen: Screen,
    /// What is read instead of what came.
    instead: BytesMut,
    failed: Option<Reason>,
}

impl<S: Io> Screened<S> {
    pub(super) fn new(io: Gathered<S>) -> Self {
        Self { io, screen: Screen::new(), instead: BytesMut::new(), failed: None }
    }

    /// Tells whether the client's first frame is here.
    pub(super) fn begun(&self) -> Rc<Cell<bool>> {
        self.screen.begun.clone()
    }

    /// Where the codec's last word is that the protocol was broken by what was a header block that
    /// cannot be decoded, that is what it says instead (RFC 9113 §4.3).
    fn amend_goaway(&self) {
        self.io.amend(|written| {
            let Some((_, last)) = written.split_last_chunk_mut::<{ HEAD + 8 }>() else { return };
            let Some((&head, payload)) = last.split_first_chunk() else { return };
            let head = Head::parse(head);
            let Some((_, code)) = payload.split_last_chunk() else { return };
            if (head.kind, head.length, head.stream) == (GOAWAY, 8, 0)
                && u32::from_be_bytes(*code) == u32::from(Reason::PROTOCOL_ERROR)
                && self.screen.blocks.are_undecodable()
                && let Some(code) = last.last_chunk_mut()
            {
                *code = u32::from(Reason::COMPRESSION_ERROR).to_be_bytes();
            }
        });
    }

    /// Ends the connection, which the codec sees as one that broke.
    fn fail(&mut self, cx: &mut Context<'_>, reason: Reason) -> io::Error {
        let mut goaway = BytesMut::with_capacity(HEAD + 8);
        Head { length: 8, kind: GOAWAY, flags: 0, stream: 0 }.write(&mut goaway);
        goaway.put_u32(self.screen.last);
        goaway.put_u32(reason.into());
        // Where there is no room for it, the client reads nothing anyway.
        let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
        io::Error::new(io::ErrorKind::InvalidData, reason.description())
    }
}

impl<S: Io> AsyncRead for Screened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.instead.is_empty() {
                let count = this.instead.len().min(out.remaining());
                out.put_slice(this.instead.get(..count).unwrap_or_default());
                this.instead.advance(count);
                if this.instead.is_empty() {
                    this.instead = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = this.failed.take() {
                return Poll::Ready(Err(this.fail(cx, reason)));
            }
            this.screen.forget();
            let before = out.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
            let came = out.filled().get(before..).unwrap_or_default();
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match this.screen.pass(came, &mut this.instead) {
                Ok(Passed::AsTheyAre) => return Poll::Ready(Ok(())),
                Ok(Passed::Others) => {}
                Err(reason) => this.failed = Some(reason),
            }
            out.set_filled(before);
        }
    }
}

impl<S: Io> AsyncWrite for Screened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.amend_goaway();
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
