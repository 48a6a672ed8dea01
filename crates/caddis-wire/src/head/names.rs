//! Field names of a thread, remembered as they are written on the wire: most messages carry the
//! same few, and a look-up costs less than checking and lowercasing them again.

use std::cell::RefCell;

use http::HeaderName;
use http::header;

use super::{TOKEN, is_token};
use crate::HeadError;
use crate::encode::write_name;

/// Longest name that is remembered.
const LONGEST: usize = 32;
/// Places; a name may stand in two of them.
const PLACES: usize = 256;

/// What a field means for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Trailer,
    ContentType,
    Date,
    /// Of one connection, and without a meaning here.
    Hop,
    Other,
}

/// One known name.
struct Known {
    len: usize,
    written: [u8; LONGEST],
    field: Field,
}

/// A name and what follows from it.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: HeaderName,
    pub(super) kind: Kind,
    /// There is an underscore or a dot in it, which some programs read as a hyphen.
    pub(super) odd: bool,
    /// How a line with this name begins on the way out: canonical name, colon, space.
    pub(super) begin: Box<[u8]>,
}

impl Field {
    fn of(written: &[u8]) -> Result<Self, HeadError> {
        let name = HeaderName::from_bytes(written).map_err(|_| HeadError::HeaderName)?;
        let kind = match name {
            header::HOST => Kind::Host,
            header::CONTENT_LENGTH => Kind::ContentLength,
            header::TRANSFER_ENCODING => Kind::TransferEncoding,
            header::CONNECTION => Kind::Connection,
            header::UPGRADE => Kind::Upgrade,
            header::EXPECT => Kind::Expect,
            header::TRAILER => Kind::Trailer,
            header::CONTENT_TYPE => Kind::ContentType,
            header::DATE => Kind::Date,
            _ if is_hop_by_hop(&name) => Kind::Hop,
            _ => Kind::Other,
        };
        let odd = written.iter().any(|b| matches!(b, b'_' | b'.'));
        let mut begin = Vec::with_capacity(written.len() + 2);
        write_name(&mut begin, &name);
        Ok(Self { name, kind, odd, begin: begin.into() })
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
}

thread_local! {
    static NAMES: RefCell<Names> = const { RefCell::new(Names { known: Vec::new(), long: None }) };
}

/// Lends this thread's names.
pub(super) fn with<T>(work: impl FnOnce(&mut Names) -> T) -> T {
    NAMES.with_borrow_mut(work)
}

impl Names {
    /// The name at the beginning of a field line, and where its colon is.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(&Field, usize), HeadError> {
        let length = line.iter().position(|&b| !TOKEN[usize::from(b)]);
        match length {
            Some(colon) if colon > 0 && line[colon] == b':' => {
                Ok((self.look_up(&line[..colon])?, colon))
            }
            _ => Err(refusal(line)),
        }
    }

    fn look_up(&mut self, written: &[u8]) -> Result<&Field, HeadError> {
        if written.len() > LONGEST {
            return Ok(self.long.insert(Field::of(written)?));
        }
        let place = place(written);
        if !self.is_at(place, written) {
            if self.is_at(place ^ 1, written) {
                self.known.swap(place, place ^ 1);
            } else {
                self.learn(place, written)?;
            }
        }
        let known = self.known.get(place).and_then(Option::as_ref);
        known.map(|known| &known.field).ok_or(HeadError::HeaderName)
    }

    fn is_at(&self, place: usize, written: &[u8]) -> bool {
        matches!(self.known.get(place), Some(Some(known)) if known.written[..known.len] == *written)
    }

    #[cold]
    fn learn(&mut self, place: usize, written: &[u8]) -> Result<(), HeadError> {
        if self.known.is_empty() {
            self.known.resize_with(PLACES, || None);
        }
        let mut copy = [0; LONGEST];
        copy[..written.len()].copy_from_slice(written);
        let known = Known { len: written.len(), written: copy, field: Field::of(written)? };
        // The older one of the pair makes room.
        self.known[place ^ 1] = self.known[place].take();
        self.known[place] = Some(Box::new(known));
        Ok(())
    }
}

/// Three letters and the length tell names apart well enough.
fn place(name: &[u8]) -> usize {
    let at = |at: usize| usize::from(name.get(at).copied().unwrap_or(0));
    let (first, middle, last) = (at(0), at(name.len() / 2), at(name.len().saturating_sub(1)));
    (first.wrapping_mul(7) ^ middle.wrapping_mul(29) ^ last.wrapping_mul(113) ^ (name.len() * 61))
        % PLACES
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
        names.field(line.as_bytes()).map(|(field, at)| (field.name.as_str().to_owned(), at))
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
            let field = names.field(line.as_bytes()).unwrap().0;
            (field.kind, field.odd)
        };
        assert_eq!(kind("HOST:"), (Kind::Host, false));
        assert_eq!(kind("content-Length:"), (Kind::ContentLength, false));
        assert_eq!(kind("content_length:"), (Kind::Other, true));
        assert_eq!(kind("a.b:"), (Kind::Other, true));
    }
}
