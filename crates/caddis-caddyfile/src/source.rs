//! The texts that were loaded, and lines and columns in them.

use std::sync::OnceLock;

use miette::{MietteError, SourceCode, SourceSpan, SpanContents};

use crate::span::{FileId, Span};

/// One text as loaded.
#[derive(Debug, Default)]
pub struct Source {
    /// The name shown to people.
    pub name: String,
    /// The text; bytes that are not UTF-8 have become U+FFFD.
    pub text: String,
    /// Byte offsets at which lines begin, made at the first question.
    lines: OnceLock<Vec<u32>>,
    /// Places of `{$VAR}` without a default whose variable is not set.
    unset: Vec<(u32, u32)>,
}

impl Source {
    /// A text with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ..Self::default() }
    }

    /// The text of a line, from 1, without its end.
    pub fn line(&self, number: u32) -> &str {
        let starts = self.starts();
        let at = (number as usize).saturating_sub(1);
        let Some(start) = starts.get(at) else { return "" };
        let end = starts.get(at + 1).map_or(self.text.len(), |next| *next as usize);
        let line = self.text.get(*start as usize..end).unwrap_or("");
        line.trim_end_matches(['\n', '\r'])
    }

    fn starts(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let after_breaks = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
            std::iter::once(0).chain(after_breaks.map(|(at, _)| at as u32 + 1)).collect()
        })
    }

    /// Whether a `#` that begins a word stands before this place on its line.
    fn in_comment(&self, offset: u32) -> bool {
        let (line, _) = self.line_col(offset);
        let start = self.starts().get(line as usize - 1).copied().unwrap_or(0) as usize;
        let before = self.text.get(start..offset as usize).unwrap_or("");
        before.starts_with('#') || before.contains(" #") || before.contains("\t#")
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    pub fn line_col(&self, offset: u32) -> (u32, u32) {
        let starts = self.starts();
        let line = starts.partition_point(|start| *start <= offset).max(1);
        let start = starts.get(line - 1).copied().unwrap_or(0) as usize;
        let before = self.text.get(start..offset as usize).unwrap_or("");
        (line as u32, before.chars().count() as u32 + 1)
    }
}

/// All texts of one configuration.
#[derive(Debug, Default)]
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

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, lines_before, lines_after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
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
}
