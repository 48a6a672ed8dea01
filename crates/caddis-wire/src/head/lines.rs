//! Where a head ends and where its lines are, before anything is copied.

use memchr::memchr;
use smallvec::SmallVec;

use super::{Limits, LineEnds};
use crate::HeadError;

/// A whole head inside a buffer.
#[derive(Debug)]
pub(crate) struct HeadSpan {
    /// One past the empty line.
    pub(crate) end: usize,
    /// The lines before the empty one, the start line included, counted from the head's beginning.
    pub(crate) lines: Lines,
}

/// Where lines are, without their ends.
pub(crate) type Lines = SmallVec<[Line; 32]>;

/// One line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    start: u32,
    end: u32,
}

impl Line {
    /// Its bytes in the head.
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What is known of the line after the last complete one.
pub(crate) struct Unfinished {
    /// Where the unfinished line begins.
    pub(crate) at: usize,
    /// Complete lines before it.
    pub(crate) lines: usize,
}

/// Looks for the empty line that ends the head beginning at `start`.
pub(crate) fn find_head(
    buf: &[u8],
    start: usize,
    limits: &Limits,
) -> Result<Result<HeadSpan, Unfinished>, HeadError> {
    let limit = start.saturating_add(limits.max_head).min(buf.len());
    let window = &buf[..limit];
    let (mut at, mut style) = (start, None);
    let mut lines = Lines::new();
    while let Some(offset) = memchr(b'\n', &window[at..]) {
        let lf = at + offset;
        let crlf = offset > 0 && window[lf - 1] == b'\r';
        match limits.line_ends {
            LineEnds::Crlf if !crlf => return Err(HeadError::LineEnd),
            LineEnds::Uniform if *style.get_or_insert(crlf) != crlf => {
                return Err(HeadError::LineEnd);
            }
            _ => {}
        }
        if offset == usize::from(crlf) {
            return Ok(Ok(HeadSpan { end: lf + 1, lines }));
        }
        if lines.len() > limits.max_headers {
            return Err(HeadError::TooManyHeaders);
        }
        lines.push(Line {
            start: offset_of(at, start)?,
            end: offset_of(lf - usize::from(crlf), start)?,
        });
        at = lf + 1;
    }
    if buf.len() - start >= limits.max_head {
        return Err(HeadError::TooLarge);
    }
    // A carriage return that is not part of a line end never becomes one: no need to wait.
    if let Some(cr) = memchr(b'\r', &buf[at..])
        && at + cr + 1 < buf.len()
    {
        return Err(HeadError::LineEnd);
    }
    Ok(Err(Unfinished { at, lines: lines.len() }))
}

fn offset_of(at: usize, start: usize) -> Result<u32, HeadError> {
    u32::try_from(at - start).map_err(|_| HeadError::TooLarge)
}

/// The line at `at` without its line end, as a range, and where the next one begins.
pub(crate) fn line_at(head: &[u8], at: usize) -> (usize, usize) {
    let lf = memchr(b'\n', &head[at..]).map_or(head.len(), |offset| at + offset);
    let end = if lf > at && head[lf - 1] == b'\r' { lf - 1 } else { lf };
    (end, (lf + 1).min(head.len()))
}
