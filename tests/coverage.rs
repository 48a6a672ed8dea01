//! Each word of the Caddyfile language and each sentence about a mistake has a fixture.
//!
//! Words are those by which the sources tell subdirectives, options and modules apart; sentences are
//! the texts that they give to diagnostics. A new one without a fixture fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where Caddyfiles are read.
const FOLDERS: [&str; 6] = [
    "crates/caddis-caddyfile/src",
    "crates/caddis-adapter/src",
    "crates/caddis-http/src/handlers",
    "crates/caddis-http/src/matchers",
    "crates/caddis-http/src/encoders",
    "crates/caddis-proxy/src",
];

/// Files in which match arms are words of the language.
const WORDS_IN: [&str; 12] = [
    "caddis-adapter/src/directives/",
    "caddis-adapter/src/options/",
    "caddis-adapter/src/log_config/",
    "caddis-adapter/src/issuer.rs",
    "caddis-adapter/src/storage.rs",
    "caddis-http/src/handlers/",
    "caddis-http/src/matchers/",
    "caddis-http/src/encoders/",
    "caddis-proxy/src/reverse_proxy/subdirectives.rs",
    "caddis-proxy/src/selection/directive.rs",
    "caddis-proxy/src/upstreams/mod.rs",
    "caddis-proxy/src/transport/http/directive.rs",
];

/// Words of match arms that are none of the language, and why.
const NO_WORDS: [(&str, &str); 7] = [
    ("burst", "only its refusal is left"),
    ("core", "there is no core to name"),
    ("filesystem", "there is no file system to name"),
    ("forwarded", "only its refusal is left"),
    ("pem_files", "a key of JSON"),
    ("set_cookie", "a key of JSON"),
    ("status_text", "a placeholder"),
];

/// Sentences that no Caddyfile of ordinary size gives, and why.
const UNREACHED: [(&str, &str); 15] = [
    (
        "Caddyfile input is not formatted; run 'caddy fmt --overwrite' to fix inconsistencies",
        "adapt",
    ),
    ("Could not read tokens while importing {path}: {error}", "a text of hundreds of MiB"),
    ("Import file is empty: {path}", "names a whole path"),
    ("adding regexp operation for field {field}: {why}", "patterns of thousands of bytes"),
    ("blocks are nested too deeply", "hundreds of blocks"),
    ("files and snippets import each other in too many ways", "thousands of imports"),
    (
        "getting module named 'http.handlers.reverse_proxy': module not registered: http.handlers.reverse_proxy",
        "a build without it",
    ),
    ("imports are nested too deeply", "hundreds of imports"),
    ("imports make the configuration too large", "millions of tokens"),
    ("the text is too long after replacing environment variables", "variables of MiB"),
    ("invalid regexp name (must contain only word characters): {}", "shows when JSON is loaded"),
    (
        "invalid use of placeholders in dial address for active health checks",
        "shows when JSON is loaded",
    ),
    ("invoke: route '{}' invokes itself", "shows when JSON is loaded"),
    ("invoke: route '{}' not found", "shows when JSON is loaded"),
    ("storage modules are not supported in trust pools yet", "shows when JSON is loaded"),
];

/// What stands before a text that becomes a sentence.
const SAID_BY: [&str; 6] =
    [".err(", "Diagnostic::error(", "Diagnostic::warning(", ".error(", ".warn(", "let message ="];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The code of all sources that read Caddyfiles, without tests and comments.
fn sources() -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            if path.is_dir() {
                if !shown.ends_with("lints") && !shown.ends_with("tests") {
                    folders.push(path);
                }
            } else if shown.ends_with(".rs") && !shown.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                all.push((shown, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    all.sort();
    all
}

fn fixtures(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join("fixtures").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.to_str().is_some_and(|name| name.ends_with(end)));
    paths.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// A text in quotes at the start of the code, with its escapes read.
fn literal(code: &str) -> Option<String> {
    let mut chars = code.strip_prefix('"')?.chars().peekable();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                '\n' => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    None
}

/// The texts that the sources give to diagnostics, with the file of each.
fn sentences() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, code) in sources() {
        for (at, start) in SAID_BY.iter().flat_map(|start| code.match_indices(start)) {
            let mut rest = code[at + start.len()..].trim_start();
            for around in ["&", "format_args!(", "format!("] {
                rest = rest.strip_prefix(around).unwrap_or(rest).trim_start();
            }
            if let Some(text) = literal(rest) {
                all.entry(text).or_insert_with(|| path.clone());
            }
        }
    }
    all
}

/// What stays the same in a text with places in braces.
fn fixed_parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("there is one");
        match c {
            '{' if chars.next_if_eq(&'{').is_some() => last.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => last.push('}'),
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                parts.push(String::new());
            }
            other => last.push(other),
        }
    }
    parts.iter().map(|part| plain(part)).collect()
}

/// One line without what a drawing has at the left.
fn plain(text: &str) -> String {
    let kept = text.split(|c: char| c.is_whitespace() || "│×⚠".contains(c));
    kept.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn shows(sentence: &str, parts: &[String]) -> bool {
    let mut rest = sentence;
    parts.iter().all(|part| match rest.split_once(part.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn every_sentence_has_a_fixture() {
    let mut shown: Vec<String> = fixtures("errors", ".txt");
    shown.extend(fixtures("check", ".txt"));
    let shown: Vec<String> = shown.iter().map(|text| plain(text)).collect();
    let all = sentences();
    assert!(all.len() > 250, "the sentences are not found: {}", all.len());
    let lacking: Vec<String> = all
        .iter()
        .filter(|(text, _)| {
            let parts = fixed_parts(text);
            // Of a text that is all placeholders nothing can be found.
            let says = parts.iter().any(|part| part.len() > 3);
            let excused = UNREACHED.iter().any(|(known, _)| known == text);
            says && !excused && !shown.iter().any(|sentence| shows(sentence, &parts))
        })
        .map(|(text, path)| format!("{path}: {text}"))
        .collect();
    let unknown: Vec<_> = UNREACHED.iter().filter(|(text, _)| !all.contains_key(*text)).collect();
    assert!(unknown.is_empty(), "no longer said: {unknown:?}");
    assert!(lacking.is_empty(), "{} without a fixture:\n{}", lacking.len(), lacking.join("\n"));
}

/// The words of a match arm: `"a" | "b" if … =>`.
fn arm_words(line: &str) -> Vec<&str> {
    let Some((pattern, _)) = line.split_once("=>") else { return Vec::new() };
    let pattern = pattern.split(" if ").next().unwrap_or_default();
    let pattern = pattern.split_once(" @ ").map_or(pattern, |(_, rest)| rest);
    let pattern = pattern.trim().trim_start_matches('(').trim_end_matches(')');
    let quoted = |part: &str| {
        let part = part.trim();
        part.len() > 2 && part.starts_with('"') && part.ends_with('"')
    };
    if !pattern.split('|').all(quoted) {
        return Vec::new();
    }
    pattern.split('|').map(|part| part.trim().trim_matches('"')).collect()
}

/// The name of an entry of a table: `("name", function)` or `GlobalOption { name: "name", … }`.
fn table_word(line: &str) -> Option<&str> {
    if let Some((_, rest)) = line.split_once("GlobalOption { name: \"") {
        return rest.split('"').next();
    }
    let (name, rest) = line.trim().strip_prefix("(\"")?.split_once("\", ")?;
    let function = rest.trim_end_matches(',').strip_suffix(')')?;
    let is_path = |c: char| c.is_ascii_lowercase() || "_:".contains(c);
    function.chars().all(is_path).then_some(name)
}

#[test]
fn every_word_has_a_fixture() {
    let mut words: BTreeMap<String, String> = BTreeMap::new();
    for (path, code) in sources() {
        // Templates and expressions have words of their own.
        let inside = (path.contains("/templates/") && !path.ends_with("/templates/mod.rs"))
            || path.contains("/matchers/expression/");
        if inside || !WORDS_IN.iter().any(|part| path.contains(part)) {
            continue;
        }
        for word in
            code.lines().flat_map(|line| arm_words(line).into_iter().chain(table_word(line)))
        {
            let is_word =
                word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_word {
                words.entry(word.to_owned()).or_insert_with(|| path.clone());
            }
        }
    }
    assert!(words.len() > 200, "the words are not found: {}", words.len());
    let text = fixtures("adapt", ".Caddyfile").join("\n");
    let shown: BTreeSet<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let lacking: Vec<String> = words
        .iter()
        .filter(|(word, _)| {
            !shown.contains(word.as_str()) && !NO_WORDS.iter().any(|(known, _)| known == word)
        })
        .map(|(word, path)| format!("{path}: {word}"))
        .collect();
    assert!(lacking.is_empty(), "{} without a fixture:\n{}", lacking.len(), lacking.join("\n"));
}

#[test]
fn every_directive_has_a_fixture() {
    let text = fixtures("adapt", ".Caddyfile").join("\n");
    let first_words: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let registry = fs::read_to_string(root().join("crates/caddis/registry.rs")).unwrap();
    let order = registry.split_once("const ORDER").map_or("", |(_, list)| list);
    let order = order.split_once("];").map_or("", |(list, _)| list);
    let ordered = order.lines().filter_map(|line| {
        let word = line.trim().strip_prefix('"')?.strip_suffix("\",")?;
        word.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(word)
    });
    let all: Vec<&str> = ordered.chain(["bind", "tls", "log", "handle_errors", "import"]).collect();
    assert!(all.len() > 40, "the directives are not found: {all:?}");
    let lacking: Vec<_> = all.iter().filter(|word| !first_words.contains(*word)).collect();
    assert!(lacking.is_empty(), "without a fixture: {lacking:?}");
}
