//! Text → tokens.
//!
//! ```text
//! text    = [BOM] { gap token } gap
//! gap     = { blank | newline | comment | '\' }
//! token   = double | backtick | heredoc | word
//! comment = '#' … newline               only where a token could begin
//! double  = '"' { char | '\"' } '"'     may span lines; other escapes stay as they are
//! backtick= '`' { char } '`'            raw, may span lines
//! heredoc = '<<' MARKER newline … MARKER
//! word    = { char | '\' char }         up to whitespace
//! ```
//!
//! Newlines matter: each token knows its line. A backslash before a newline joins the lines, which
//! means that the tokens after it carry the line number of the line before.

mod gap;
mod heredoc;
mod quoted;
#[cfg(test)]
mod tests;
mod word;

use std::sync::Arc;

use smol_str::SmolStr;

use crate::diagnostic::Diagnostic;
use crate::env::Expanded;
use crate::limits;
use crate::span::{FileId, Span};
use crate::token::{Origin, Quote, Token};

use gap::Piece;
use heredoc::Heredoc;

/// The tokens of a text, and what stopped or disturbed the lexer.
#[derive(Default)]
pub(crate) struct Lexed {
    /// The tokens in order, in lists of [`CHUNK`] tokens: one list would be copied while it grows, and
    /// would be kept until the last token of it is read.
    pub(crate) chunks: Vec<Vec<Token>>,
    pub(crate) errors: Vec<Diagnostic>,
    /// The opening of a quote that is not closed.
    pub(crate) unclosed: Option<Span>,
}

/// Tokens per chunk.
const CHUNK: usize = 1_024;

impl Lexed {
    /// The tokens as one list, and the mistakes.
    pub(crate) fn into_parts(self) -> (Vec<Token>, Vec<Diagnostic>) {
        let mut chunks = self.chunks.into_iter();
        let mut tokens = chunks.next().unwrap_or_default();
        tokens.extend(chunks.flatten());
        tokens.shrink_to_fit();
        (tokens, self.errors)
    }

    fn push(&mut self, token: Token) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(token),
            last => {
                // Most texts are small.
                let room = if last.is_some() { CHUNK } else { 64 };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(token);
                self.chunks.push(chunk);
            }
        }
    }

    fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len)
    }
}

/// Splits a text. `room` bounds the number of tokens.
pub(crate) fn lex(text: &Expanded<'_>, name: &SmolStr, file: FileId, room: usize) -> Lexed {
    let whole: &str = &text.text;
    let rest = whole.strip_prefix('\u{feff}').unwrap_or(whole);
    let mut lexer = Lexer {
        text,
        rest,
        origin: Origin::of_file(name.clone()),
        file,
        room,
        line: 1,
        joined: 0,
        depth: 0,
        lexed: Lexed::default(),
    };
    while lexer.token() {}
    lexer.lexed
}

/// The marker charset of a heredoc.
pub(crate) fn is_marker(text: &str) -> bool {
    heredoc::is_marker(text)
}

struct Lexer<'a> {
    text: &'a Expanded<'a>,
    /// What is still to be read.
    rest: &'a str,
    origin: Arc<Origin>,
    file: FileId,
    room: usize,
    line: u32,
    /// Lines that a backslash or a heredoc took, to be added at the next newline.
    joined: u32,
    depth: usize,
    lexed: Lexed,
}

impl<'a> Lexer<'a> {
    /// Reads one token; false at the end or after a mistake that cannot be read over.
    fn token(&mut self) -> bool {
        let escaped = self.gap();
        let (start, line) = (self.offset(), self.line);
        let Some(first) = self.rest.chars().next() else { return false };
        let (text, quote) = match first {
            '"' => {
                let quoted = quoted::double(self.rest, escaped);
                self.count_lines(quoted.raw);
                self.rest = quoted.rest;
                self.note_quote(quoted.closed, start);
                if !quoted.closed && quoted.text.is_empty() {
                    return false;
                }
                (quoted.text, if quoted.closed { Quote::Double } else { Quote::None })
            }
            '`' => {
                let quoted = quoted::backtick(self.rest);
                self.count_lines(quoted.raw);
                self.rest = quoted.rest;
                self.note_quote(quoted.closed, start);
                if !quoted.closed && quoted.text.is_empty() {
                    return false;
                }
                (quoted.text, if quoted.closed { Quote::Backtick } else { Quote::None })
            }
            '<' if !escaped && heredoc::opens(self.rest) => match self.heredoc() {
                Some(found) => found,
                None => return false,
            },
            _ => {
                let word = word::word(self.rest, escaped);
                self.rest = word.rest;
                self.joined += u32::from(word.joins_lines);
                (word.text, Quote::None)
            }
        };
        let span = self.text.span(self.file, start, self.offset());
        let origin = Some(Arc::clone(&self.origin));
        self.push(Token { text, quote, line, span, origin })
    }

    /// Remembers the opening of a quote that is not closed.
    fn note_quote(&mut self, closed: bool, start: usize) {
        if !closed {
            self.lexed.unclosed = Some(self.text.span(self.file, start, start + 1));
        }
    }

    /// Skips to the next token. True if a backslash is waiting for it.
    fn gap(&mut self) -> bool {
        let mut escaped = false;
        loop {
            // The usual gap is tabs and line ends before a plain word.
            match self.rest.as_bytes().first() {
                Some(b' ' | b'\t') => self.rest = &self.rest[1..],
                Some(b'\n') if !escaped => {
                    self.newline();
                    self.rest = &self.rest[1..];
                }
                Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'{' | b'}' | b'/' | b'@') => {
                    return escaped;
                }
                _ => break,
            }
        }
        while let Ok((rest, piece)) = gap::piece(self.rest) {
            match piece {
                Piece::Backslash if escaped => break,
                Piece::Backslash => escaped = true,
                // A backslash in a comment reaches the end of the line too.
                Piece::Comment { backslash } => escaped |= backslash,
                Piece::Newline if escaped => {
                    self.joined += 1;
                    escaped = false;
                }
                Piece::Newline => self.newline(),
                Piece::Blank => {}
            }
            self.rest = rest;
        }
        escaped
    }

    fn heredoc(&mut self) -> Option<(SmolStr, Quote)> {
        match heredoc::heredoc(self.rest, self.line, self.joined) {
            Heredoc::Word { text, rest } => {
                self.rest = rest;
                Some((text, Quote::None))
            }
            Heredoc::Body { text, rest, lines, mistake } => {
                if let Some(mistake) = mistake {
                    self.mistake(mistake, rest);
                }
                self.rest = rest;
                self.line = self.line.saturating_add(self.joined).saturating_add(lines);
                self.joined = 0;
                Some((text, Quote::Heredoc))
            }
            Heredoc::Nothing => None,
            Heredoc::Bad { message, rest } => {
                self.mistake(message, rest);
                None
            }
        }
    }

    /// Keeps a mistake in the text between here and `rest`. Caddy names no place in these: the
    /// sentences hold the line.
    fn mistake(&mut self, message: String, rest: &str) {
        let end = self.text.text.len() - rest.len();
        let span = self.text.span(self.file, self.offset(), end);
        self.error(
            Diagnostic::error(message).code("caddyfile::heredoc").label(span, "this heredoc"),
        );
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        if self.lexed.errors.len() < limits::DIAGNOSTICS {
            self.lexed.errors.push(diagnostic);
        }
    }

    fn push(&mut self, token: Token) -> bool {
        if token.is_open_brace() {
            self.depth += 1;
        } else if token.is_close_brace() {
            self.depth = self.depth.saturating_sub(1);
        }
        let limit = if self.depth > limits::BLOCK_DEPTH {
            Some("blocks are nested too deeply")
        } else if self.lexed.len() >= self.room {
            Some("the configuration has too many tokens")
        } else {
            None
        };
        if let Some(message) = limit {
            self.error(Diagnostic::error(message).at(&token).code("caddyfile::limit"));
            return false;
        }
        self.lexed.push(token);
        true
    }

    fn newline(&mut self) {
        self.line = self.line.saturating_add(1).saturating_add(self.joined);
        self.joined = 0;
    }

    fn count_lines(&mut self, raw: &str) {
        let lines = raw.bytes().filter(|b| *b == b'\n').count() as u32;
        if lines > 0 {
            self.line = self.line.saturating_add(lines).saturating_add(self.joined);
            self.joined = 0;
        }
    }

    fn offset(&self) -> usize {
        self.text.text.len() - self.rest.len()
    }
}

/// Splits a text into tokens without replacing environment variables.
pub(crate) fn tokenize(name: &str, text: &str) -> Result<Vec<Token>, Diagnostic> {
    if text.len() > limits::TEXT_BYTES {
        return Err(Diagnostic::error("the text is too long").code("caddyfile::limit"));
    }
    let lexed = lex(&Expanded::plain(text), &name.into(), FileId(0), limits::TOKENS);
    let (tokens, errors) = lexed.into_parts();
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(tokens),
    }
}

/// A span over a whole text, for mistakes of the text as such.
pub(crate) fn whole(file: FileId, text: &str) -> Span {
    Span::new(file, 0, text.len().min(u32::MAX as usize) as u32)
}
