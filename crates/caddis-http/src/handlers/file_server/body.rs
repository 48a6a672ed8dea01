//! Files as response bodies: what the kernel has in memory is read or moved at once, the rest is
//! read piece by piece where blocking is allowed, one piece ahead of what is sent.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use caddis_core::{BodyError, StreamBody};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use caddis_core::disk as memory;

use super::conditional::Span;

/// Bytes read at once.
const PIECE: u64 = 128 * 1024;

/// A segment of a body.
pub(super) enum Segment {
    Text(Bytes),
    File(Span),
}

/// A body of texts and parts of one file.
pub(super) struct FileBody {
    segments: VecDeque<Segment>,
    /// Bytes that are still to be given.
    remaining: u64,
    state: State,
}

enum State {
    Idle(File),
    Reading(JoinHandle<(File, io::Result<Bytes>)>),
    /// What is moved was not in memory.
    Moving(JoinHandle<(File, io::Result<usize>)>),
    /// Nothing more is read.
    Done,
}

impl FileBody {
    pub(super) fn new(file: File, segments: impl IntoIterator<Item = Segment>) -> Self {
        let segments: VecDeque<_> = segments.into_iter().collect();
        let remaining = segments
            .iter()
            .map(|segment| match segment {
                Segment::Text(text) => text.len() as u64,
                Segment::File(span) => span.length,
            })
            .fold(0, u64::saturating_add);
        Self { segments, remaining, state: State::Idle(file) }
    }

    /// Gives the next part of the file, if that is next and in memory.
    fn read_now(&mut self) -> Option<Bytes> {
        self.skip_empty();
        let (State::Idle(file), Some(Segment::File(span))) =
            (&self.state, self.segments.front_mut())
        else {
            return None;
        };
        let length = usize::try_from(span.length.min(PIECE)).ok()?;
        let bytes = memory::read(file, span.start, length).ok()?;
        span.start += bytes.len() as u64;
        span.length -= bytes.len() as u64;
        self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        Some(bytes.into())
    }

    fn skip_empty(&mut self) {
        while let Some(Segment::File(Span { length: 0, .. })) = self.segments.front() {
            self.segments.pop_front();
        }
    }

    /// Takes note of bytes that were moved.
    #[cfg(target_os = "linux")]
    fn moved(&mut self, moved: io::Result<usize>) -> Result<usize, BodyError> {
        let error = match (moved, self.segments.front_mut()) {
            // The file has become shorter than what was announced.
            (Ok(0), _) => io::ErrorKind::UnexpectedEof.into(),
            (Ok(count), Some(Segment::File(span))) => {
                let moved = (count as u64).min(span.length);
                span.start += moved;
                span.length -= moved;
                self.remaining = self.remaining.saturating_sub(moved);
                return Ok(count);
            }
            (Ok(_), _) => io::ErrorKind::Unsupported.into(),
            (Err(error), _) => error,
        };
        self.state = State::Done;
        Err(error.into())
    }

    /// Starts to read the next part of the file, if that is next.
    fn read_ahead(&mut self) {
        self.skip_empty();
        let Some(Segment::File(span)) = self.segments.front_mut() else { return };
        let (start, length) = (span.start, span.length.min(PIECE));
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(file) => {
                span.start += length;
                span.length -= length;
                State::Reading(tokio::task::spawn_blocking(move || read(file, start, length)))
            }
            other => other,
        };
    }
}

fn read(mut file: File, start: u64, length: u64) -> (File, io::Result<Bytes>) {
    let mut buffer = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let result = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| (&mut file).take(length).read_to_end(&mut buffer));
    let result = match result {
        // The file has become shorter than what was announced.
        Ok(read) if (read as u64) < length => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(buffer.into()),
        Err(error) => Err(error),
    };
    (file, result)
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Reading(task) => {
                    let Ok((file, result)) = ready!(Pin::new(task).poll(cx)) else {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(BodyError::Canceled)));
                    };
                    match result {
                        Ok(bytes) => {
                            this.state = State::Idle(file);
                            // What follows what was not in memory is not there either.
                            this.read_ahead();
                            this.remaining = this.remaining.saturating_sub(bytes.len() as u64);
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                        Err(error) => {
                            this.state = State::Done;
                            return Poll::Ready(Some(Err(error.into())));
                        }
                    }
                }
                State::Moving(_) => {
                    // Only whoever gave up moving asks for frames now.
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(BodyError::Canceled)));
                }
                State::Done => return Poll::Ready(None),
                State::Idle(_) => match this.segments.front() {
                    None => {
                        this.state = State::Done;
                        return Poll::Ready(None);
                    }
                    Some(Segment::File(_)) => match this.read_now() {
                        Some(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                        None => this.read_ahead(),
                    },
                    Some(Segment::Text(_)) => {
                        let Some(Segment::Text(text)) = this.segments.pop_front() else { continue };
                        this.remaining = this.remaining.saturating_sub(text.len() as u64);
                        return Poll::Ready(Some(Ok(Frame::data(text))));
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl StreamBody for FileBody {
    fn spliceable(&self) -> u64 {
        match (&self.state, self.segments.front()) {
            (State::Idle(_) | State::Moving(_), Some(Segment::File(span))) => span.length,
            _ => 0,
        }
    }

    #[cfg(target_os = "linux")]
    fn poll_splice(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let this = &mut *self;
        loop {
            if let State::Moving(task) = &mut this.state {
                let Ok((file, moved)) = ready!(Pin::new(task).poll(cx)) else {
                    this.state = State::Done;
                    return Poll::Ready(Err(BodyError::Canceled));
                };
                this.state = State::Idle(file);
                return Poll::Ready(this.moved(moved));
            }
            let (State::Idle(file), Some(Segment::File(span))) =
                (&this.state, this.segments.front())
            else {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::Unsupported).into()));
            };
            let (start, count) =
                (span.start, usize::try_from(span.length).map_or(most, |length| length.min(most)));
            if memory::has(file, start, count) {
                let moved = memory::splice_into(pipe, file, start, count);
                return Poll::Ready(this.moved(moved));
            }
            let pipe = match pipe.try_clone_to_owned() {
                Ok(pipe) => pipe,
                Err(error) => return Poll::Ready(this.moved(Err(error))),
            };
            if let State::Idle(file) = std::mem::replace(&mut this.state, State::Done) {
                this.state = State::Moving(tokio::task::spawn_blocking(move || {
                    let moved = memory::splice_into(pipe.as_fd(), &file, start, count);
                    (file, moved)
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Body;

    use super::{super::test_dir::TestDir, *};

    #[tokio::test]
    async fn texts_and_parts() {
        let content = "0123456789".repeat(40_000);
        let dir = TestDir::new(&[("f", &content)]);
        let open = || File::open(format!("{}/f", dir.path())).expect("opens");
        let part = |start, length| Segment::File(Span { start, length });
        let body = Body::stream(FileBody::new(open(), [part(0, 400_000)]));
        assert_eq!(body.exact_len(), Some(400_000));
        assert_eq!(body.collect(1 << 20).await.expect("reads"), content.as_bytes());
        let text = || Segment::Text(Bytes::from_static(b"|"));
        let segments = [text(), part(2, 3), part(0, 0), text(), part(399_999, 1), text()];
        let body = Body::stream(FileBody::new(open(), segments));
        assert_eq!(body.exact_len(), Some(7));
        assert_eq!(&body.collect(100).await.expect("reads")[..], b"|234|9|");
        let body = Body::stream(FileBody::new(open(), [part(399_999, 2)]));
        assert!(matches!(body.collect(100).await, Err(BodyError::Incomplete)));
    }
}
