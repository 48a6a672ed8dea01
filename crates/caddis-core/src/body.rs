//! Message bodies: moved, not copied.

use std::{
    error, fmt,
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body that arrives in pieces. Streams are local to one worker, so they need not be `Send`.
pub type BodyStream = Pin<Box<dyn StreamBody>>;

/// A body that comes piece by piece, some of which the kernel may move from socket to socket.
pub trait StreamBody: http_body::Body<Data = Bytes, Error = BodyError> {
    /// How many of the next bytes are not read yet and could be moved by
    /// [`poll_splice`](Self::poll_splice); 0 where they have to come by `poll_frame`.
    fn spliceable(&self) -> u64 {
        0
    }

    /// Moves up to `most` bytes of the body into an empty `pipe`; how many, never 0.
    ///
    /// # Errors
    /// As `poll_frame`; `Unsupported` where [`spliceable`](Self::spliceable) is 0.
    fn poll_splice(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let _ = (cx, pipe, most);
        Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()))
    }
}

pin_project_lite::pin_project! {
    /// A body whose bytes come by `poll_frame` alone.
    struct Frames<B> {
        #[pin]
        body: B,
    }
}

impl<B: http_body::Body<Data = Bytes, Error = BodyError>> StreamBody for Frames<B> {}

impl<B: http_body::Body<Data = Bytes, Error = BodyError>> http_body::Body for Frames<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request or response.
#[derive(Default)]
pub enum Body {
    /// No bytes at all.
    #[default]
    Empty,
    /// All bytes are here.
    Full(Bytes),
    /// The bytes come piece by piece; its `size_hint` tells the length where it is known.
    Stream(BodyStream),
}

impl Body {
    /// Wraps a stream.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Stream(Box::pin(Frames { body }))
    }

    /// How many of the next bytes [`poll_splice`](Self::poll_splice) could move; see
    /// [`StreamBody::spliceable`].
    pub fn spliceable(&self) -> u64 {
        match self {
            Self::Empty | Self::Full(_) => 0,
            Self::Stream(stream) => stream.spliceable(),
        }
    }

    /// Moves bytes into a pipe; see [`StreamBody::poll_splice`].
    ///
    /// # Errors
    /// What the stream fails with.
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        match self {
            Self::Empty | Self::Full(_) => {
                Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()))
            }
            Self::Stream(stream) => stream.as_mut().poll_splice(cx, pipe, most),
        }
    }

    /// The number of bytes, where it is known beforehand.
    pub fn exact_len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint().exact(),
        }
    }

    /// Whether it is known that no byte comes.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    /// Takes the body and leaves `Empty`.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The next data frame, or `None` at the end; trailers are skipped.
    pub async fn next_data(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            let frame =
                std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *self), cx))
                    .await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads all of it, up to `limit` bytes; more is `BodyError::TooLarge`.
    ///
    /// # Errors
    /// What the stream fails with, or `TooLarge`.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        if let Self::Full(bytes) = &mut self {
            let bytes = std::mem::take(bytes);
            return if bytes.len() > limit { Err(BodyError::TooLarge) } else { Ok(bytes) };
        }
        let mut all = bytes::BytesMut::new();
        while let Some(data) = self.next_data().await {
            let data = data?;
            if all.len() + data.len() > limit {
                return Err(BodyError::TooLarge);
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Why a body ended early.
#[derive(Debug)]
pub enum BodyError {
    /// More bytes than allowed (413 for a request).
    TooLarge,
    /// The peer closed before the announced end.
    Incomplete,
    /// The peer broke the protocol; the text says how (400 for a request).
    Malformed(String),
    /// The peer was too slow (408 for a request, 504 from an upstream).
    Timeout,
    /// The reader went away.
    Canceled,
    /// The connection failed.
    Io(std::io::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("http: request body too large"),
            Self::Incomplete => f.write_str("unexpected EOF"),
            Self::Malformed(why) => f.write_str(why),
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Canceled => f.write_str("context canceled"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl error::Error for BodyError {}

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self::Timeout,
            std::io::ErrorKind::UnexpectedEof => Self::Incomplete,
            _ => Self::Io(error),
        }
    }
}
