//! Structure, imports and every mistake, on text.

use crate::loader::MemoryLoader;
use crate::{Diagnostic, File, ServerBlock, parse};

fn run(text: &str, loader: &MemoryLoader) -> (File, Vec<Diagnostic>) {
    parse("Caddyfile", text.as_bytes(), loader)
}

/// `keys { segment; segment }` for each block.
fn show(file: &File) -> Vec<String> {
    let block = |block: &ServerBlock| {
        let keys: Vec<_> = block.key_texts().collect();
        let segment = |tokens: &[crate::Token]| {
            tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
        };
        let segments: Vec<_> = block.segments.iter().map(|s| segment(&s.0)).collect();
        let mark = if block.is_named_route { "&" } else { "" };
        format!("{mark}{} [{}]", keys.join(" "), segments.join("; "))
    };
    file.blocks.iter().map(block).collect()
}

fn blocks_with(text: &str, loader: &MemoryLoader) -> Vec<String> {
    let (file, found) = run(text, loader);
    let errors: Vec<_> = found.iter().filter(|d| d.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{text}: {errors:?}");
    show(&file)
}

fn blocks(text: &str) -> Vec<String> {
    blocks_with(text, &MemoryLoader::new())
}

fn errors_with(text: &str, loader: &MemoryLoader) -> Vec<String> {
    let (_, found) = run(text, loader);
    found.iter().filter(|d| d.is_error()).map(ToString::to_string).collect()
}

fn errors(text: &str) -> Vec<String> {
    errors_with(text, &MemoryLoader::new())
}

fn warnings(text: &str) -> Vec<String> {
    let (_, found) = run(text, &MemoryLoader::new());
    found.iter().filter(|d| !d.is_error()).map(ToString::to_string).collect()
}

#[test]
fn structure() {
    assert_eq!(blocks(""), Vec::<String>::new());
    assert_eq!(blocks("\n# x\n"), Vec::<String>::new());
    assert_eq!(blocks("a.com"), ["a.com []"]);
    assert_eq!(blocks("a\nfoo x\nbar {\n\tbaz\n}"), ["a [foo x; bar { baz }]"]);
    assert_eq!(blocks("{\n\tadmin off\n}\n:80 {\n}\n"), [" [admin off]", ":80 []"]);
    assert_eq!(blocks("a, b,\nc d {\n\tx\n}"), ["a b c d [x]"]);
    assert_eq!(blocks("a , b\nx"), ["a b [x]"]);
    assert_eq!(blocks(":80 { respond x\n}"), [":80 [respond x]"]);
    assert_eq!(blocks("a {\n\tfoo {} x\n}"), ["a [foo {} x]"]);
    assert_eq!(blocks("a {\n\tfoo \"{\"\n}"), ["a [foo {]"]);
    assert_eq!(blocks("&(r) {\n\tx 1\n}\na\ny"), ["&r [r { x 1 }]", "a [y]"]);
}

#[test]
fn a_brace_left_out_at_the_end_is_a_warning() {
    let text = "a {\n\tb {\n\t\tc\n\t}\n";
    assert_eq!(blocks(text), ["a [b { c }]"]);
    assert_eq!(warnings(text).len(), 1);
}

#[test]
fn environment() {
    let loader = MemoryLoader::new().var("SITE", "a.com {\n\tfoo\n}");
    assert_eq!(
        blocks_with("{$SITE}\nb {\n\tx {$NO:1 2}\n}", &loader),
        ["a.com [foo]", "b [x 1 2]"]
    );
}

#[test]
fn address_mistakes() {
    assert_eq!(
        errors("@foo {\n\tpath /foo\n}\na {\n}"),
        [
            "request matchers may not be defined globally, they must be in a site block; found @foo, at Caddyfile:1"
        ]
    );
    assert_eq!(
        errors("a, {\n}"),
        ["Expected another address but had '{' - check for extra comma, at Caddyfile:1"]
    );
    assert_eq!(errors("a,"), ["unexpected EOF, at Caddyfile:1"]);
    assert_eq!(
        errors("a{\n\tx\n}\nb {\n}"),
        [
            "Site addresses cannot end with a curly brace: 'a{' - put a space between the token and the brace, at Caddyfile:1"
        ]
    );
    assert_eq!(
        errors("a,b {\n}"),
        [
            "Site addresses cannot contain a comma ',': 'a,b' - put a space after the comma to separate site addresses, at Caddyfile:1"
        ]
    );
    assert_eq!(
        errors("a {\n}\n}\nb {\n}"),
        ["Unexpected '}' because no matching opening brace, at Caddyfile:3"]
    );
}

#[test]
fn brace_mistakes() {
    assert_eq!(
        errors("a {\n\tb { c\n\t}\n}"),
        ["Unexpected next token after '{' on same line, at Caddyfile:2"]
    );
    assert_eq!(
        errors("a {\n\tb\n\t{\n\t\tc\n\t}\n}"),
        [
            "Unexpected '{' on a new line; did you mean to place the '{' on the previous line?, at Caddyfile:3"
        ]
    );
    assert_eq!(errors("a {\n\tb {}\n}"), ["Unexpected '{}' at end of line, at Caddyfile:2"]);
    assert_eq!(
        errors("a {\n\tb }\nc {\n}"),
        ["Unexpected '}' because no matching opening brace, at Caddyfile:2"]
    );
    assert_eq!(errors("a {\n\tb {\n"), ["unexpected EOF, at Caddyfile:2"]);
    assert_eq!(
        errors("a {\n\tb\n"),
        ["syntax error: unexpected token 'b', expecting '}', at Caddyfile:2 import chain: ['']"]
    );
    assert_eq!(
        errors("(a)\nb"),
        ["syntax error: unexpected token 'b', expecting '{', at Caddyfile:2 import chain: ['']"]
    );
    assert_eq!(
        errors("(a) {\nb"),
        ["syntax error: unexpected token 'b', expecting '}', at Caddyfile:2 import chain: ['']"]
    );
}

#[test]
fn all_mistakes_are_reported() {
    let found = errors("a {\n\tb {}\n\timport nothing\n\tc { d\n\t}\n}\n@x {\n\ty\n}\ne,f {\n}\n");
    let lines: Vec<_> = found.iter().filter_map(|e| e.rsplit(':').next()).collect();
    assert_eq!(lines, ["2", "3", "4", "7", "10"]);
}

#[test]
fn heredoc_mistakes_stop() {
    assert_eq!(
        errors(":80\nrespond <<<E\nx {\n"),
        ["too many '<' for heredoc on line #2; only use two, for example <<END"]
    );
}

#[test]
fn snippets() {
    let s = "(s) {\n\tfoo {args[0]} {args[1:]}\n}\n";
    assert_eq!(blocks(&format!("{s}a {{\n\timport s 1 2 3\n\tbar\n}}")), ["a [foo 1 2 3; bar]"]);
    assert_eq!(blocks(&format!("{s}a {{\n\tx {{\n\t\timport s 1\n\t}}\n}}")), ["a [x { foo 1 }]"]);
    assert_eq!(blocks("(s) {\n\ta {\n\t\tx\n\t}\n}\nimport s\nb {\n}"), ["a [x]", "b []"]);
    assert_eq!(blocks("(s) {\n}\na {\n\timport s\n\tx\n}"), ["a [x]"]);
    assert_eq!(blocks("(s) {\n}\nimport s"), Vec::<String>::new());
    assert_eq!(
        errors("(s) {\n}\n(s) {\n}\na {\n}"),
        ["redeclaration of previously declared snippet s, at Caddyfile:3"]
    );
}

#[test]
fn imported_blocks() {
    let s = "(s) {\n\th {\n\t\t{blocks.foo}\n\t}\n\tw {\n\t\t{block}\n\t}\n}\n";
    let a = "a {\n\timport s {\n\t\tfoo 1 {\n\t\t\tx\n\t\t}\n\t\tbar\n\t}\n\tz\n}";
    assert_eq!(blocks(&format!("{s}{a}")), ["a [h { 1 x }; w { foo 1 { x } bar }; z]"]);
    assert_eq!(blocks(&format!("{s}a {{\n\timport s\n}}")), ["a [h { }; w { }]"]);
    assert_eq!(blocks("(s) {\n\t{block}\n}\na {\n\timport s {\n\t}\n\tx\n}"), ["a [x]"]);
    assert_eq!(
        errors("(s) {\n\t{block}\n}\na {\n\timport s {\n\t\t{\n\t\t\tx\n\t\t}\n\t}\n}"),
        ["anonymous blocks are not supported, at Caddyfile:8"]
    );
    let unclosed = errors("a {\n\timport s {\n\t\tx");
    assert_eq!(unclosed[0], "File to import not found: s, at Caddyfile:3");
    // Caddy takes what there is of a block that the file ends in.
    assert_eq!(blocks("(s) {\n\ta {\n\t\t{block}\n\t}\n}\nimport s {\n\tx"), ["a [x]"]);
}

#[test]
fn blocks_go_through_nested_imports() {
    let text = "(outer) {\n\th {\n\t\t{blocks.bar}\n\t}\n\timport inner {\n\t\tbar {\n\t\t\t{blocks.foo}\n\t\t}\n\t}\n}\n(inner) {\n\ti {\n\t\t{blocks.bar}\n\t}\n}\na {\n\timport outer {\n\t\tfoo {\n\t\t\tf\n\t\t}\n\t\tbar {\n\t\t\tb\n\t\t}\n\t}\n}";
    assert_eq!(blocks(text), ["a [h { b }; i { f }]"]);
}

#[test]
fn files() {
    let disk = MemoryLoader::new()
        .file("sites/b.conf", "b {\n\tx\n}\n")
        .file("sites/a.conf", "a {\n\timport ../part\n}")
        .file("sites/.hidden", "h {\n}")
        .file("part", "y {args[0]}")
        .file("defs", "(s) {\n\tfoo {args[0]} {block}\n}")
        .file("empty", " \n")
        .file("bad", "x <<<E\n");
    assert_eq!(blocks_with("import sites/*", &disk), ["a [y {args[0]}]", "b [x]"]);
    assert_eq!(blocks_with("import /sites/b.conf", &disk), ["b [x]"]);
    assert_eq!(blocks_with("c {\n\timport part 7\n}", &disk), ["c [y 7]"]);
    assert_eq!(
        blocks_with("import defs 9\nc {\n\timport s 7 {\n\t\tb\n\t}\n}", &disk),
        ["c [foo 7; b]"]
    );
    assert_eq!(blocks_with("c {\n\timport empty\n\timport none*\n}", &disk), ["c []"]);
    let at = |line: &str| errors_with(&format!("c {{\n\timport {line}\n}}"), &disk);
    assert_eq!(at("none"), ["File to import not found: none, at Caddyfile:2"]);
    assert_eq!(at("sites"), ["Could not import /sites: is a directory, at Caddyfile:2"]);
    assert_eq!(
        at(""),
        ["wrong argument count or unexpected line ending after 'import', at Caddyfile:2"]
    );
    assert_eq!(at("\"\""), ["Import requires a non-empty filepath, at Caddyfile:2"]);
    assert_eq!(
        at("a*b*"),
        ["Glob pattern may only contain one wildcard (*), but has others: /a*b*, at Caddyfile:2"]
    );
    assert_eq!(
        at("a[b"),
        ["Failed to use import pattern a[b: syntax error in pattern, at Caddyfile:2"]
    );
    assert_eq!(
        at("bad"),
        [
            "Could not read tokens while importing /bad: too many '<' for heredoc on line #1; only use two, for example <<END, at Caddyfile:2"
        ]
    );
}

#[test]
fn places_tell_the_imports() {
    let disk = MemoryLoader::new().file("defs", "(s) {\n\tfoo {}\n}");
    assert_eq!(
        errors_with("import defs\na {\n\timport s\n}", &disk),
        [
            "Unexpected '{}' at end of line, at /defs:2 import chain ['Caddyfile:1 (import)','Caddyfile:3 (import s)']"
        ]
    );
}

#[test]
fn cycles() {
    assert_eq!(
        errors(
            "(import1) {\n\timport import2\n}\n(import2) {\n\timport import1\n}\nimport import1"
        ),
        ["a cycle of imports exists between Caddyfile:import2 and Caddyfile:import1"]
    );
    let disk = MemoryLoader::new().file("x", "import x");
    assert_eq!(errors_with("import x", &disk), ["a cycle of imports exists between /x and /x"]);
}

#[test]
fn argument_warnings() {
    let s = "(s) {\n\tfoo {args[0]}\n}\na {\n\timport s\n}";
    assert_eq!(
        warnings(s),
        [
            "Placeholder {args[0]} index is out of bounds, only 0 argument(s) exist, at Caddyfile:2 import chain ['Caddyfile:5 (import s)']"
        ]
    );
}

#[test]
fn import_bombs_end() {
    let mut text = String::from("(s0) {\n\tx\n}\n");
    for at in 1..64 {
        let before = at - 1;
        text.push_str(&format!("(s{at}) {{\n\timport s{before}\n\timport s{before}\n}}\n"));
    }
    text.push_str("a {\n\timport s63\n}");
    assert!(errors(&text)[0].starts_with("imports make the configuration too large"));
}

#[test]
fn growing_arguments_end() {
    let mut text = String::from("(s0) {\n\tx {args[0]}\n}\n");
    for at in 1..64 {
        let before = at - 1;
        text.push_str(&format!("(s{at}) {{\n\timport s{before} {{args[0]}}{{args[0]}}\n}}\n"));
    }
    text.push_str("a {\n\timport s63 0123456789\n}");
    assert!(errors(&text)[0].starts_with("imports make the configuration too large"));
}

#[test]
fn strange_bytes_are_no_problem() {
    let loader = MemoryLoader::new();
    for text in [
        &b"a \xff\xfe {\n\0\n}"[..],
        b"\xef\xbb\xbfa {\n}",
        b"{",
        b"}",
        b"{\n",
        b"\"",
        b"<<",
        b"&()",
        b"()",
        b"() {\n}\nimport \"\"",
    ] {
        let _ = parse("Caddyfile", text, &loader);
    }
    let (_, found) = parse("Caddyfile", "a {\n".repeat(1000).as_bytes(), &loader);
    assert!(found[0].to_string().starts_with("blocks are nested too deeply"));
    let (_, found) = parse("Caddyfile", "{".repeat(1 << 20).into_bytes(), &loader);
    let sentence = found[0].to_string();
    assert!(sentence.len() < 1_000, "{}", sentence.len());
    assert!(sentence.starts_with("Site addresses cannot end with a curly brace: '{{{"));
    let end = "' - put a space between the token and the brace, at Caddyfile:1";
    assert!(sentence.ends_with(end), "{sentence}");
}

#[test]
fn a_stray_brace_is_an_address_to_caddy() {
    let text = "a {\n\tx\n}\n}\nb {\n}\n";
    let (file, found) = parse("Caddyfile", text.as_bytes(), &MemoryLoader::new());
    assert_eq!(found[0].code, crate::STRAY_BRACE);
    assert_eq!(show(&file), ["a [x]", "b []"]);
    let (file, found) = crate::parse_literally("Caddyfile", text.as_bytes(), &MemoryLoader::new());
    assert!(found.is_empty());
    assert_eq!(show(&file), ["a [x]", "} [b { }]"]);
}
