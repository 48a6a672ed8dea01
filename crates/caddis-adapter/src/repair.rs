//! What is fine of a file with mistakes, so that it can be checked further.
//!
//! The lines at fault are taken out, and the rest is adapted again, until it adapts. What shows on the
//! way is told nowhere: most of it would be a consequence. [`Gone`] tells what was taken out, so that
//! nobody complains of a thing which is only missing because of that.

use std::collections::{BTreeMap, BTreeSet};

use caddis_caddyfile::{Diagnostic, File, Quote, Segment, ServerBlock, Span, Token};
use caddis_core::Registry;
use smol_str::SmolStr;

use crate::locate::holds_word;
use crate::recover::{line_start, main_span, put_right, statement_end, supply};
use crate::{Adapted, adapt_traced, matchers, options};

/// Most times that a file is adapted to find out what is fine.
const ROUNDS: usize = 12;
/// Most looks at words, over all rounds: each mistake is looked for among all words of the file. Of a
/// file beyond this, with thousands of mistakes, the rest says little.
const LOOKS: usize = 200_000_000;
/// Looks at a word that adapting it stands for.
const ADAPTING: usize = 50;

/// Lines whose blocks hold directives.
const HOLDS_DIRECTIVES: &[&str] =
    &["handle", "handle_errors", "handle_path", "handle_response", "replace_status", "route"];

/// The matcher that stands for one whose definition has a mistake: of it nothing is known but that it
/// may match or not.
const UNKNOWN: [&str; 2] = ["header", "Caddis-Unknown-Matcher"];

/// A file without its mistakes.
#[derive(Debug)]
pub struct Repaired {
    /// What is left of the file.
    pub file: File,
    /// The configuration that this makes, with all places.
    pub adapted: Adapted,
    /// What was taken out.
    pub gone: Gone,
}

/// What was taken out of a file.
#[derive(Debug, Default)]
pub struct Gone {
    /// Directives and options that lost something of their own, by the places of their names.
    directives: BTreeSet<Span>,
    /// All words of these, and the names of those around them.
    touched: BTreeSet<Span>,
    /// The first addresses of sites, and names of named routes, that lost something.
    blocks: BTreeSet<Span>,
    /// Whether an option went without which sites may be other ones.
    options: bool,
    /// The words that went, without those that begin a line.
    words: BTreeSet<SmolStr>,
}

impl Gone {
    /// Whether a mistake in what is left may be there only because of what was taken out: it is about
    /// a directive or a site as a whole that is no longer whole, or names something that went.
    pub fn explains(&self, mistake: &Diagnostic) -> bool {
        const ABSENT: [&str; 6] =
            ["missing", "no ", "not defined", "not found", "undefined", "unknown"];
        let is_about = |span: Span| self.directives.contains(&span) || self.blocks.contains(&span);
        let message = mistake.message.as_str();
        main_span(mistake).is_some_and(is_about)
            || (ABSENT.iter().any(|part| message.contains(part))
                && self.words.iter().any(|word| holds_word(message, word)))
    }

    /// Whether nothing of a block was taken out.
    pub(crate) fn is_whole(&self, block: &ServerBlock) -> bool {
        block.keys.first().is_none_or(|key| !self.blocks.contains(&key.span))
    }

    /// Whether no option was taken out without which sites may be other ones.
    pub(crate) fn options_are_whole(&self) -> bool {
        !self.options
    }

    /// Whether a finding is about directives of which nothing was taken out.
    pub(crate) fn leaves_alone(&self, finding: &Diagnostic) -> bool {
        finding.labels.iter().all(|(span, _)| !self.touched.contains(span))
    }

    /// Notes that something of a block goes.
    fn block(&mut self, block: &ServerBlock) {
        self.blocks.extend(block.keys.first().map(|key| key.span));
    }

    /// Notes that something in the directive around a place goes.
    fn directive_of(&mut self, segment: &Segment, is_named_route: bool, span: Span) {
        let places = (0..segment.0.len()).filter(|at| segment.0[*at].span == span);
        for at in places {
            let lines = lines_around(segment, at);
            let start = lines[own_directive(segment, &lines, is_named_route)];
            self.directives.insert(segment.0[start].span);
            self.touched.extend(lines.iter().map(|line| segment.0[*line].span));
            let words = &segment.0[start..statement_end(segment, start)];
            self.touched.extend(words.iter().map(|word| word.span));
        }
    }

    fn words_of(&mut self, tokens: &[Token]) {
        let begins = |at: usize| at == 0 || tokens[at - 1].next_is_on_new_line(&tokens[at]);
        let words = (0..tokens.len()).filter(|at| !begins(*at)).map(|at| &tokens[at]);
        self.words.extend(words.filter(|word| word.text.len() > 1).map(|word| word.text.clone()));
    }
}

/// Takes out of a file what these mistakes of the adapter are about, and what keeps it from being
/// adapted then. `None` where that cannot be found out, or not in a time linear in the file's length.
pub fn repair(
    mut file: File,
    mut mistakes: Vec<Diagnostic>,
    registry: &Registry,
) -> Option<Repaired> {
    let mut gone = Gone::default();
    let mut tries: BTreeMap<Span, usize> = BTreeMap::new();
    let words = file.blocks.iter().flat_map(|block| &block.segments).map(|one| one.0.len()).sum();
    let mut looks = LOOKS;
    for round in 0..ROUNDS {
        looks = looks.checked_sub((mistakes.len() + ADAPTING).saturating_mul(words))?;
        let mut changed = mistakes.is_empty();
        for mistake in &mistakes {
            let Some(span) = main_span(mistake) else { continue };
            let tried = tries.entry(span).or_default();
            *tried += 1;
            let force = Force::of(*tried, round);
            let blocks = &mut file.blocks;
            changed |= take_out(blocks, mistake, span, force, &mut gone);
        }
        keep_matchers(&mut file.blocks, &gone);
        if !changed {
            return None;
        }
        match adapt_traced(&file, registry) {
            Ok(adapted) => return Some(Repaired { file, adapted, gone }),
            Err(more) => mistakes = more,
        }
    }
    None
}

/// How much is taken out for a mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Force {
    /// The line.
    Line,
    /// The directive.
    Directive,
    /// All of the directive of the site, with everything in it.
    Segment,
}

impl Force {
    /// More with each time that the same place is at fault.
    fn of(tried: usize, round: usize) -> Self {
        match tried {
            _ if round >= ROUNDS / 2 => Self::Segment,
            1 => Self::Line,
            2 => Self::Directive,
            _ => Self::Segment,
        }
    }
}

/// Uses matchers that only lines use which were taken out, so that their own mistakes show.
fn keep_matchers(blocks: &mut [ServerBlock], gone: &Gone) {
    for block in blocks.iter_mut().filter(|block| !block.is_named_route) {
        let keeps = |name: &Token| {
            let is_kept = |segment: &Segment| {
                segment
                    .0
                    .get(1)
                    .is_some_and(|word| word.span == name.span && word.text == name.text)
            };
            block.segments.iter().any(is_kept)
        };
        let names = block.segments.iter().filter_map(Segment::name);
        let names = names.filter(|name| name.text.starts_with(matchers::PREFIX));
        let lost = names.filter(|name| gone.words.contains(&name.text) && !keeps(name));
        let uses: Vec<Segment> = lost
            .map(|name| {
                let word = |text: &str| Token { quote: Quote::None, ..name.with_text(text) };
                Segment(vec![word("vars"), name.clone(), word("caddis.kept"), word("1")])
            })
            .collect();
        block.segments.extend(uses);
    }
}

/// Takes out what a mistake is about. Says whether something changed.
fn take_out(
    blocks: &mut Vec<ServerBlock>,
    mistake: &Diagnostic,
    span: Span,
    force: Force,
    gone: &mut Gone,
) -> bool {
    let mut changed = false;
    blocks.retain_mut(|block| {
        let is_block = block.open == Some(span) && !span.is_none();
        if is_block || block.keys.iter().any(|key| key.span == span) {
            changed = true;
            gone.block(block);
            block.keys.retain(|key| key.span != span);
            gone.block(block);
            let is_site = !is_block && mistake.code != "adapter::key" && !block.is_named_route;
            return is_site && !block.keys.is_empty();
        }
        let holds = |segment: &Segment| segment.0.iter().any(|token| token.span == span);
        if !block.segments.iter().any(holds) {
            return true;
        }
        changed = true;
        gone.block(block);
        let mut segments = block.segments.iter().filter(|segment| holds(segment));
        gone.options |= block.keys.is_empty()
            && segments.any(|segment| options::shapes_sites(segment.directive()));
        if force == Force::Line
            && let Some(meant) = &mistake.meant
        {
            // In its block there may be other mistakes.
            gone.directives.insert(span);
            gone.touched.insert(span);
            let is_named_route = block.is_named_route;
            let is_part =
                mistake.code != "adapter::unknown_directive" && unknown_matcher(mistake).is_none();
            for segment in block.segments.iter_mut().filter(|segment| holds(segment)) {
                if is_part {
                    gone.directive_of(segment, is_named_route, span);
                }
                put_right(segment, span, meant);
            }
            return true;
        }
        if let Some(line) = mistake.lacks.filter(|_| force == Force::Line) {
            let is_named_route = block.is_named_route;
            let mut supplied = false;
            for segment in block.segments.iter_mut().filter(|segment| holds(segment)) {
                gone.directive_of(segment, is_named_route, span);
                supplied |= supply(segment, span, line);
            }
            if supplied {
                return true;
            }
        }
        let unknown = unknown_matcher(mistake);
        match unknown.filter(|_| force == Force::Line && !block.is_named_route) {
            Some(token) => block.segments.push(opaque(token)),
            None => {
                for segment in &mut block.segments {
                    out_of_segment(segment, block.is_named_route, span, force, gone);
                }
                block.segments.retain(|segment| !segment.0.is_empty());
            }
        }
        true
    });
    changed
}

/// The word that names a matcher which is not defined, if that is the mistake.
fn unknown_matcher(mistake: &Diagnostic) -> Option<Token> {
    let (_, name) = mistake.message.rsplit_once("unrecognized matcher name: ")?;
    let name = name.split([',', ' ']).next().filter(|name| name.starts_with(matchers::PREFIX))?;
    let (span, _) = mistake.labels.first()?;
    Some(Token { text: name.into(), span: *span, ..Token::default() })
}

/// The definition of a matcher of which nothing is known.
fn opaque(name: Token) -> Segment {
    let value = name.text.to_string();
    let words = UNKNOWN.into_iter().chain([value.as_str()]);
    let mut tokens = vec![name.clone()];
    tokens.extend(words.map(|word| name.with_text(word)));
    Segment(tokens)
}

/// Takes out of a segment what is at a place; a segment of which nothing is left is empty.
fn out_of_segment(
    segment: &mut Segment,
    is_named_route: bool,
    span: Span,
    force: Force,
    gone: &mut Gone,
) {
    let is_here = |token: &Token| token.span == span;
    let places: Vec<usize> =
        (0..segment.0.len()).filter(|at| is_here(&segment.0[*at])).rev().collect();
    for at in places {
        if !segment.0.get(at).is_some_and(is_here) {
            // It went with the one after it.
            continue;
        }
        let lines = lines_around(segment, at);
        let own = own_directive(segment, &lines, is_named_route);
        let start = lines[own];
        gone.directives.insert(segment.0[start].span);
        gone.touched.extend(lines.iter().map(|line| segment.0[*line].span));
        let words = &segment.0[start..statement_end(segment, start)];
        gone.touched.extend(words.iter().map(|word| word.span));
        let line = lines.last().copied().unwrap_or_default();
        let is_definition = segment.0[start].text.starts_with(matchers::PREFIX);
        let begins_block = line == 0 || HOLDS_DIRECTIVES.contains(&segment.0[line].text.as_str());
        let range = match force {
            Force::Line if is_definition => {
                let end = statement_end(segment, start);
                let name = Token { quote: Quote::None, ..segment.0[start].clone() };
                segment.0.splice(start..end, opaque(name).0);
                continue;
            }
            Force::Line if at > line && begins_block && opens_block(segment, line) => at..at + 1,
            Force::Line if line > 0 => line..statement_end(segment, line),
            Force::Directive if start > 0 => start..statement_end(segment, start),
            _ => 0..segment.0.len(),
        };
        gone.words_of(&segment.0[range.clone()]);
        segment.0.drain(range);
    }
}

/// Where the line of a token begins, and those of the blocks around it; the outermost first.
fn lines_around(segment: &Segment, at: usize) -> Vec<usize> {
    let mut lines = vec![line_start(segment, at)];
    let mut depth = 0_usize;
    for before in (0..lines[0]).rev() {
        let token = &segment.0[before];
        if token.is_close_brace() {
            depth += 1;
        } else if token.is_open_brace() {
            if depth == 0 {
                lines.push(line_start(segment, before));
            }
            depth = depth.saturating_sub(1);
        }
    }
    lines.dedup();
    lines.reverse();
    lines
}

/// Which of the lines around a place, outermost first, is the innermost directive.
fn own_directive(segment: &Segment, lines: &[usize], is_named_route: bool) -> usize {
    let holds = |number: &usize| {
        let name = segment.0[lines[*number]].text.as_str();
        HOLDS_DIRECTIVES.contains(&name) || (is_named_route && *number == 0)
    };
    (1..lines.len()).rev().find(|number| holds(&(number - 1))).unwrap_or_default()
}

fn opens_block(segment: &Segment, line: usize) -> bool {
    let tokens = &segment.0;
    let ends =
        |at: &usize| tokens.get(at + 1).is_none_or(|next| tokens[*at].next_is_on_new_line(next));
    (line..tokens.len()).find(ends).is_some_and(|last| tokens[last].is_open_brace())
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::tokenize;

    use super::*;

    fn without(text: &str, word: &str, force: Force) -> (String, Gone) {
        let mut segment = Segment(tokenize("F", text).unwrap());
        let span = segment.0.iter().find(|token| token.text == word).unwrap().span;
        let mut gone = Gone::default();
        out_of_segment(&mut segment, false, span, force, &mut gone);
        let words: Vec<_> = segment.0.iter().map(|token| token.text.as_str()).collect();
        (words.join(" "), gone)
    }

    #[test]
    fn the_least_is_taken_out_first() {
        let text = "handle /a /b {\n\t@m path x\n\troute {\n\t\tproxy u {\n\t\t\tpolicy some thing\n\t\t\tport 1\n\t\t}\n\t}\n}";
        let (rest, gone) = without(text, "some", Force::Line);
        assert_eq!(rest, "handle /a /b { @m path x route { proxy u { port 1 } } }");
        assert_eq!((gone.directives.len(), gone.touched.len()), (1, 11));
        assert!(gone.words.contains("thing") && !gone.words.contains("policy"));
        let (rest, _) = without(text, "some", Force::Directive);
        assert_eq!(rest, "handle /a /b { @m path x route { } }");
        assert_eq!(without(text, "some", Force::Segment).0, "");
        let (rest, _) = without(text, "/b", Force::Line);
        assert_eq!(rest, "handle /a { @m path x route { proxy u { policy some thing port 1 } } }");
        let (rest, gone) = without(text, "path", Force::Line);
        assert!(rest.contains("@m header Caddis-Unknown-Matcher @m route"), "{rest}");
        assert!(gone.words.is_empty());
    }

    #[test]
    fn thousands_of_mistakes_are_left_alone() {
        let text = format!("a.example {{\n{}}}\n", "\trespond c\n".repeat(20_000));
        let (file, _) = caddis_caddyfile::parse("F", text.as_bytes(), &caddis_caddyfile::FsLoader);
        let span = file.blocks[0].segments[0].0[1].span;
        let mistake = Diagnostic::error("wrong").label(span, "here");
        let registry = crate::tests::registry();
        let few = File { blocks: file.blocks.clone(), ..File::default() };
        assert!(repair(few, vec![mistake.clone(); 2], &registry).is_some());
        assert!(repair(file, vec![mistake; 10_000], &registry).is_none());
    }

    #[test]
    fn what_may_be_a_consequence() {
        let mut gone = Gone::default();
        gone.words_of(&tokenize("F", "pki {\n\tca corp\n}").unwrap());
        let explains = |message: &str| gone.explains(&Diagnostic::error(message));
        assert!(explains("no certificate authority with id 'corp'"));
        assert!(!explains("unknown module: x") && !explains("the name corp is taken"));
    }
}
