//! Heads that were read before: most clients send the same field lines with each of their requests,
//! and an upstream that is asked for the same thing answers alike. Comparing a head costs a fraction
//! of reading it, and equal bytes mean the same.

use std::cell::RefCell;
use std::rc::Rc;

use http::Method;
use memchr::memchr;

use super::fields::PassedFields;
use super::headers::Section;
use super::response::parse_passed_response;
use super::{Limits, LineEnds, Parsed, ResponseHead};
use crate::HeadError;

/// Sections that a thread keeps; one stands in a place that follows from its bytes.
const PLACES: usize = 128;
/// Bytes of the longest head that is kept.
const LONGEST: usize = 2048;
/// What an empty line looks like behind a line.
const END: &[u8; 4] = b"\r\n\r\n";

/// The place of one section of field lines.
#[derive(Default)]
struct Place {
    /// The mark of the last section that had no luck here: one that comes again is kept, so that
    /// sections which never do cost no more than a number.
    seen: u64,
    mark: u64,
    section: Option<Rc<Section>>,
}

thread_local! {
    static PLACE: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// The one request head that a buffer holds, by what is told of it without reading it.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// Where the field lines begin, one past the first line feed.
    pub(super) fields: usize,
    mark: u64,
}

/// Looks at a buffer from afar: whether all of it may be one head that is worth comparing.
#[inline]
pub(super) fn sight(buf: &[u8], limits: &Limits) -> Option<Sight> {
    let body = buf.strip_suffix(END)?;
    let fields = memchr(b'\n', body)? + 1;
    let section = &body[fields..];
    let middle = section.get(section.len() / 2..)?.first_chunk::<8>()?;
    let last = section.last_chunk::<8>()?;
    let crlf = fields > 2 && buf[fields - 2] == b'\r';
    // A mixture of line ends would have to be looked for again.
    if !crlf || buf.len() > LONGEST.min(limits.max_head) || limits.line_ends == LineEnds::Any {
        return None;
    }
    let mark = u64::from_le_bytes(*middle)
        ^ u64::from_le_bytes(*last).rotate_left(29)
        ^ (section.len() as u64).rotate_left(48);
    Some(Sight { fields, mark: mark.wrapping_mul(0x9e37_79b9_7f4a_7c15) })
}

impl Sight {
    fn place(self) -> usize {
        (self.mark >> 32) as usize % PLACES
    }

    /// The section that was read before, where its bytes are those of `buf`.
    #[inline]
    pub(super) fn find(self, buf: &[u8], limits: &Limits) -> Option<Rc<Section>> {
        PLACE.with_borrow(|places| {
            let place = places.get(self.place()).filter(|place| place.mark == self.mark)?;
            let section = place.section.as_ref()?;
            let same = section.bytes() == &buf[self.fields..];
            (same && section.count() <= limits.max_headers).then(|| section.clone())
        })
    }

    /// Takes note of a section that had to be read.
    pub(super) fn note(self, section: &Rc<Section>) {
        PLACE.with_borrow_mut(|places| {
            if places.is_empty() {
                places.resize_with(PLACES, Place::default);
            }
            let Some(place) = places.get_mut(self.place()) else { return };
            if place.seen == self.mark {
                section.keep();
                (place.mark, place.section) = (self.mark, Some(section.clone()));
            }
            place.seen = self.mark;
        });
    }
}

/// How many heads in a row may be new before only some of them are kept.
const NEW_ONES: u8 = 8;

/// The last response head of a connection that was passed on as it came. Limits are those of the
/// connection, the same for all its heads.
#[derive(Debug, Default)]
pub struct LastPassed {
    bytes: Vec<u8>,
    parsed: Option<(ResponseHead, PassedFields)>,
    /// Heads in a row that were new.
    new: u8,
}

impl LastPassed {
    /// Reads a response head from the beginning of `buf`, for a response that is passed on as it
    /// is: the head has no fields, they come written. `None` where they have to be looked at after
    /// all: unusual ones, and answers that have no body by their nature. Nothing is read where the
    /// last head comes again.
    pub fn parse(
        &mut self,
        buf: &[u8],
        request_method: &Method,
        limits: &Limits,
    ) -> Result<Option<Parsed<(ResponseHead, PassedFields)>>, HeadError> {
        if request_method == Method::HEAD || request_method == Method::CONNECT {
            return Ok(None);
        }
        if let Some(parsed) = &self.parsed
            && buf.starts_with(&self.bytes)
        {
            // Its end is the first empty line, here as there.
            self.new = 0;
            return Ok(Some(Parsed::Complete(parsed.clone(), self.bytes.len())));
        }
        let parsed = parse_passed_response(buf, request_method, limits)?;
        if let Some(Parsed::Complete(parsed, used)) = &parsed {
            self.note(&buf[..*used], parsed);
        }
        Ok(parsed)
    }

    fn note(&mut self, bytes: &[u8], parsed: &(ResponseHead, PassedFields)) {
        self.new = self.new.wrapping_add(1);
        if bytes.len() > LONGEST || self.new > NEW_ONES && !self.new.is_multiple_of(NEW_ONES) {
            return;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.parsed = Some(parsed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestHead, parse_request, parse_response};

    fn read(text: &str) -> Result<Parsed<RequestHead>, HeadError> {
        let mut other = text.to_owned();
        // A head with an empty line before it is not compared with any.
        other.insert_str(0, "\r\n");
        Ok(match parse_request(other.as_bytes(), &Limits::default())? {
            Parsed::Complete(head, used) => Parsed::Complete(head, used - 2),
            Parsed::Partial => Parsed::Partial,
        })
    }

    fn is_known(text: &str) -> bool {
        let sight = sight(text.as_bytes(), &Limits::default());
        sight.is_some_and(|sight| sight.find(text.as_bytes(), &Limits::default()).is_some())
    }

    #[test]
    fn what_comes_again_is_read_as_before() {
        let fields = [
            "Host: a.example\r\nUser-Agent: x/1 (a)\r\nAccept: */*\r\n",
            "Host: a.example\r\nx-own:1\r\nX-Own:  2 \r\nContent-Length: 0\r\nConnection: close\r\n",
            "host: [::1]:80\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nx_y: 1\r\n",
            "Host: a, b\r\nUser-Agent: refused\r\n",
            "Host: a\r\nHost: b\r\nUser-Agent: refused\r\n",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "User-Agent: without a host\r\n",
        ];
        let lines = [
            "GET / HTTP/1.1",
            "GET /a?b HTTP/1.0",
            "POST http://other.example?q HTTP/1.1",
            "CONNECT other.example:443 HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/2.0",
            "GET",
        ];
        for _ in 0..3 {
            for fields in fields {
                for line in lines {
                    let text = format!("{line}\r\n{fields}\r\n");
                    let limits = Limits::default();
                    assert_eq!(parse_request(text.as_bytes(), &limits), read(&text), "{text}");
                }
            }
        }
        let known = |fields: &&&str| is_known(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(fields.iter().filter(known).count(), 4);
    }

    #[test]
    fn what_is_written_for_the_next_hop_stays_the_same() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\naccept: b\r\nX-A: 1\r\nTE: trailers\r\n\r\n";
        let mut written = Vec::new();
        for _ in 0..4 {
            let head = parse_request(text.as_bytes(), &Limits::default());
            let Ok(Parsed::Complete(head, _)) = head else { panic!("{head:?}") };
            let mut out = Vec::new();
            head.headers.written().unwrap().write_for_next_hop(&mut out);
            assert_eq!(head.headers["te"], "trailers");
            written.push(String::from_utf8(out).unwrap());
        }
        assert!(is_known(text));
        assert_eq!(written, ["Accept: b\r\nX-A: 1\r\n"; 4]);
    }

    #[test]
    fn limits_hold_for_what_is_known() {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Field: 1\r\n".repeat(20));
        for _ in 0..3 {
            assert!(parse_request(text.as_bytes(), &Limits::default()).is_ok());
        }
        let few = Limits { max_headers: 20, ..Limits::default() };
        assert_eq!(parse_request(text.as_bytes(), &few), Err(HeadError::TooManyHeaders));
        let short = Limits::with_max_head(text.len() - 1);
        assert_eq!(parse_request(text.as_bytes(), &short), Err(HeadError::TooLarge));
        assert!(is_known(&text));
    }

    #[test]
    fn line_ends_of_one_kind() {
        let fields = "Host: a\r\nUser-Agent: some\r\n\r\n";
        for _ in 0..3 {
            assert!(
                parse_request(format!("GET / HTTP/1.1\r\n{fields}").as_bytes(), &Limits::default())
                    .is_ok()
            );
        }
        let mixed = format!("GET / HTTP/1.1\n{fields}");
        assert_eq!(parse_request(mixed.as_bytes(), &Limits::default()), Err(HeadError::LineEnd));
    }

    #[test]
    fn responses_that_come_again() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Length: 1\r\nX: %\r\n\r\nz";
        let mut last = LastPassed::default();
        for value in
            ["1", "1", "2", "1", "22", "1", "3", "4", "5", "6", "7", "8", "9", "9", "9", "9"]
        {
            let text = text.replace('%', value);
            let new =
                LastPassed::default().parse(text.as_bytes(), &Method::GET, &Limits::default());
            let again = last.parse(text.as_bytes(), &Method::GET, &Limits::default());
            assert!(matches!(new, Ok(Some(Parsed::Complete(..)))));
            assert_eq!(again, new, "{text}");
            let cut = last.parse(&text.as_bytes()[..20], &Method::GET, &Limits::default());
            assert_eq!(cut, Ok(Some(Parsed::Partial)));
            assert_eq!(last.parse(text.as_bytes(), &Method::HEAD, &Limits::default()), Ok(None));
        }
        let whole = parse_response(text.as_bytes(), &Method::GET, &Limits::default());
        assert!(matches!(whole, Ok(Parsed::Complete(..))));
    }
}
