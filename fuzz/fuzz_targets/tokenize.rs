//! The lexer: no panic, lines only grow, and spans lie inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(tokens) = caddis_caddyfile::tokenize("Caddyfile", text) else { return };
    let mut line = 0;
    for token in &tokens {
        assert!(token.line >= line, "line {} after {line}", token.line);
        line = token.line;
        let range = token.span.start as usize..token.span.end as usize;
        assert!(text.get(range.clone()).is_some(), "span {range:?} of {} bytes", text.len());
    }
});
