//! The texts that were loaded, and lines and columns in them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use miette::{MietteError, SourceCode, SourceSpan, SpanContents};

use crate::limits;
use crate::plain;
use crate::span::{FileId, Span};

/// One text as loaded.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The name shown to people.
    pub name: String,
    /// The text; bytes that are not UTF-8 have become U+FFFD.
    pub text: String,
    /// Number of line breaks before each block of bytes, counted at the first question.
    blocks: OnceLock<Vec<u32>>,
    /// Places of `{$VAR}` without a default whose variable is not set.
    unset: Vec<(u32, u32)>,
    /// The text as a terminal may show it, where it is another one.
    shown: OnceLock<Option<Box<str>>>,
}

impl Source {
    /// A text with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ..Self::default() }
    }

    fn shown(&self) -> &str {
        let shown = self.shown.get_or_init(|| match plain(&self.text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(text.into()),
        });
        shown.as_deref().unwrap_or(&self.text)
    }

    /// The text of a line, from 1, without its end.
    pub fn line(&self, number: u32) -> &str {
        let Some(start) = self.start_of(number.max(1)) else { return "" };
        let rest = self.text.get(start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("");
        line.trim_end_matches('\r')
    }

    /// Where a line begins; none after the last one.
    fn start_of(&self, number: u32) -> Option<usize> {
        let breaks = number.saturating_sub(1);
        if breaks == 0 {
            return Some(0);
        }
        // The block in which the line break before it is.
        let block = self.blocks().partition_point(|before| *before < breaks).saturating_sub(1);
        let before = self.blocks().get(block).copied().unwrap_or(0);
        let from = block * BLOCK;
        let mut inside = self.text.as_bytes().get(from..)?.iter().enumerate();
        let mut places = inside.by_ref().filter(|(_, byte)| **byte == b'\n');
        places.nth((breaks - before) as usize - 1).map(|(at, _)| from + at + 1)
    }

    fn blocks(&self) -> &[u32] {
        self.blocks.get_or_init(|| {
            let mut before = 0;
            let count = |block: &[u8]| {
                let here = before;
                before += line_breaks(block);
                here
            };
            self.text.as_bytes().chunks(BLOCK).map(count).collect()
        })
    }

    /// Whether a `#` that begins a word stands before this place on its line.
    fn in_comment(&self, offset: u32) -> bool {
        let before = self.line_before(offset);
        before.starts_with('#') || before.contains(" #") || before.contains("\t#")
    }

    /// What stands on the line before a place.
    fn line_before(&self, offset: u32) -> &str {
        let before = self.text.get(..offset as usize).unwrap_or("");
        before.rsplit('\n').next().unwrap_or("")
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    pub fn line_col(&self, offset: u32) -> (u32, u32) {
        let bytes = self.text.as_bytes();
        let end = bytes.len().min(offset as usize);
        let block = end / BLOCK;
        let line = match self.blocks().get(block) {
            Some(before) => before + line_breaks(&bytes[block * BLOCK..end]),
            // The text ends with a whole block, or is empty.
            None => line_breaks(bytes),
        };
        (line + 1, self.line_before(offset).chars().count() as u32 + 1)
    }
}

/// Bytes between two places at which the number of the line is kept: a list of all lines would take
/// more than a text that is mostly line ends.
const BLOCK: usize = 4 << 10;

fn line_breaks(bytes: &[u8]) -> u32 {
    // Counted in bytes where they cannot overflow, which the compiler makes wide.
    bytes
        .chunks(u8::MAX as usize)
        .map(|part| u32::from(part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>()))
        .sum()
}

/// All texts of one configuration.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a text.
    pub fn add(&mut self, source: Source) -> FileId {
        let id = FileId(self.sources.len() as u32);
        self.sources.push(source);
        id
    }

    /// The text with this number.
    pub fn get(&self, id: FileId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }

    /// Line and column (in characters) of the start of a span, both from 1; zeroes for no text.
    pub fn line_col(&self, span: Span) -> (u32, u32) {
        self.get(span.file).map_or((0, 0), |source| source.line_col(span.start))
    }

    /// The original text of a span.
    pub fn text(&self, span: Span) -> &str {
        let range = span.start as usize..span.end as usize;
        self.get(span.file).and_then(|source| source.text.get(range)).unwrap_or("")
    }

    /// The places of `{$VAR}` without a default whose variable is not set, outside of comments.
    pub fn unset_variables(&self) -> impl Iterator<Item = Span> + '_ {
        self.iter().flat_map(|(id, source)| {
            let outside = |(start, _): &&(u32, u32)| !source.in_comment(*start);
            source.unset.iter().filter(outside).map(move |(start, end)| Span::new(id, *start, *end))
        })
    }

    pub(crate) fn set_unset(&mut self, id: FileId, places: Vec<(u32, u32)>) {
        if let Some(source) = self.sources.get_mut(id.0 as usize) {
            source.unset = places;
        }
    }

    /// All texts in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.sources.iter().enumerate().map(|(at, source)| (FileId(at as u32), source))
    }
}

impl Source {
    /// The whole lines around a range of bytes; none if they are too long to be drawn.
    fn window(
        &self,
        start: usize,
        end: usize,
        before: usize,
        after: usize,
    ) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        if start > end || end > bytes.len() || end - start > limits::DRAWN_BYTES {
            return None;
        }
        let near = start.saturating_sub(limits::DRAWN_BYTES);
        let mut breaks = bytes[near..start].iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let from = match breaks.nth(before) {
            Some((at, _)) => near + at + 1,
            None if near == 0 => 0,
            None => return None,
        };
        let far = bytes.len().min(end + limits::DRAWN_BYTES);
        let last = end.max(start + 1).saturating_sub(1).min(bytes.len());
        let mut breaks = bytes[last..far].iter().enumerate().filter(|(_, b)| **b == b'\n');
        let to = match breaks.nth(after) {
            Some((at, _)) => last + at + 1,
            None if far == bytes.len() => far,
            None => return None,
        };
        Some(from..to.max(end))
    }

    /// Whether the lines around a place are few and short enough to be drawn.
    pub(crate) fn can_draw(&self, span: Span) -> bool {
        self.window(span.start as usize, span.end as usize, 2, 2).is_some()
    }
}

/// Only the lines around the place are looked at: drawing many places in a large text must not read
/// all of it for each.
impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (start, end) = (span.offset(), span.offset().saturating_add(span.len()));
        let range = self.window(start, end, lines_before + 1, lines_after + 1);
        let range = range.ok_or(MietteError::OutOfBounds)?;
        let line = self.line_col(range.start as u32).0 as usize;
        let near = SourceSpan::from((start - range.start, span.len()));
        let bytes = &self.shown().as_bytes()[range.clone()];
        let inner = bytes.read_span(&near, lines_before, lines_after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            (inner.span().offset() + range.start, inner.span().len()).into(),
            inner.line() + line.saturating_sub(1),
            inner.column(),
            inner.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        let mut map = SourceMap::new();
        let id = map.add(Source::new("Caddyfile", "ab\nä c\n"));
        assert_eq!(map.line_col(Span::new(id, 0, 1)), (1, 1));
        assert_eq!(map.line_col(Span::new(id, 6, 7)), (2, 3));
        assert_eq!(map.line_col(Span::new(id, 8, 8)), (3, 1));
        assert_eq!(map.line_col(Span::NONE), (0, 0));
        assert_eq!(map.text(Span::new(id, 3, 5)), "ä");
        assert_eq!(map.iter().count(), 1);
    }

    #[test]
    fn lines_are_found_in_long_texts() {
        let text: String = (0..9_000).map(|at| "x".repeat(at % 7) + "\n").collect();
        for text in [text.as_str(), &"\n".repeat(2 * BLOCK), &"x".repeat(BLOCK), "", "a"] {
            let source = Source::new("a", text);
            let lines: Vec<&str> = text.split('\n').collect();
            let mut start = 0;
            for (at, line) in lines.iter().enumerate() {
                let number = at as u32 + 1;
                assert_eq!(source.line(number), *line);
                assert_eq!(source.line_col(start), (number, 1));
                start += line.len() as u32;
                assert_eq!(source.line_col(start), (number, line.len() as u32 + 1));
                start += 1;
            }
            assert_eq!(source.line(lines.len() as u32 + 1), "");
        }
    }

    #[test]
    fn windows_are_the_same_as_of_the_whole_text() {
        let text = "one\ntwo\r\n\nthree four\nfive";
        let source = Source::new("a", text);
        for start in 0..=text.len() {
            for end in start..=text.len() {
                let span = SourceSpan::from((start, end - start));
                for (before, after) in [(0, 0), (1, 1)] {
                    let Ok(want) = text.read_span(&span, before, after) else { continue };
                    let got = source.read_span(&span, before, after).expect("short");
                    let shown = |one: &dyn SpanContents<'_>| {
                        let data = String::from_utf8_lossy(one.data()).into_owned();
                        (data, *one.span(), one.line(), one.column())
                    };
                    assert_eq!(shown(&*got), shown(&*want), "{start}..{end} {before}");
                }
            }
        }
    }

    #[test]
    fn long_lines_are_not_drawn() {
        let text = format!("a\n{}\nb\n", "x".repeat(100_000));
        let source = Source::new("a", text);
        let id = FileId(0);
        assert!(!source.can_draw(Span::new(id, 0, 1)) && !source.can_draw(Span::new(id, 2, 3)));
        assert!(!source.can_draw(Span::new(id, 2, 90_000)));
    }
}
