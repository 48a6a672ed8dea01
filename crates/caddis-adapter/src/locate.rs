//! From a place in the configuration back to the word of the Caddyfile.

use caddis_caddyfile::{File, Segment, Span, Token};

use crate::{Adapted, Place};

/// Parts of the configuration whose subdirective has another name.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("client_authentication", "client_auth"),
    ("default_sni", "default_sni"),
    ("dynamic_upstreams", "dynamic"),
    ("handle_response", "handle_response"),
    ("issuers", "issuer"),
    ("response_buffers", "response_buffers"),
    ("selection_policy", "lb_policy"),
    ("uri", "health_uri"),
    ("certificate_selection", "certificate"),
    ("providers", "bcrypt"),
    ("expect_body", "health_body"),
    ("expect_status", "health_status"),
    ("fail_duration", "fail_duration"),
    ("headers", "health_headers"),
    ("request_buffers", "request_buffers"),
    ("root_ca_pem_files", "tls_trusted_ca_certs"),
    ("ca", "tls_trust_pool"),
    ("client_certificate_file", "tls_client_auth"),
];

/// The word that is to blame for a mistake at a dotted path of the configuration, as near as is known.
pub fn locate(file: &File, adapted: &Adapted, path: &str, message: &str) -> Option<Token> {
    if let Some(place) = adapted.origins.directive(path) {
        if let Some(token) = in_matcher(file, place, path, message) {
            return Some(token);
        }
        let near = segment_at(file, place.token.span).and_then(|tokens| refine(tokens, path));
        return Some(near.unwrap_or_else(|| place.token.clone()));
    }
    if let Some(span) = adapted.origins.find(path) {
        let tokens = segment_at(file, span);
        return tokens.and_then(|tokens| refine(tokens, path)).or_else(|| token_at(file, span));
    }
    named_in(file, message)
}

/// The word of a named matcher's definition that a mistake in the matcher is about: the one that the
/// message holds, else the kind of matcher.
fn in_matcher(file: &File, place: &Place, path: &str, message: &str) -> Option<Token> {
    let definition = place.definition.as_ref()?;
    let (_, inner) = path.rsplit_once(".match.")?;
    if inner.contains(".handle.") {
        return None;
    }
    let kind = inner.split('.').nth(1)?;
    let words = segment_at(file, definition.span)?.get(1..)?;
    let at = words.iter().position(|word| word.text == kind);
    let after = words.get(at.map_or(0, |at| at + 1)..).unwrap_or_default();
    let named = after.iter().filter(|word| holds_word(message, &word.text));
    let named = named.max_by_key(|word| word.text.len());
    named.or_else(|| words.get(at?)).or(Some(definition)).cloned()
}

/// Whether a message holds a text that is no part of a longer word there.
pub(crate) fn holds_word(message: &str, text: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.len() > 1
        && message.match_indices(text).any(|(at, _)| {
            let before = message.get(..at).and_then(|before| before.chars().next_back());
            let after = message.get(at + text.len()..).and_then(|after| after.chars().next());
            !inside(before) && !inside(after)
        })
}

/// The tokens from a place to the end of the segment that it is in, nested blocks and all.
fn segment_at(file: &File, span: Span) -> Option<&[Token]> {
    let segments = file.blocks.iter().flat_map(|block| &block.segments);
    segments
        .filter_map(|Segment(tokens)| {
            let at = tokens.iter().position(|token| token.span == span)?;
            let mut depth = 0_usize;
            let mut end = at;
            for token in &tokens[at..] {
                let ends_line =
                    tokens.get(end + 1).is_none_or(|next| token.next_is_on_new_line(next));
                end += 1;
                depth += usize::from(token.is_open_brace() && ends_line);
                depth = depth.saturating_sub(usize::from(token.is_close_brace() && ends_line));
                if depth == 0 && ends_line {
                    break;
                }
            }
            Some(&tokens[at..end])
        })
        .next()
}

/// The line of a directive's block that a part of a path is named after, the innermost part first.
fn refine(tokens: &[Token], path: &str) -> Option<Token> {
    let first_of_line = |at: usize| tokens[at - 1].next_is_on_new_line(&tokens[at]);
    path.rsplit('.').take_while(|part| *part != "handle").find_map(|part| {
        let other = OTHER_NAMES.iter().find(|(name, _)| *name == part).map(|(_, word)| *word);
        let found = (1..tokens.len()).filter(|at| first_of_line(*at)).find(|at| {
            tokens[*at].text == part || other.is_some_and(|name| tokens[*at].text == name)
        });
        found.map(|at| tokens[at].clone())
    })
}

fn all_tokens(file: &File) -> impl Iterator<Item = &Token> {
    file.blocks
        .iter()
        .flat_map(|block| block.segments.iter().flat_map(|segment| &segment.0).chain(&block.keys))
}

fn token_at(file: &File, span: Span) -> Option<Token> {
    all_tokens(file).find(|token| token.span == span).cloned()
}

/// A word with a path or URL in it that the message names.
fn named_in(file: &File, message: &str) -> Option<Token> {
    if let Some((_, id)) = message.split_once("unknown module: ") {
        let name = id.rsplit('.').next().unwrap_or(id);
        return all_tokens(file).find(|token| token.text == name).cloned();
    }
    if let Some((_, level)) = message.split_once("unrecognized log level: ") {
        let mut tokens = all_tokens(file).peekable();
        while let Some(token) = tokens.next() {
            if token.text == "level"
                && let Some(value) = tokens.peek()
                && value.text.eq_ignore_ascii_case(level)
            {
                return Some((*value).clone());
            }
        }
        return None;
    }
    all_tokens(file)
        .find(|token| {
            token.text.len() > 3
                && token.text.contains(['/', '.'])
                && message.contains(&*token.text)
        })
        .cloned()
}
