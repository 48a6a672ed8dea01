//! The fields of a request: kept as they were written until somebody asks for a map of them. A
//! request that is only passed on never needs one.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;

use super::fields::{Facts, Run, stands};
use super::lines::Line;
use super::names::{self, Field, FieldKind, Names, Place};

/// Lists of lines that a thread keeps.
const KEPT: usize = 128;
/// Lines that a kept list may have room for.
const LARGEST: usize = 64;

thread_local! {
    static LISTS: RefCell<Vec<Vec<FieldLine>>> = const { RefCell::new(Vec::new()) };
}

/// Header fields, used as the [`HeaderMap`] they deref to, which is made when it is first asked
/// for. Changing the map forgets how the fields were written.
#[derive(Default)]
pub struct Headers {
    /// As they were written; nothing else counts while they are here.
    written: Option<Written>,
    /// The map made of them, or an empty one.
    lazy: OnceCell<Box<HeaderMap>>,
    /// A map of its own.
    map: Option<Box<HeaderMap>>,
}

impl Headers {
    pub(super) fn of(section: Rc<Section>) -> Self {
        Self { written: Some(Written(section)), lazy: OnceCell::new(), map: None }
    }

    /// The fields as they were written, where nobody changed them.
    pub fn written(&self) -> Option<&Written> {
        self.written.as_ref()
    }

    /// Whether a field line of this kind may be there; `None` where only the map tells.
    pub fn may_have(&self, kind: FieldKind) -> Option<bool> {
        self.written.as_ref().map(|written| written.has(kind))
    }

    /// Gives the memory back for the thread's next message.
    pub fn recycle(self) {
        let Self { lazy, map, .. } = self;
        for map in [lazy.into_inner(), map].into_iter().flatten() {
            crate::recycle(*map);
        }
    }

    /// The fields as a map of its own.
    pub fn into_map(mut self) -> HeaderMap {
        std::mem::take(&mut *self)
    }
}

impl Deref for Headers {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        match (&self.written, &self.map) {
            (None, Some(map)) => map,
            (Some(written), _) => self.lazy.get_or_init(|| Box::new(written.0.to_map())),
            (None, None) => self.lazy.get_or_init(Box::default),
        }
    }
}

impl DerefMut for Headers {
    fn deref_mut(&mut self) -> &mut HeaderMap {
        if let Some(written) = self.written.take() {
            self.map = Some(self.lazy.take().unwrap_or_else(|| Box::new(written.0.to_map())));
        }
        self.map.get_or_insert_default()
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        Self { written: None, lazy: OnceCell::new(), map: Some(Box::new(map)) }
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        match &self.written {
            Some(written) => Self::of(written.0.clone()),
            None => Self { written: None, lazy: OnceCell::new(), map: self.map.clone() },
        }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Where a field line is in its head. All of it was checked.
#[derive(Debug, Clone, Copy)]
struct FieldLine {
    start: u32,
    colon: u32,
    value: u32,
    end: u32,
    kind: FieldKind,
    place: Place,
    /// From `start` to the line end after `end`, it is as it is written for the next hop.
    stands: bool,
}

/// The field lines of one head, all of them checked.
pub(super) struct Section {
    head: Bytes,
    /// Where the first line begins.
    from: usize,
    /// How many lines there are.
    count: usize,
    /// Without `Host`.
    lines: Vec<FieldLine>,
    /// A bit for each kind that is there.
    kinds: u32,
    /// Until when the places of names are right, which are this thread's.
    changes: u64,
    /// What they say about framing and connection.
    pub(super) facts: Facts,
    /// It is kept for requests to come.
    kept: Cell<bool>,
    /// As it is written for the next hop, where it is kept.
    for_next_hop: OnceCell<Box<[u8]>>,
}

impl Section {
    /// No lines yet; they will be those of `head`.
    pub(super) fn new(head: Bytes, lines: &[Line]) -> Self {
        Self {
            from: lines.first().map_or(head.len(), |line| line.range().start),
            count: lines.len(),
            lines: LISTS.with_borrow_mut(Vec::pop).unwrap_or_default(),
            head,
            kinds: 0,
            changes: u64::MAX,
            facts: Facts::new(),
            kept: Cell::new(false),
            for_next_hop: OnceCell::new(),
        }
    }

    /// Adds a line that was checked. `false` where the head is too long for the list.
    #[inline]
    pub(super) fn push(
        &mut self,
        line: Line,
        value: Range<usize>,
        field: &Field,
        place: Place,
    ) -> bool {
        let at = |at: usize| u32::try_from(at).ok();
        let (Some(start), Some(colon), Some(from), Some(end)) =
            (at(line.range().start), line.colon().and_then(at), at(value.start), at(value.end))
        else {
            return false;
        };
        let (kind, stands) = (field.kind, stands(&self.head, line, &value, field).is_some());
        self.kinds |= kind.bit();
        self.lines.push(FieldLine { start, colon, value: from, end, kind, place, stands });
        true
    }

    /// All lines are there, with the names as they are known now; not to be called where one was
    /// learnt since the first line.
    pub(super) fn seal(&mut self, names: &Names) {
        self.changes = names.changes();
    }

    /// The head they were read from.
    pub(super) fn head(&self) -> &Bytes {
        &self.head
    }

    /// The lines, with the empty one that ends the head.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.head[self.from..]
    }

    /// How many lines there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// It is kept for requests to come, so what follows from it is worth keeping, too.
    pub(super) fn keep(&self) {
        self.kept.set(true);
    }

    fn write_for_next_hop(&self, out: &mut Vec<u8>) {
        if !self.kept.get() {
            return self.write_anew(out);
        }
        let lines = self.for_next_hop.get_or_init(|| {
            let mut lines = Vec::new();
            self.write_anew(&mut lines);
            lines.into()
        });
        out.extend_from_slice(lines);
    }

    fn write_anew(&self, out: &mut Vec<u8>) {
        out.reserve(self.head.len() + 256);
        let mut run = Run::default();
        names::with(|names| {
            for line in self.lines.iter().filter(|line| line.kind.is_passed_on()) {
                if line.stands {
                    run.add(&self.head, line.whole(), out);
                    continue;
                }
                run.write(&self.head, out);
                if let Some(field) = self.field(*line, names) {
                    field.write(&self.head[line.value()], out);
                }
            }
        });
        run.write(&self.head, out);
    }

    /// The name of a line; there always is one, since it was looked up before.
    fn field<'a>(&self, line: FieldLine, names: &'a mut Names) -> Option<&'a Field> {
        if names.at(line.place, self.changes).is_some() {
            return names.at(line.place, self.changes);
        }
        Some(names.look_up(&self.head[line.name()]).ok()?.1)
    }

    fn to_map(&self) -> HeaderMap {
        let mut map = crate::recycle::take(self.lines.len());
        names::with(|names| {
            for line in &self.lines {
                let value = HeaderValue::from_maybe_shared(self.head.slice(line.value()));
                if let (Some(field), Ok(value)) = (self.field(*line, names), value) {
                    // Heads have fewer lines than a map has room for.
                    let _ = map.try_append(field.name.clone(), value);
                }
            }
        });
        map
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        if lines.capacity() == 0 || lines.capacity() > LARGEST {
            return;
        }
        lines.clear();
        // Kept ones are dropped with their thread, when there may be no list any more.
        let _ = LISTS.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < KEPT {
                lists.push(lines);
            }
        });
    }
}

/// Field lines as they were written, all of them checked, without `Host`.
#[derive(Clone)]
pub struct Written(Rc<Section>);

impl Written {
    /// Whether a field of this kind is there.
    pub fn has(&self, kind: FieldKind) -> bool {
        self.0.kinds & kind.bit() != 0
    }

    /// The values of this kind, in their order.
    pub fn values(&self, kind: FieldKind) -> impl Iterator<Item = &[u8]> {
        let lines = self.0.lines.iter().filter(move |line| line.kind == kind);
        lines.map(|line| &self.0.head[line.value()])
    }

    /// Writes the field lines anew, names in their usual case, for the next hop: without what
    /// belongs to one connection, without what declares the framing, and without
    /// [`FieldKind::Forwarded`].
    pub fn write_for_next_hop(&self, out: &mut Vec<u8>) {
        self.0.write_for_next_hop(out);
    }
}

impl FieldLine {
    fn name(&self) -> Range<usize> {
        self.start as usize..self.colon as usize
    }

    /// With its line end, where it stands as it is written.
    fn whole(&self) -> Range<usize> {
        self.start as usize..self.end as usize + 2
    }

    fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::{Limits, Parsed, parse_request};

    fn headers(fields: &str) -> Headers {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        match parse_request(text.as_bytes(), &Limits::default()) {
            Ok(Parsed::Complete(head, _)) => head.headers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reading_keeps_what_was_written_and_changing_forgets_it() {
        let mut headers = headers("X-A: 1\r\nx-b:2\r\nX-A:  3 \r\n");
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert!(headers.written().is_some());
        let copy = headers.clone();
        headers.insert("x-b", HeaderValue::from_static("4"));
        assert!(headers.written().is_none());
        assert_eq!((&headers["x-b"], &copy["x-b"]), (&"4".parse().unwrap(), &"2".parse().unwrap()));
        assert_eq!(copy.into_map().len(), 3);
        assert_eq!(headers.into_map().len(), 3);
    }

    #[test]
    fn lines_for_the_next_hop() {
        let some = headers(
            "accept: */*\r\nConnection: keep-alive, x-own\r\nTE: trailers\r\nX-Forwarded-For: 1\r\n\
             Keep-Alive: 5\r\nx-own: 1\r\nContent-Length: 0\r\nproxy-authorization: a\r\n",
        );
        let written = some.written().unwrap();
        let mut out = Vec::new();
        written.write_for_next_hop(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "Accept: */*\r\nX-Own: 1\r\n");
        // Lines that stand as they are written, beside those that do not.
        let fields = "A: 1\r\nB: 2\r\nc: 3\r\nD:4\r\nE:  5\r\nF:\t6\r\nG: 7 \r\nH:\r\nI: \r\nJ: 8\r\nTE: a\r\nK: 9\r\n";
        let mut out = Vec::new();
        headers(fields).written().unwrap().write_for_next_hop(&mut out);
        let all = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\nG: 7\r\nH: \r\nI: \r\nJ: 8\r\nK: 9\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), all);
        assert!(written.has(FieldKind::Te) && written.has(FieldKind::Forwarded));
        assert!(!written.has(FieldKind::Upgrade));
        let options: Vec<_> = written.values(FieldKind::Connection).collect();
        assert_eq!(options, [b"keep-alive, x-own"]);
    }

    #[test]
    fn names_that_are_learnt_in_one_head_stay_apart() {
        // A thread of its own knows no names yet; so many share places.
        let check = || {
            let fields: String = (0..90).map(|n| format!("X-{n}: {n}\r\n")).collect();
            let headers = headers(&fields);
            let mut out = Vec::new();
            headers.written().unwrap().write_for_next_hop(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), fields);
            for n in 0..90 {
                let values: Vec<_> = headers.get_all(format!("x-{n}")).iter().collect();
                assert_eq!(values, [&n.to_string()], "x-{n}");
            }
        };
        std::thread::spawn(check).join().unwrap();
        let pair = || {
            let headers = headers("X-B: 1\r\nContent-Length: 0\r\n");
            assert_eq!((&headers["x-b"], headers.len()), (&"1".parse().unwrap(), 2));
        };
        std::thread::spawn(pair).join().unwrap();
    }

    #[test]
    fn a_map_given_back_is_not_mixed_up() {
        let first = headers("X-A: 1\r\n");
        assert_eq!(first.len(), 1);
        first.recycle();
        let second = headers("X-B: 1\r\nContent-Length: 0\r\n");
        assert!(second.get("x-a").is_none() && second.get(header::CONTENT_LENGTH).is_some());
    }
}
