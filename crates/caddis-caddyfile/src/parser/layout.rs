//! Which braces are missing, by the indentation.
//!
//! Without a brace the parser sees other blocks than the person who wrote them, and much of what it
//! then complains about is none of their mistakes. Most files are indented as they are meant, so the
//! places where indentation and braces disagree tell where a brace was forgotten.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::token::{ImportChain, Origin, Quote, Token};

/// The name of the import through which a made up `}` seems to come: so it has a line of its own.
const BY_LAYOUT: &str = "the layout";

/// Takes the made up import out of a mistake at such a brace.
pub(crate) fn forget_import(mistake: &mut Diagnostic) {
    let name = mistake.imports.as_ref().and_then(|chain| chain.name.as_deref());
    if name == Some(BY_LAYOUT) {
        mistake.imports = None;
    }
}

/// Columns of a tab.
const TAB: usize = 4;

/// A brace that is missing.
pub(super) struct Repair {
    /// The token before which it belongs; the number of tokens for the end.
    before: usize,
    /// Whether it is `{`.
    opens: bool,
    /// The mistake, drawn where the block begins.
    pub(super) note: Diagnostic,
}

/// A block that is open while walking.
struct Open {
    indent: usize,
    /// The token that opened it.
    brace: usize,
    /// The first token of its line.
    start: usize,
}

/// The braces that are missing. None if there is no doubt, or where a `}` is one too many.
pub(super) fn repairs(tokens: &[Token], text: &str) -> Vec<Repair> {
    let starts: Vec<usize> = (0..tokens.len())
        .filter(|at| *at == 0 || tokens[at - 1].next_is_on_new_line(&tokens[*at]))
        .collect();
    let indents: Vec<usize> = starts.iter().map(|start| indent(text, &tokens[*start])).collect();
    let mut walk = Walk { tokens, open: Vec::new(), found: Vec::new() };
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(tokens.len());
        let indent = indents[number];
        let closes = tokens[start].is_close_brace();
        if let Some(before) = number.checked_sub(1)
            && !closes
            && indent > indents[before]
            && walk.opens_no_block(starts[before], start, indents[before])
            && is_closed(tokens, &starts[number..], &indents[number..], indents[before])
        {
            walk.add_open(starts[before], start, indents[before]);
        }
        if closes {
            walk.close_down_to(indent + 1, start);
            if walk.open.pop_if(|open| open.indent == indent).is_none() {
                return Vec::new();
            }
        } else {
            walk.close_down_to(indent, start);
        }
        if tokens[end - 1].is_open_brace() {
            walk.open.push(Open { indent, brace: end - 1, start });
        }
    }
    walk.close_down_to(0, tokens.len());
    walk.found
}

/// Parts words such as `handle{` at the end of a line into the word and the brace, with a note of each.
pub(super) fn unglue(tokens: Vec<Token>) -> (Vec<Token>, Vec<Diagnostic>) {
    let mut parted = Vec::with_capacity(tokens.len());
    let mut notes = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        let ends = rest.peek().is_some_and(|next| token.next_is_on_new_line(next));
        let word = token.text.strip_suffix('{').filter(|word| !word.is_empty());
        let Some(word) = word.filter(|word| ends && !token.is_quoted() && !word.contains('{'))
        else {
            parted.push(token);
            continue;
        };
        let word = token.with_text(word);
        let note = Diagnostic::error(format!("no space between '{}' and its brace", word.text))
            .code("caddyfile::layout")
            .placed_at(&token)
            .label(token.span, "this is one word, which opens no block")
            .help(format!("write `{} {{`", word.text));
        notes.push(note);
        let brace = opening(&token);
        parted.push(word);
        parted.push(brace);
    }
    (parted, notes)
}

/// The tokens with the missing braces.
pub(super) fn apply(tokens: Vec<Token>, repairs: &[Repair]) -> Vec<Token> {
    let mut mended = Vec::with_capacity(tokens.len() + repairs.len());
    let mut repairs = repairs.iter().peekable();
    let count = tokens.len();
    for (at, token) in tokens.into_iter().map(Some).chain([None]).enumerate().take(count + 1) {
        while let Some(repair) = repairs.next_if(|repair| repair.before == at) {
            let before = mended.last().cloned().unwrap_or_default();
            let number = u32::try_from(mended.len()).unwrap_or(u32::MAX);
            mended.push(if repair.opens { opening(&before) } else { closing(&before, number) });
        }
        mended.extend(token);
    }
    mended
}

struct Walk<'a> {
    tokens: &'a [Token],
    open: Vec<Open>,
    found: Vec<Repair>,
}

impl Walk<'_> {
    /// Closes the blocks whose lines are indented at least so far.
    fn close_down_to(&mut self, indent: usize, before: usize) {
        while let Some(open) = self.open.pop_if(|open| open.indent >= indent) {
            let name = &self.tokens[open.start];
            let last = &self.tokens[before.saturating_sub(1)];
            let note = Diagnostic::error(format!("no '}}' closes the block of '{}'", name.text))
                .code("caddyfile::layout")
                .placed_at(name)
                .label(self.tokens[open.brace].span, "this block is not closed")
                .help(format!("add a `}}` after line {}", last.line));
            self.found.push(Repair { before, opens: false, note });
        }
    }

    /// Whether a line is an ordinary one in its block, with no brace at its end.
    fn opens_no_block(&self, start: usize, end: usize, indent: usize) -> bool {
        let last = &self.tokens[end - 1];
        let is_in_block = self.open.last().is_none_or(|open| open.indent < indent);
        let ends = last.is_open_brace() || last.text.ends_with(',');
        is_in_block && !ends && !self.tokens[start].is_close_brace()
    }

    fn add_open(&mut self, start: usize, end: usize, indent: usize) {
        let (first, last) = (&self.tokens[start], &self.tokens[end - 1]);
        let note = Diagnostic::error(format!("no '{{' opens the block of '{}'", first.text))
            .code("caddyfile::layout")
            .placed_at(first)
            .label(
                first.span.to(last.span),
                "the lines below are indented, but no block opens here",
            )
            .help("end this line with ` {`");
        self.found.push(Repair { before: end, opens: true, note });
        self.open.push(Open { indent, brace: end - 1, start });
    }
}

/// Whether the first line that is indented no deeper is a `}` at exactly this column.
fn is_closed(tokens: &[Token], starts: &[usize], indents: &[usize], indent: usize) -> bool {
    let end = indents.iter().position(|other| *other <= indent);
    end.is_some_and(|end| indents[end] == indent && tokens[starts[end]].is_close_brace())
}

/// Columns of whitespace before the token's line.
fn indent(text: &str, token: &Token) -> usize {
    let before = text.get(..token.span.start as usize).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.chars().take_while(|c| c.is_whitespace()).fold(0, |column, c| match c {
        '\t' => (column / TAB + 1) * TAB,
        _ => column + 1,
    })
}

/// A `{` at the end of the line.
fn opening(before: &Token) -> Token {
    Token { quote: Quote::None, span: after(before), ..before.with_text("{") }
}

/// A `}` on a line of its own: tokens of different imports never share a line.
fn closing(before: &Token, number: u32) -> Token {
    let marker = Some(SmolStr::new_static(BY_LAYOUT));
    let imports = ImportChain::push(None, before.file().clone(), number, marker);
    let origin = Origin { file: before.file().clone(), imports: Some(imports), snippet: None };
    Token {
        quote: Quote::None,
        span: after(before),
        origin: Some(Arc::new(origin)),
        ..before.with_text("}")
    }
}

fn after(token: &Token) -> Span {
    Span::new(token.span.file, token.span.end, token.span.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(text: &str) -> (Vec<String>, String) {
        let tokens = crate::tokenize("F", text).expect("tokens");
        let found = repairs(&tokens, text);
        let notes = found.iter().map(|repair| repair.note.to_string()).collect();
        let mended = apply(tokens, &found);
        (notes, mended.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn glued_braces() {
        let tokens = crate::tokenize("F", "a{\n\tb x{y} \"{\"\n\tc\\{\n}\nd{").expect("tokens");
        let (tokens, notes) = unglue(tokens);
        let words: Vec<_> = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(words[..2], ["a", "{"]);
        assert!(words.contains(&"x{y}") && words.last() == Some(&"d{"), "{words:?}");
        assert_eq!(notes[0].to_string(), "no space between 'a' and its brace, at F:1");
    }

    #[test]
    fn missing_braces() {
        let fine = "a {\n\tb {\n\t\tc\n\t}\n\td x {\n\t}\n}\n\ne,\n\tf {\n\tg\n}\n";
        assert!(mend(fine).0.is_empty());
        let (notes, text) = mend("a {\n\tb\n\t\tc\n\t}\n\td\n}\ne {\n}");
        assert_eq!(notes, ["no '{' opens the block of 'b', at F:2"]);
        assert_eq!(text, "a { b { c } d } e { }");
        let (notes, text) = mend("a {\n\tb {\n\t\tc\n\td\n\ne {\n\tf\n");
        assert_eq!(
            notes,
            [
                "no '}' closes the block of 'b', at F:2",
                "no '}' closes the block of 'a', at F:1",
                "no '}' closes the block of 'e', at F:6"
            ]
        );
        assert_eq!(text, "a { b { c } d } e { f }");
        assert!(mend("a {\n}\n}\n").0.is_empty());
        assert!(mend("a {\nb {\nc\n}\n}\n").0.is_empty());
    }
}
