//! Heads that were read before: most clients send the same field lines with each of their requests,
//! and an upstream that is asked for the same thing answers alike. Comparing a head costs a fraction
//! of reading it, and equal bytes mean the same.

use std::cell::RefCell;
use std::rc::Rc;

use http::Method;
use memchr::memchr;

use super::fields::PassedFields;
use super::headers::Section;
use super::response::{parse_passed_response, parse_response};
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

/// The last response head of a connection. Limits are those of the connection, the same for all its
/// heads.
#[derive(Debug, Default)]
pub struct LastHead {
    bytes: Vec<u8>,
    parsed: Option<(ResponseHead, Option<PassedFields>)>,
    /// Heads in a row that were new.
    new: u8,
}

impl LastHead {
    /// Reads a response head from the beginning of `buf`, as [`parse_response`] does. Nothing is
    /// read where the last one comes again.
    ///
    /// Where its fields `may_pass` as they are, the head may have none: then they come written. That
    /// is so for usual answers; unusual fields, and answers that have no body by their nature, have
    /// to be looked at.
    pub fn parse(
        &mut self,
        buf: &[u8],
        request_method: &Method,
        limits: &Limits,
        may_pass: bool,
    ) -> Result<Parsed<(ResponseHead, Option<PassedFields>)>, HeadError> {
        // Their answers have no body, whatever they declare.
        let plain = request_method != Method::HEAD && request_method != Method::CONNECT;
        if plain
            && let Some(parsed) = &self.parsed
            && (may_pass || parsed.1.is_none())
            && buf.starts_with(&self.bytes)
        {
            // Its end is the first empty line, here as there.
            self.new = 0;
            return Ok(Parsed::Complete(parsed.clone(), self.bytes.len()));
        }
        let parsed = read_response(buf, request_method, limits, may_pass && plain)?;
        if plain && let Parsed::Complete(parsed, used) = &parsed {
            self.note(&buf[..*used], parsed);
        }
        Ok(parsed)
    }

    fn note(&mut self, bytes: &[u8], parsed: &(ResponseHead, Option<PassedFields>)) {
        self.new = self.new.wrapping_add(1);
        if bytes.len() > LONGEST || self.new > NEW_ONES && !self.new.is_multiple_of(NEW_ONES) {
            return;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.parsed = Some(parsed.clone());
    }
}

fn read_response(
    buf: &[u8],
    method: &Method,
    limits: &Limits,
    may_pass: bool,
) -> Result<Parsed<(ResponseHead, Option<PassedFields>)>, HeadError> {
    if may_pass && let Some(parsed) = parse_passed_response(buf, limits)? {
        return Ok(match parsed {
            Parsed::Complete((head, passed), used) => Parsed::Complete((head, Some(passed)), used),
            Parsed::Partial => Parsed::Partial,
        });
    }
    Ok(match parse_response(buf, method, limits)? {
        Parsed::Complete(head, used) => Parsed::Complete((head, None), used),
        Parsed::Partial => Parsed::Partial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RequestHead, parse_request};

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
        let mut last = LastHead::default();
        let values = "1 1 2 1 22 1 3 4 5 6 7 8 9 9 9 9 10 11 12 13 14 15 16 17 18 19 20 20 20";
        for (number, value) in values.split(' ').enumerate() {
            let text = text.replace('%', value);
            let limits = Limits::default();
            for (method, may_pass) in [
                (Method::GET, number % 3 != 0),
                (Method::POST, number % 4 == 0),
                (Method::HEAD, true),
                (Method::CONNECT, true),
            ] {
                let new = LastHead::default().parse(text.as_bytes(), &method, &limits, may_pass);
                let Ok(Parsed::Complete((head, passed), used)) = new else { panic!("{new:?}") };
                let again = last.parse(text.as_bytes(), &method, &limits, may_pass);
                let Ok(Parsed::Complete((last, as_it_is), end)) = again else {
                    panic!("{again:?}")
                };
                assert_eq!((last.status, last.framing, end), (head.status, head.framing, used));
                assert_eq!(last.keep_alive, head.keep_alive);
                assert!(may_pass || as_it_is.is_none());
                // Whoever may pass them on may also read them.
                let fields = |head: &ResponseHead, passed: &Option<PassedFields>| match passed {
                    Some(passed) => String::from_utf8(passed.lines.to_vec()).unwrap(),
                    None => {
                        format!("Content-Type: a\r\nX: {}\r\n", head.headers["x"].to_str().unwrap())
                    }
                };
                assert_eq!(fields(&last, &as_it_is), fields(&head, &passed));
            }
            let cut = last.parse(&text.as_bytes()[..20], &Method::GET, &limits, true);
            assert_eq!(cut, Ok(Parsed::Partial));
        }
    }
}
