//! Going on after a mistake inside a directive: a mistyped word is read as what it was meant to be, any
//! other line with a mistake is left out, and the rest is read again, for as long as that shows further
//! mistakes at other places.

use caddis_caddyfile::{Diagnostic, Segment, Span, Token};
use caddis_core::Registry;
use smol_str::SmolStr;

use crate::hints;

/// Most mistakes looked for in one directive.
const LIMIT: usize = 32;
/// Most words read again in all, so that in huge directives fewer mistakes are looked for.
const WORK: usize = 400_000;

/// The first mistake of a directive, and those that show when the lines at fault are put right or left
/// out.
///
/// A mistake at the directive's own line counts only if it is the first; what is reported there after
/// something was left out is most likely a consequence.
pub(crate) fn all(
    segment: &Segment,
    first: Diagnostic,
    registry: &Registry,
    mut run: impl FnMut(&Segment) -> Option<Diagnostic>,
) -> Vec<Diagnostic> {
    let mut segment = segment.clone();
    let mut last = hints::improve(first, Some(&segment), registry);
    let mut found = vec![last.clone()];
    // Mistyped words that are read as what they were meant to be.
    let mut corrected: Vec<Span> = Vec::new();
    // Matchers whose definitions were left out: their uses are no further mistakes.
    let mut undefined: Vec<SmolStr> = Vec::new();
    for _ in 1..LIMIT.min((WORK / segment.0.len().max(1)).max(2)) {
        let Some(span) = main_span(&last) else { break };
        let supplied = last.lacks.is_some_and(|line| supply(&mut segment, span, line));
        if !supplied && !read_as_meant(&mut segment, &last, &mut corrected) {
            undefined.extend(defined_at(&segment, span));
            if !match_all(&mut segment, span, &undefined) && !leave_out(&mut segment, span) {
                break;
            }
        }
        let Some(next) = run(&segment) else { break };
        last = hints::improve(next, Some(&segment), registry);
        let Some(span) = main_span(&last) else { break };
        let is_guess = corrected.contains(&span)
            || (hints::is_second(&last.message) && holds_any(&segment, span, &corrected));
        let seen = found.iter().any(|old| main_span(old) == Some(span));
        if !is_inside(&segment, span) || (seen && !is_guess) {
            break;
        }
        // A use of what was left out is not reported, and matches everything from now on. What is wrong
        // with a word that stands for another one may be wrong with that alone.
        if !is_guess && !undefined.iter().any(|name| is_about(&last, name)) {
            found.push(last.clone());
        }
    }
    found
}

/// Puts the word that was meant in the place of a mistyped one. Says whether there was one to put right.
fn read_as_meant(segment: &mut Segment, error: &Diagnostic, corrected: &mut Vec<Span>) -> bool {
    let (Some(meant), Some(span)) = (&error.meant, main_span(error)) else { return false };
    if corrected.contains(&span) {
        return false;
    }
    corrected.push(span);
    put_right(segment, span, meant)
}

/// Puts a word in the place of those with this span. Says whether there are some.
pub(crate) fn put_right(segment: &mut Segment, span: Span, meant: &SmolStr) -> bool {
    let mut changed = false;
    for token in segment.0.iter_mut().filter(|token| token.span == span && token.text != *meant) {
        token.text.clone_from(meant);
        changed = true;
    }
    changed
}

/// Adds a line to the block of the directive that lacks it, and says whether there is such a block.
pub(crate) fn supply(segment: &mut Segment, span: Span, line: &str) -> bool {
    let tokens = &segment.0;
    let is_own = tokens.first().is_some_and(|token| token.span == span);
    let next = (1..tokens.len()).find(|at| tokens[at - 1].next_is_on_new_line(&tokens[*at]));
    let Some(next) = next.filter(|next| is_own && tokens[next - 1].is_open_brace()) else {
        return false;
    };
    // Words of no file are on a line of their own.
    segment.0.splice(next..next, line.split(' ').map(Token::synthetic));
    true
}

/// Whether the line of a place holds one of these.
fn holds_any(segment: &Segment, span: Span, spans: &[Span]) -> bool {
    let Some(at) = segment.0.iter().position(|token| token.span == span) else { return false };
    let start = line_start(segment, at);
    let tokens = &segment.0;
    let end = (at + 1..tokens.len()).find(|at| tokens[at - 1].next_is_on_new_line(&tokens[*at]));
    tokens[start..end.unwrap_or(tokens.len())].iter().any(|token| spans.contains(&token.span))
}

/// The name of the matcher that is defined around a place.
fn defined_at(segment: &Segment, span: Span) -> Option<SmolStr> {
    let tokens = &segment.0;
    let mut at = tokens.iter().position(|token| token.span == span)?;
    loop {
        let start = line_start(segment, at);
        let name = &tokens[start].text;
        if start > 0 && name.starts_with('@') {
            return Some(name.clone());
        }
        // On to the line whose block this one is in.
        let mut depth = 0_usize;
        at = (0..start).rev().find(|before| {
            depth += usize::from(tokens[*before].is_close_brace());
            let opens = tokens[*before].is_open_brace();
            if opens && depth > 0 {
                depth -= 1;
                return false;
            }
            opens
        })?;
    }
}

/// Puts `*` in the place of a matcher whose definition was left out. Says whether it is one.
fn match_all(segment: &mut Segment, span: Span, undefined: &[SmolStr]) -> bool {
    let uses: Vec<usize> = (0..segment.0.len())
        .filter(|at| segment.0[*at].span == span && undefined.contains(&segment.0[*at].text))
        // At the start of a line it is a definition.
        .filter(|at| line_start(segment, *at) != *at)
        .collect();
    for at in &uses {
        segment.0[*at].text = SmolStr::new_static("*");
    }
    !uses.is_empty()
}

/// Whether a mistake is that a matcher is not known.
fn is_about(error: &Diagnostic, matcher: &str) -> bool {
    let rest = error.message.rsplit_once("unrecognized matcher name: ");
    rest.is_some_and(|(_, rest)| rest.split([',', ' ']).next() == Some(matcher))
}

pub(crate) fn main_span(error: &Diagnostic) -> Option<Span> {
    error.labels.first().map(|(span, _)| *span)
}

/// Whether a place is in the block of a directive, not on its own line.
fn is_inside(segment: &Segment, span: Span) -> bool {
    let at = segment.0.iter().position(|token| token.span == span);
    at.is_some_and(|at| {
        // A mistake at a brace is about what is missing now.
        let is_brace = segment.0[at].is_open_brace() || segment.0[at].is_close_brace();
        !is_brace && line_start(segment, at) > 0
    })
}

pub(crate) fn line_start(segment: &Segment, at: usize) -> usize {
    let new_line = |at: &usize| segment.0[at - 1].next_is_on_new_line(&segment.0[*at]);
    (1..=at).rev().find(new_line).unwrap_or(0)
}

/// Takes out each line with this place, and the block that it opens; of the first line only the word
/// itself. Says whether anything was taken out.
fn leave_out(segment: &mut Segment, span: Span) -> bool {
    let mut changed = false;
    while let Some(at) = segment.0.iter().position(|token| token.span == span) {
        let token = &segment.0[at];
        if at == 0 || token.is_open_brace() || token.is_close_brace() {
            return changed;
        }
        let start = line_start(segment, at);
        if start == 0 {
            if segment.directive().starts_with('@') {
                // Without its kind the block of a matcher reads differently.
                return false;
            }
            segment.0.remove(at);
        } else {
            let end = statement_end(segment, start);
            segment.0.drain(start..end);
        }
        changed = true;
    }
    changed
}

/// One past the last token of the line that begins here and of its block.
pub(crate) fn statement_end(segment: &Segment, start: usize) -> usize {
    let tokens = &segment.0;
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        let ends_line = tokens.get(at + 1).is_none_or(|next| token.next_is_on_new_line(next));
        if token.is_open_brace() && ends_line {
            depth += 1;
        } else if token.is_close_brace() && ends_line {
            if depth == 0 {
                return at;
            }
            depth -= 1;
        }
        at += 1;
        if depth == 0 && ends_line {
            return at;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::tokenize;

    use super::*;

    #[test]
    fn lines_are_left_out_with_their_blocks() {
        let text = "a b {\n\tc d {\n\t\te\n\t}\n\tf g\n}";
        let mut segment = Segment(tokenize("F", text).unwrap());
        let at = |word: &str, segment: &Segment| {
            segment.0.iter().find(|token| token.text == word).map(|token| token.span)
        };
        let span = at("d", &segment).unwrap();
        assert!(is_inside(&segment, span));
        assert!(leave_out(&mut segment, span));
        let words: Vec<_> = segment.0.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(words, ["a", "b", "{", "f", "g", "}"]);
        let b = at("b", &segment).unwrap();
        assert!(!is_inside(&segment, b) && leave_out(&mut segment, b));
        assert!(!leave_out(&mut segment, b));
    }
}
