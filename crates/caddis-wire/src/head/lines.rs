//! Where a head ends and where its lines are, before anything is copied.

use std::ops::ControlFlow;

use memchr::memchr;
use smallvec::SmallVec;

use super::{Limits, LineEnds, scan};
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
    /// No control character is in it.
    clean: bool,
}

impl Line {
    /// Its bytes in the head.
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether no control character is in it, not even a tab.
    pub(crate) fn is_clean(self) -> bool {
        self.clean
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
    if u32::try_from(limit - start).is_err() {
        return Err(HeadError::TooLarge);
    }
    let (mut at, mut style, mut clean) = (0, None, true);
    let mut lines = Lines::new();
    let window = &window[start..];
    let found = scan::controls(window, |end| {
        if end < at {
            // The second half of a line end.
            return ControlFlow::Continue(());
        }
        let crlf = window[end] == b'\r' && window.get(end + 1) == Some(&b'\n');
        if !crlf && window[end] != b'\n' {
            // Refused or not when what it stands in is looked at.
            clean = false;
            return ControlFlow::Continue(());
        }
        match limits.line_ends {
            LineEnds::Crlf if !crlf => return ControlFlow::Break(Err(HeadError::LineEnd)),
            LineEnds::Uniform if *style.get_or_insert(crlf) != crlf => {
                return ControlFlow::Break(Err(HeadError::LineEnd));
            }
            _ => {}
        }
        let next = end + 1 + usize::from(crlf);
        if end == at {
            return ControlFlow::Break(Ok(start + next));
        }
        if lines.len() > limits.max_headers {
            return ControlFlow::Break(Err(HeadError::TooManyHeaders));
        }
        // The window is not longer than these numbers reach.
        lines.push(Line { start: at as u32, end: end as u32, clean });
        (at, clean) = (next, true);
        ControlFlow::Continue(())
    });
    if let ControlFlow::Break(end) = found {
        return Ok(Ok(HeadSpan { end: end?, lines }));
    }
    let at = start + at;
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

/// The line at `at` without its line end, as a range, and where the next one begins.
pub(crate) fn line_at(head: &[u8], at: usize) -> (usize, usize) {
    let lf = memchr(b'\n', &head[at..]).map_or(head.len(), |offset| at + offset);
    let end = if lf > at && head[lf - 1] == b'\r' { lf - 1 } else { lf };
    (end, (lf + 1).min(head.len()))
}
