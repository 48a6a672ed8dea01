//! `caddis fmt`: one tab for each block, one space between words, at most one blank line.
//!
//! Character by character: comments, quotes, heredocs and escaped characters are copied, whitespace
//! and braces are written anew. An opening brace goes to the end of the line before (except after an
//! `import` line outside of blocks, where it begins the global options), a closing brace to a line of
//! its own. The result ends with one newline.
//!
//! Two promises hold for every text: formatting twice gives the same as once, and no token is lost or
//! changed (`a{` becomes `a {` and `}}` two lines, which is what was meant).

mod heredoc;
mod keep;
#[cfg(test)]
mod tests;

use heredoc::Heredoc;

use crate::text::lossy;

/// Deeper blocks are not indented further.
const DEEPEST: usize = 10;

/// Runs after which a text should change no more.
const RUNS: usize = 4;

/// Formats a text. One that would lose a token, or that does not come to rest, stays as it is.
pub(crate) fn format(input: &str) -> String {
    let mut last = once(input);
    for _ in 0..RUNS {
        let next = once(&last);
        if next == last {
            return if keep::same_tokens(input, &last) { last } else { input.to_owned() };
        }
        last = next;
    }
    input.to_owned()
}

/// The number of the first line that formatting changes; none if the text is formatted. Line ends
/// with a carriage return count as plain ones.
pub(crate) fn first_difference(input: &[u8]) -> Option<u32> {
    let mut plain = input.to_vec();
    if input.contains(&b'\r') {
        let next = input.iter().skip(1).chain([&b' ']);
        let bytes =
            input.iter().zip(next).filter(|(byte, next)| (**byte, **next) != (b'\r', b'\n'));
        plain = bytes.map(|(byte, _)| *byte).collect();
    }
    let text = lossy(plain.as_slice().into());
    let formatted = once(&text);
    if formatted.as_bytes() == plain {
        return None;
    }
    // What does not come to rest stays as it is.
    let formatted = format(&text);
    if formatted.as_bytes() == plain {
        return None;
    }
    let same = plain.iter().zip(formatted.as_bytes()).take_while(|(old, new)| old == new);
    let line = 1 + same.filter(|(byte, _)| **byte == b'\n').count();
    u32::try_from(line).ok()
}

/// One run.
fn once(input: &str) -> String {
    let input = input.trim();
    let mut formatter = Formatter::new(input.len());
    for c in input.chars() {
        formatter.feed(c);
    }
    // A brace at the very end opens a block that is not there yet.
    formatter.open_block(true);
    let mut out = formatter.out.trim().to_owned();
    out.push('\n');
    out
}

/// The quotes around the current character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Double,
    Backtick,
    /// A backtick was seen inside double quotes.
    BacktickInDouble,
}

/// The last `{` that was read, as long as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brace {
    None,
    /// Not written yet: whether it opens a block shows at the next character.
    Pending,
    /// Written as part of a word or as a block.
    Written,
}

struct Formatter {
    out: String,
    /// The last character written.
    last: char,
    /// Whether the character before was whitespace.
    space: bool,
    line_start: bool,
    /// Newlines read and not written.
    newlines: usize,
    nesting: usize,
    comment: bool,
    escaped: bool,
    quotes: Quotes,
    heredoc: Heredoc,
    brace: Brace,
    /// Whether a space, not a newline, was before the brace.
    brace_after_space: bool,
    /// Whether the brace began a line.
    brace_own_line: bool,
    lines: Lines,
}

/// What is known of the first words of lines, to tell `import` lines outside of blocks.
#[derive(Default)]
struct Lines {
    word: String,
    first: String,
    after_import: bool,
}

impl Lines {
    fn end_word(&mut self) {
        if self.first.is_empty() {
            self.first = std::mem::take(&mut self.word);
        }
        self.word.clear();
    }

    fn push(&mut self, c: char) {
        // Longer words than the one looked for do not matter.
        if self.first.is_empty() && self.word.len() < 8 {
            self.word.push(c);
        }
    }

    fn end_line(&mut self, nesting: usize, brace_waits: bool) {
        self.end_word();
        if !self.first.is_empty() {
            self.after_import = nesting == 0 && self.first == "import";
        } else if !brace_waits {
            self.after_import = false;
        }
        self.first.clear();
    }
}

impl Formatter {
    fn new(capacity: usize) -> Self {
        Self {
            out: String::with_capacity(capacity + capacity / 8),
            last: '\0',
            space: true,
            line_start: true,
            newlines: 0,
            nesting: 0,
            comment: false,
            escaped: false,
            quotes: Quotes::None,
            heredoc: Heredoc::default(),
            brace: Brace::None,
            brace_after_space: false,
            brace_own_line: false,
            lines: Lines::default(),
        }
    }

    fn feed(&mut self, c: char) {
        if self.feed_heredoc(c) {
            return;
        }
        if self.feed_copied(c) || self.feed_quoted(c) {
            return;
        }
        if c.is_whitespace() {
            self.whitespace(c);
        } else {
            self.plain(c);
        }
    }

    /// Comments and escaped characters are copied.
    fn feed_copied(&mut self, c: char) -> bool {
        if self.comment {
            if c == '\n' {
                self.comment = false;
                self.space = true;
                self.next_line();
            } else {
                self.write(c);
            }
            return true;
        }
        if !self.escaped && c == '\\' {
            self.start_copied_word();
            self.write(c);
            self.escaped = true;
            return true;
        }
        if self.escaped {
            if c == '<' {
                self.heredoc.escape();
            }
            self.write(c);
            self.escaped = false;
            return true;
        }
        false
    }

    /// Quoted text is copied. Double quotes open only after whitespace.
    fn feed_quoted(&mut self, c: char) -> bool {
        if c == '`' {
            self.quotes = match self.quotes {
                Quotes::None => Quotes::Backtick,
                Quotes::Backtick => Quotes::None,
                Quotes::Double => Quotes::BacktickInDouble,
                Quotes::BacktickInDouble => Quotes::Double,
            };
            if self.quotes == Quotes::Backtick {
                self.start_copied_word();
            }
        }
        match self.quotes {
            Quotes::Double => {
                if c == '"' {
                    self.quotes = Quotes::None;
                }
                self.write(c);
                true
            }
            Quotes::None => {
                if c == '"' && self.space {
                    self.quotes = Quotes::Double;
                }
                if c == '`' {
                    self.write(c);
                    self.space = false;
                }
                c == '`'
            }
            Quotes::BacktickInDouble if c == '"' => {
                self.quotes = Quotes::None;
                false
            }
            Quotes::Backtick | Quotes::BacktickInDouble => {
                self.write(c);
                self.space = false;
                true
            }
        }
    }

    /// Before an escape or a backtick: what stands between it and the word before.
    fn start_copied_word(&mut self) {
        if self.brace == Brace::Pending {
            let before = self.space;
            self.open_block(before);
            self.start_word(false);
        } else if self.newlines > 0 {
            self.start_word(self.space);
        } else if self.space && !self.line_start {
            self.write(' ');
        } else if self.line_start {
            self.start_word(false);
        }
        self.space = false;
        self.line_start = false;
    }

    fn whitespace(&mut self, c: char) {
        self.lines.end_word();
        self.space = true;
        self.heredoc.end_word();
        if c == '\n' {
            let brace_waits = self.brace == Brace::Pending && self.brace_own_line;
            self.lines.end_line(self.nesting, brace_waits);
            self.newlines += 1;
        }
    }

    fn plain(&mut self, c: char) {
        let after_space = std::mem::replace(&mut self.space, false);
        if c == '#' {
            self.comment = true;
        }
        self.open_block(after_space);
        match c {
            // A brace right after a waiting one is part of a word.
            '{' if self.brace != Brace::Pending => {
                self.lines.end_word();
                self.brace_after_space = after_space && !self.line_start;
                self.brace_own_line = self.newlines > 0;
                if self.brace_after_space && self.newlines == 0 {
                    self.write(' ');
                }
                self.brace = Brace::Pending;
                return;
            }
            '}' if after_space || self.brace == Brace::None => {
                self.close_block();
                return;
            }
            _ => {}
        }
        self.start_word(after_space);
        if after_space && c == '<' {
            self.heredoc.first();
        }
        self.lines.push(c);
        self.write(c);
        self.line_start = false;
    }

    /// A waiting brace followed by whitespace opens a block.
    fn open_block(&mut self, after_space: bool) {
        if self.brace != Brace::Pending || !after_space {
            return;
        }
        if self.nesting == 0 && self.last == '}' {
            self.next_line();
            self.next_line();
        }
        if self.brace_own_line && self.lines.after_import {
            if self.last != '\n' {
                self.next_line();
            }
            self.indent();
        } else if self.line_start {
            self.indent();
        } else if !self.brace_after_space || !self.last.is_whitespace() {
            self.write(' ');
        }
        self.write('{');
        self.brace = Brace::None;
        self.brace_own_line = false;
        self.next_line();
        self.newlines = 0;
        if self.nesting < DEEPEST {
            self.nesting += 1;
        }
    }

    fn close_block(&mut self) {
        self.lines.end_word();
        if self.last != '\n' {
            self.next_line();
        }
        self.nesting = self.nesting.saturating_sub(1);
        self.indent();
        self.write('}');
        self.newlines = 0;
    }

    /// Newlines, indent and space before a character of a word, and a brace that is part of it.
    fn start_word(&mut self, after_space: bool) {
        for _ in 0..self.newlines.min(2) {
            self.next_line();
        }
        self.newlines = 0;
        if self.line_start {
            self.indent();
        }
        if self.nesting == 0 && self.last == '}' && self.line_start {
            self.next_line();
            self.next_line();
        }
        if !self.line_start && after_space {
            self.write(' ');
        }
        if self.brace == Brace::Pending {
            self.write('{');
            self.brace = Brace::Written;
        }
    }

    fn write(&mut self, c: char) {
        self.out.push(c);
        self.last = c;
    }

    fn indent(&mut self) {
        for _ in 0..self.nesting {
            self.write('\t');
        }
    }

    fn next_line(&mut self) {
        self.write('\n');
        self.line_start = true;
    }
}
