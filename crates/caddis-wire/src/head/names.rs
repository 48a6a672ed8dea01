//! Field names of a thread, remembered as they are written on the wire: most messages carry the
//! same few, and a look-up costs less than checking and lowercasing them again.

use std::cell::RefCell;

use http::HeaderName;
use http::header;

use super::is_token;
use crate::HeadError;
use crate::encode::write_name;

/// Longest name that is remembered.
const LONGEST: usize = 32;
/// Places; a name may stand in two of them.
const PLACES: usize = 256;

/// What a field means for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Upgrade`
    Upgrade,
    /// `Expect`
    Expect,
    /// `Trailer`
    Trailer,
    /// `TE`
    Te,
    /// `Content-Type`
    ContentType,
    /// `Date`
    Date,
    /// Another one that belongs to one connection.
    Hop,
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`
    Forwarded,
    /// `Accept-Encoding`, `Range`: the answer's encoding is not to be touched.
    Encoding,
    /// Anything else.
    Other,
}

impl FieldKind {
    fn of(name: &HeaderName) -> Self {
        match *name {
            header::HOST => Self::Host,
            header::CONTENT_LENGTH => Self::ContentLength,
            header::TRANSFER_ENCODING => Self::TransferEncoding,
            header::CONNECTION => Self::Connection,
            header::UPGRADE => Self::Upgrade,
            header::EXPECT => Self::Expect,
            header::TRAILER => Self::Trailer,
            header::TE => Self::Te,
            header::CONTENT_TYPE => Self::ContentType,
            header::DATE => Self::Date,
            header::ACCEPT_ENCODING | header::RANGE => Self::Encoding,
            _ if is_hop_by_hop(name) => Self::Hop,
            _ => match name.as_str() {
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => Self::Forwarded,
                _ => Self::Other,
            },
        }
    }

    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether a proxy passes such a field of a request on as it is.
    pub(super) fn is_passed_on(self) -> bool {
        match self {
            Self::Host
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::Connection
            | Self::Upgrade
            | Self::Trailer
            | Self::Te
            | Self::Hop
            | Self::Forwarded => false,
            Self::Expect | Self::ContentType | Self::Date | Self::Encoding | Self::Other => true,
        }
    }
}

/// One known name.
struct Known {
    ends: Ends,
    written: [u8; LONGEST],
    field: Field,
}

/// Length, beginning and end of a name: all there is to one of up to 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    len: usize,
    first: u64,
    last: u64,
}

impl Ends {
    #[inline]
    fn of(name: &[u8]) -> Self {
        let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        Self { len: name.len(), first, last }
    }

    /// Where such a name is looked for.
    #[inline]
    fn place(self) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(29) ^ self.len as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % PLACES
    }
}

/// A name and what follows from it.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: HeaderName,
    pub(super) kind: FieldKind,
    /// There is an underscore or a dot in it, which some programs read as a hyphen.
    pub(super) odd: bool,
    /// How a line with this name begins on the way out: canonical name, colon, space.
    pub(super) begin: Box<[u8]>,
    /// The name was written in its canonical form.
    pub(super) canonical: bool,
}

impl Field {
    fn of(written: &[u8]) -> Result<Self, HeadError> {
        let name = HeaderName::from_bytes(written).map_err(|_| HeadError::HeaderName)?;
        let kind = FieldKind::of(&name);
        let odd = written.iter().any(|b| matches!(b, b'_' | b'.'));
        let mut begin = Vec::with_capacity(written.len() + 2);
        write_name(&mut begin, &name);
        let canonical = begin.strip_suffix(b": ") == Some(written);
        Ok(Self { name, kind, odd, begin: begin.into(), canonical })
    }

    /// Writes a line of this name.
    pub(super) fn write(&self, value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a field belongs to one connection and is not passed on (RFC 9110 §7.6.1); `Alt-Svc` is
/// one of them, since it speaks of the server that sent it.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "alt-svc"
            | "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The names that one thread met.
#[derive(Default)]
pub(super) struct Names {
    known: Vec<Option<Box<Known>>>,
    /// One that is too long to be remembered.
    long: Option<Field>,
    /// Counts the changes of what is known.
    changes: u64,
}

/// Where a name is remembered, until the next change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u16);

thread_local! {
    static NAMES: RefCell<Names> = const {
        RefCell::new(Names { known: Vec::new(), long: None, changes: 0 })
    };
}

/// Lends this thread's names.
pub(super) fn with<T>(work: impl FnOnce(&mut Names) -> T) -> T {
    NAMES.with_borrow_mut(work)
}

impl Names {
    /// The name at the beginning of a field line whose first colon is at `colon`, and its place.
    #[inline]
    pub(super) fn field(
        &mut self,
        line: &[u8],
        colon: Option<usize>,
    ) -> Result<(Place, &Field), HeadError> {
        // What stands before the colon was a token when it was learnt, or is found not to be one.
        match colon {
            Some(colon) if colon > 0 => self.look_up(&line[..colon]).map_err(|_| refusal(line)),
            _ => Err(refusal(line)),
        }
    }

    /// The name that was written so.
    #[inline]
    pub(super) fn look_up(&mut self, written: &[u8]) -> Result<(Place, &Field), HeadError> {
        if written.len() > LONGEST {
            return Ok((Place(u16::MAX), self.long.insert(Field::of(written)?)));
        }
        let ends = Ends::of(written);
        let mut place = ends.place();
        if !self.is_at(place, ends, written) {
            if self.is_at(place ^ 1, ends, written) {
                place ^= 1;
            } else {
                self.learn(place, ends, written)?;
            }
        }
        let known = self.known.get(place).and_then(Option::as_ref);
        let known = known.ok_or(HeadError::HeaderName)?;
        Ok((Place(place as u16), &known.field))
    }

    /// The name at a place, where nothing has changed since `changes` was asked.
    pub(super) fn at(&self, place: Place, changes: u64) -> Option<&Field> {
        if changes != self.changes {
            return None;
        }
        self.known.get(usize::from(place.0))?.as_ref().map(|known| &known.field)
    }

    /// How often something was learnt.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    #[inline]
    fn is_at(&self, place: usize, ends: Ends, written: &[u8]) -> bool {
        let Some(Some(known)) = self.known.get(place) else { return false };
        known.ends == ends && (ends.len <= 16 || known.written[..ends.len] == *written)
    }

    #[cold]
    fn learn(&mut self, place: usize, ends: Ends, written: &[u8]) -> Result<(), HeadError> {
        if self.known.is_empty() {
            self.known.resize_with(PLACES, || None);
        }
        let mut copy = [0; LONGEST];
        copy[..written.len()].copy_from_slice(written);
        let known = Known { ends, written: copy, field: Field::of(written)? };
        // The older one of the pair makes room.
        self.known[place ^ 1] = self.known[place].take();
        self.known[place] = Some(Box::new(known));
        self.changes += 1;
        Ok(())
    }
}

/// What is wrong with a line that does not begin with a name and a colon.
#[cold]
fn refusal(line: &[u8]) -> HeadError {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return HeadError::FieldLine;
    }
    match memchr::memchr(b':', line) {
        Some(colon) if !is_token(&line[..colon]) => HeadError::HeaderName,
        _ => HeadError::FieldLine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(names: &mut Names, line: &str) -> Result<(String, usize), HeadError> {
        let colon = line.find(':');
        let (_, field) = names.field(line.as_bytes(), colon)?;
        Ok((field.name.as_str().to_owned(), colon.unwrap()))
    }

    #[test]
    fn names_are_the_same_the_second_time() {
        let mut names = Names::default();
        for _ in 0..2 {
            for line in ["Host: a", "hOST: a", "X-Own: 1", "x_own: 1", "Accept:", "a:b"] {
                let (found, at) = name(&mut names, line).unwrap();
                assert_eq!(found, line[..at].to_ascii_lowercase());
            }
        }
        let long = "x".repeat(100);
        assert_eq!(name(&mut names, &format!("{long}: 1")).unwrap().0, long);
    }

    #[test]
    fn many_names_drive_each_other_out_and_stay_right() {
        let mut names = Names::default();
        for round in 0..3 {
            for number in 0..2000 {
                let line = format!("X-{number}-y: {round}");
                let (found, at) = name(&mut names, &line).unwrap();
                assert_eq!(found, line[..at].to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn lines_without_a_name_are_refused() {
        let mut names = Names::default();
        for (line, error) in [
            ("", HeadError::FieldLine),
            (" a: b", HeadError::FieldLine),
            ("ab", HeadError::FieldLine),
            ("a b", HeadError::FieldLine),
            (": b", HeadError::HeaderName),
            ("a : b", HeadError::HeaderName),
            ("a\u{e9}: b", HeadError::HeaderName),
        ] {
            assert_eq!(name(&mut names, line).unwrap_err(), error, "{line:?}");
        }
    }

    #[test]
    fn kinds() {
        let mut names = Names::default();
        let mut kind = |line: &str| {
            let field = names.field(line.as_bytes(), line.find(':')).unwrap().1;
            (field.kind, field.odd)
        };
        assert_eq!(kind("HOST:"), (FieldKind::Host, false));
        assert_eq!(kind("content-Length:"), (FieldKind::ContentLength, false));
        assert_eq!(kind("content_length:"), (FieldKind::Other, true));
        assert_eq!(kind("a.b:"), (FieldKind::Other, true));
    }
}
