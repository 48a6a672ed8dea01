//! Going on after a mistake inside a directive: the line with the mistake is left out and the rest is
//! read again, for as long as that shows further mistakes at other places.

use caddis_caddyfile::{Diagnostic, Segment, Span};
use smol_str::SmolStr;

/// Most mistakes looked for in one directive.
const LIMIT: usize = 32;

/// The first mistake of a directive, and those that show when the lines at fault are left out.
///
/// A mistake at the directive's own line counts only if it is the first; what is reported there after
/// something was left out is most likely a consequence.
pub(crate) fn all(
    segment: &Segment,
    first: Diagnostic,
    mut run: impl FnMut(&Segment) -> Option<Diagnostic>,
) -> Vec<Diagnostic> {
    let mut last = main_span(&first);
    let mut found = vec![first];
    let mut segment = segment.clone();
    // Matchers whose definitions were left out: their uses are no further mistakes.
    let mut undefined: Vec<SmolStr> = Vec::new();
    for _ in 1..LIMIT {
        let Some(span) = last else { break };
        undefined.extend(defined_at(&segment, span));
        if !match_all(&mut segment, span, &undefined) && !leave_out(&mut segment, span) {
            break;
        }
        let Some(next) = run(&segment) else { break };
        let seen = |span: Span| found.iter().any(|old| main_span(old) == Some(span));
        last = main_span(&next);
        match last {
            Some(span) if !seen(span) && is_inside(&segment, span) => {
                // A use of what was left out is not reported, and matches everything from now on.
                if !undefined.iter().any(|name| is_about(&next, name)) {
                    found.push(next);
                }
            }
            _ => break,
        }
    }
    found
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
