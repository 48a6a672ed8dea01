//! Diagnostics for miette: code, labels, help and the text to draw them on.

use std::fmt;

use miette::{LabeledSpan, SourceCode};

use super::{Diagnostic, Severity};
use crate::source::{Source, SourceMap};
use crate::span::{FileId, Span};

/// A [`Diagnostic`] with the texts its labels point into.
///
/// The main text is that of the first label; labels in other texts follow as related notes.
#[derive(Debug)]
pub struct WithSources<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<&'a Source>,
    related: Vec<Note<'a>>,
}

impl<'a> WithSources<'a> {
    pub(super) fn new(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Self {
        let main = main_file(diagnostic);
        let related = diagnostic
            .labels
            .iter()
            .filter(|(span, _)| Some(span.file) != main)
            .map(|(span, text)| {
                let source = sources.get(span.file).filter(|source| source.can_draw(*span));
                Note { text, span: *span, source }
            })
            .collect();
        let source = main.and_then(|file| sources.get(file)).filter(|source| {
            let mut own = diagnostic.labels.iter().filter(|(span, _)| Some(span.file) == main);
            own.all(|(span, _)| source.can_draw(*span))
        });
        Self { diagnostic, source, related }
    }
}

/// A label in another text.
#[derive(Debug)]
struct Note<'a> {
    text: &'a str,
    span: Span,
    source: Option<&'a Source>,
}

impl fmt::Display for WithSources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl std::error::Error for WithSources<'_> {}
impl std::error::Error for Note<'_> {}

fn main_file(diagnostic: &Diagnostic) -> Option<FileId> {
    diagnostic.labels.first().map(|(span, _)| span.file)
}

fn labelled(span: Span, text: &str) -> LabeledSpan {
    let text = (!text.is_empty()).then(|| text.to_owned());
    LabeledSpan::new(text, span.start as usize, span.len() as usize)
}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let main = main_file(self)?;
        let in_main = self.labels.iter().filter(move |(span, _)| span.file == main);
        Some(Box::new(in_main.map(|(span, text)| labelled(*span, text))))
    }
}

impl miette::Diagnostic for WithSources<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        miette::Diagnostic::code(self.diagnostic)
    }

    fn severity(&self) -> Option<miette::Severity> {
        miette::Diagnostic::severity(self.diagnostic)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        miette::Diagnostic::help(self.diagnostic)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.and_then(|_| miette::Diagnostic::labels(self.diagnostic))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.related.is_empty() {
            return None;
        }
        Some(Box::new(self.related.iter().map(|note| note as &dyn miette::Diagnostic)))
    }
}

impl miette::Diagnostic for Note<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source?;
        Some(Box::new(std::iter::once(labelled(self.span, ""))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic as _;

    #[test]
    fn labels_of_other_texts_are_related_notes() {
        let mut sources = SourceMap::new();
        let a = sources.add(Source::new("a", "one two"));
        let b = sources.add(Source::new("b", "three"));
        let bad = Diagnostic::error("twice")
            .label(Span::new(a, 4, 7), "again")
            .label(Span::new(b, 0, 5), "first");
        let report = bad.with_sources(&sources);
        let spans: Vec<_> = report.labels().expect("has labels").collect();
        assert_eq!((spans.len(), spans[0].offset(), spans[0].len()), (1, 4, 3));
        assert_eq!(report.related().expect("has notes").count(), 1);
        let span = spans[0].inner();
        let drawn = report.source_code().expect("a").read_span(span, 1, 1).expect("inside");
        assert_eq!(drawn.name(), Some("a"));
    }
}
