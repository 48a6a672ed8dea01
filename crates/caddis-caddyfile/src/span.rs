//! Places in source texts.

/// Number of a text in a [`SourceMap`](crate::SourceMap).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// The number of no text: tokens that a program made up carry it.
    pub const NONE: Self = Self(u32::MAX);
}

/// A range of bytes in the original text of a file.
///
/// "Original" means before `{$VAR}` was replaced: a token that came out of a variable points at the
/// `{$VAR}` that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span of a token that is in no text.
    pub const NONE: Self = Self { file: FileId::NONE, start: 0, end: 0 };

    /// A span of `file`.
    pub const fn new(file: FileId, start: u32, end: u32) -> Self {
        Self { file, start, end }
    }

    /// Whether the span points into no text.
    pub const fn is_none(self) -> bool {
        self.file.0 == FileId::NONE.0
    }

    /// Number of bytes covered.
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether no byte is covered.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The smallest span over both; `self` if they are in different texts.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if self.file != other.file {
            return self;
        }
        Self::new(self.file, self.start.min(other.start), self.end.max(other.end))
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_within_one_text_only() {
        let a = Span::new(FileId(0), 4, 6);
        assert_eq!(a.to(Span::new(FileId(0), 1, 5)), Span::new(FileId(0), 1, 6));
        assert_eq!(a.to(Span::new(FileId(1), 1, 5)), a);
        assert_eq!((a.len(), a.is_empty(), Span::NONE.is_none()), (2, false, true));
    }
}
