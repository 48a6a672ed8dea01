//! Running compressors.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use zstd::{stream::write::Encoder as ZstdEncoder, zstd_safe::CParameter};

/// A compressor's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip(u32),
    Zstd { level: i32, checksum: bool },
}

/// A compressor at work: bytes in, bytes out.
pub(crate) struct Coder {
    inner: Inner,
    /// Whether bytes went in that may not have come out.
    pending: bool,
}

enum Inner {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Finished,
}

/// 128 KiB: browsers need not keep more (spec D054).
const WINDOW_LOG: u32 = 17;

impl Coding {
    /// Its name in headers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// Starts a compressor.
    pub(crate) fn start(self) -> io::Result<Coder> {
        let inner = match self {
            Self::Gzip(level) => Inner::Gzip(GzEncoder::new(Vec::new(), Compression::new(level))),
            Self::Zstd { level, checksum } => {
                let mut encoder = ZstdEncoder::new(Vec::new(), level)?;
                encoder.include_checksum(checksum)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                Inner::Zstd(encoder)
            }
        };
        Ok(Coder { inner, pending: false })
    }
}

impl Coder {
    /// Takes bytes in.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending |= !bytes.is_empty();
        self.writer()?.write_all(bytes)
    }

    /// Makes everything that went in come out.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.pending = false;
        self.writer()?.flush()
    }

    /// Whether a flush would bring something.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// The end of the stream; nothing goes in afterwards.
    pub(crate) fn finish(&mut self) -> io::Result<Bytes> {
        self.pending = false;
        Ok(match std::mem::replace(&mut self.inner, Inner::Finished) {
            Inner::Gzip(encoder) => encoder.finish()?.into(),
            Inner::Zstd(encoder) => encoder.finish()?.into(),
            Inner::Finished => Bytes::new(),
        })
    }

    /// How many bytes are ready.
    pub(crate) fn ready(&self) -> usize {
        match &self.inner {
            Inner::Gzip(encoder) => encoder.get_ref().len(),
            Inner::Zstd(encoder) => encoder.get_ref().len(),
            Inner::Finished => 0,
        }
    }

    /// Takes the bytes that are ready.
    pub(crate) fn take(&mut self) -> Bytes {
        match &mut self.inner {
            Inner::Gzip(encoder) => std::mem::take(encoder.get_mut()).into(),
            Inner::Zstd(encoder) => std::mem::take(encoder.get_mut()).into(),
            Inner::Finished => Bytes::new(),
        }
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        match &mut self.inner {
            Inner::Gzip(encoder) => Ok(encoder),
            Inner::Zstd(encoder) => Ok(encoder),
            Inner::Finished => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn flushed_bytes_can_be_decoded() {
        let mut coder = Coding::Gzip(5).start().expect("starts");
        coder.write(b"first").expect("writes");
        assert!(coder.is_pending());
        coder.flush().expect("flushes");
        let part = coder.take();
        let mut text = [0; 5];
        flate2::read::GzDecoder::new(&part[..]).read_exact(&mut text).expect("decodes");
        assert_eq!(&text, b"first");
    }

    #[test]
    fn zstd_round_trip() {
        let mut coder = Coding::Zstd { level: 3, checksum: true }.start().expect("starts");
        let text = b"0123456789".repeat(50_000);
        coder.write(&text).expect("writes");
        let mut all = coder.take().to_vec();
        all.extend(coder.finish().expect("finishes"));
        assert_eq!(::zstd::decode_all(&all[..]).expect("decodes"), text);
    }
}
