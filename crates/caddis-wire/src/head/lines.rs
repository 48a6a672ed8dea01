//! Where a head ends and where its lines are, before anything is copied.

use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use super::scan::{self, Marks};
use super::{Limits, LineEnds};
use crate::HeadError;

/// Where lines are, without their ends.
pub(crate) type Lines = SmallVec<[Line; 32]>;

/// One line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    start: u32,
    end: u32,
    /// Where the first colon is, or [`NONE`].
    colon: u32,
    /// No control character is in it.
    clean: bool,
}

/// No colon is there.
const NONE: u32 = u32::MAX;

impl Line {
    /// Its bytes in the head.
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where its first colon is in the head.
    pub(crate) fn colon(self) -> Option<usize> {
        (self.colon != NONE).then_some(self.colon as usize)
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

/// Looks for the empty line that ends the head beginning at `start`, and gives what is one past it.
/// The lines before it go to `lines`, the start line included, counted from the head's beginning.
pub(crate) fn find_head(
    buf: &[u8],
    start: usize,
    limits: &Limits,
    lines: &mut Lines,
) -> Result<Result<usize, Unfinished>, HeadError> {
    let limit = start.saturating_add(limits.max_head).min(buf.len());
    let window = &buf[..limit];
    if u32::try_from(limit - start).is_err() {
        return Err(HeadError::TooLarge);
    }
    let window = &window[start..];
    let (mut at, mut clean, mut colon) = (0, true, NONE);
    // Whether lines have to end with CR LF; `None`: as the first one does.
    let mut style = (limits.line_ends == LineEnds::Crlf).then_some(true);
    let mixed = limits.line_ends == LineEnds::Any;
    for (block, Marks { mut controls, mut colons }) in scan::blocks(window) {
        while controls != 0 {
            let bit = controls.trailing_zeros();
            controls &= controls - 1;
            let end = block + bit as usize;
            if end < at {
                // The second half of a line end, in a block of its own.
                continue;
            }
            let crlf = window[end] == b'\r' && window.get(end + 1) == Some(&b'\n');
            if !crlf && window[end] != b'\n' {
                // Refused or not when what it stands in is looked at.
                clean = false;
                continue;
            }
            if !mixed && *style.get_or_insert(crlf) != crlf {
                return Err(HeadError::LineEnd);
            }
            // The line feed of this line end is seen to.
            controls &= !(u64::from(crlf) << bit << 1);
            let next = end + 1 + usize::from(crlf);
            if end == at {
                return Ok(Ok(start + next));
            }
            if lines.len() > limits.max_headers {
                return Err(HeadError::TooManyHeaders);
            }
            let before = colons & ((1 << bit) - 1);
            if colon == NONE && before != 0 {
                colon = block as u32 + before.trailing_zeros();
            }
            colons &= !before;
            // The window is not longer than these numbers reach.
            lines.push(Line { start: at as u32, end: end as u32, colon, clean });
            (at, clean, colon) = (next, true, NONE);
        }
        if colon == NONE && colons != 0 {
            colon = block as u32 + colons.trailing_zeros();
        }
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
