//! The formatter: the same after a second run, and no token is lost or changed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let once = caddis_caddyfile::format(text.as_bytes());
    let twice = caddis_caddyfile::format(&once);
    assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice), "second run");
    let once = std::str::from_utf8(&once).expect("formatting keeps text");
    let Ok(before) = caddis_caddyfile::tokenize("Caddyfile", text) else { return };
    let after = caddis_caddyfile::tokenize("Caddyfile", once).expect("still a token list");
    assert_eq!(pieces(&before), pieces(&after), "tokens");
});

/// The texts; braces may be set apart from the word they are written at.
fn pieces(tokens: &[caddis_caddyfile::Token]) -> Vec<String> {
    let mut all = Vec::new();
    for token in tokens {
        if token.is_quoted() {
            all.push(format!("quoted {}", token.text));
            continue;
        }
        let spaced = token.text.replace('{', " { ").replace('}', " } ");
        all.extend(spaced.split(' ').filter(|piece| !piece.is_empty()).map(str::to_owned));
    }
    all
}
