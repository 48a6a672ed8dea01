//! Every rule of the lexer, on text.

use super::*;

fn tokens(text: &str) -> Vec<Token> {
    tokenize("Caddyfile", text).expect("no mistake")
}

/// `line:text` with the quote kind before the text.
fn show(text: &str) -> Vec<String> {
    let of = |token: &Token| {
        let quote = match token.quote {
            Quote::None => "",
            Quote::Double => "\"",
            Quote::Backtick => "`",
            Quote::Heredoc => "<",
        };
        format!("{}:{quote}{}", token.line, token.text)
    };
    tokens(text).iter().map(of).collect()
}

fn error(text: &str) -> String {
    tokenize("Caddyfile", text).expect_err("a mistake").to_string()
}

#[test]
fn words_and_lines() {
    assert_eq!(show("a b\tc\nd\r\n\n e"), ["1:a", "1:b", "1:c", "2:d", "4:e"]);
    assert_eq!(show("\u{feff}a\u{a0}b\u{3000}c"), ["1:a", "1:b", "1:c"]);
    assert_eq!(show("a\u{feff}"), ["1:a\u{feff}"]);
    assert_eq!(show(""), Vec::<String>::new());
    assert_eq!(show(" \n\t"), Vec::<String>::new());
    assert_eq!(show("a\rb"), ["1:ab"]);
    assert_eq!(show("{ } {} {x} }{"), ["1:{", "1:}", "1:{}", "1:{x}", "1:}{"]);
    assert_eq!(show("a\0b"), ["1:a\0b"]);
}

#[test]
fn comments() {
    assert_eq!(show("# x\na # b { \"\nfoo#bar"), ["2:a", "3:foo#bar"]);
    assert_eq!(show("\"a\"#b\nc"), ["1:\"a", "2:c"]);
    // A backslash in a comment joins the next line, as it does for Caddy.
    assert_eq!(show("a # x\\y\nb\nc"), ["1:a", "1:b", "3:c"]);
}

#[test]
fn double_quotes() {
    assert_eq!(show("a \"b c\" d"), ["1:a", "1:\"b c", "1:d"]);
    assert_eq!(show("a\"b c\""), ["1:a\"b", "1:c\""]);
    assert_eq!(show("\"a\"b"), ["1:\"a", "1:b"]);
    assert_eq!(show("\"\" x"), ["1:\"", "1:x"]);
    assert_eq!(show("\"a\nb\" c\nd"), ["1:\"a\nb", "2:c", "3:d"]);
    assert_eq!(show("\"a\r\nb\""), ["1:\"a\r\nb"]);
}

#[test]
fn escapes_in_double_quotes() {
    assert_eq!(show(r#""a\"b""#), [r#"1:"a"b"#]);
    assert_eq!(show(r#""a\nb""#), [r#"1:"a\nb"#]);
    assert_eq!(show(r#""a\\" b"#), [r#"1:"a\\"#, "1:b"]);
    assert_eq!(show("\"a\\\nb\" c"), ["1:\"a\\\nb", "2:c"]);
}

#[test]
fn backticks() {
    assert_eq!(show("`a \\`b"), ["1:`a \\", "1:b"]);
    assert_eq!(show("`a\n\"b\"` c"), ["1:`a\n\"b\"", "2:c"]);
    assert_eq!(show("a`b c`"), ["1:a`b", "1:c`"]);
}

#[test]
fn open_quotes_take_the_rest() {
    assert_eq!(show("a \"b c\nd"), ["1:a", "1:b c\nd"]);
    assert_eq!(show("a `b c\nd"), ["1:a", "1:b c\nd"]);
    assert_eq!(show("a \""), ["1:a"]);
    assert_eq!(show("a \"b\\"), ["1:a", "1:b"]);
}

#[test]
fn line_continuation() {
    assert_eq!(show("a \\\n b\nc"), ["1:a", "1:b", "3:c"]);
    assert_eq!(show("a\\\nb\nc"), ["1:a", "1:b", "3:c"]);
    assert_eq!(show("a \\\r\n b\r\nc"), ["1:a", "1:b", "3:c"]);
    assert_eq!(show("a \\  \n b"), ["1:a", "1:b"]);
}

#[test]
fn backslash_in_words() {
    assert_eq!(show("a\\b \\d"), ["1:a\\b", "1:\\d"]);
    assert_eq!(show("a\\\\ b"), ["1:a\\\\", "1:b"]);
    assert_eq!(show("a\\ b"), ["1:a", "1:b"]);
    assert_eq!(show("\\ b"), ["1:\\b"]);
    assert_eq!(show("a\\\"b"), ["1:a\\\"b"]);
    assert_eq!(show("\\\"a b\" c"), ["1:\"\\a b", "1:c"]);
    assert_eq!(show("\\`a b` c"), ["1:`a b", "1:c"]);
    assert_eq!(show("a\\"), ["1:a"]);
    assert_eq!(show("\\"), Vec::<String>::new());
    assert_eq!(show("\\<<EOF\na"), ["1:<<EOF", "2:a"]);
    assert_eq!(show("<\\<EOF\na"), ["1:<<EOF", "2:a"]);
}

#[test]
fn heredocs() {
    assert_eq!(show("a <<EOF\n\tb\n\n\t  c\n\tEOF d\ne"), ["1:a", "1:<b\n\n  c", "5:d", "6:e"]);
    assert_eq!(show("<<E\r\nx\r\nE y"), ["1:<x", "3:y"]);
    assert_eq!(show("<<E\nE"), ["1:<"]);
    assert_eq!(show("<<E-1_\n\"a\" # b\nE-1_"), ["1:<\"a\" # b"]);
    // The marker ends it wherever it is.
    assert_eq!(show("<<E\nxEy\n"), ["1:<", "2:y"]);
    assert_eq!(show("<< a\n<<b c"), ["1:<<", "1:a", "2:<<b", "2:c"]);
    assert_eq!(show("a<<E\nb"), ["1:a<<E", "2:b"]);
    assert_eq!(show("<<E"), ["1:<<E"]);
    assert_eq!(show("a <<E\n"), ["1:a"]);
}

#[test]
fn heredoc_mistakes() {
    assert_eq!(
        error("a\n\t<<END\n\tx\n  END"),
        "mismatched leading whitespace in heredoc <<END on line #3 [\tx], expected whitespace [  ] to match the closing marker"
    );
    assert_eq!(
        error("\n<<EOF\nx\n"),
        "incomplete heredoc <<EOF on line #4, expected ending marker EOF"
    );
    assert_eq!(
        error("<<\nx"),
        "missing opening heredoc marker on line #1; must contain only alphanumeric characters, dashes and underscores; got empty string"
    );
    assert_eq!(
        error("<<<END\nx"),
        "too many '<' for heredoc on line #1; only use two, for example <<END"
    );
    assert_eq!(
        error("<<END!\nx"),
        "heredoc marker on line #1 must contain only alphanumeric characters, dashes and underscores; got 'END!'"
    );
}

#[test]
fn spans_cover_what_was_written() {
    let text = "ab \"c d\" `e`\n<<F\ng\nF h";
    let slices: Vec<_> = tokens(text)
        .iter()
        .map(|token| &text[token.span.start as usize..token.span.end as usize])
        .collect();
    assert_eq!(slices, ["ab", "\"c d\"", "`e`", "<<F\ng\nF", "h"]);
}

#[test]
fn hostile_texts_end_in_bounded_time() {
    assert!(error(&"{ ".repeat(1_000_000)).starts_with("blocks are nested too deeply"));
    assert!(error(&"a ".repeat(limits::TOKENS + 1)).starts_with("the configuration has too many"));
    assert_eq!(tokens(&"{".repeat(1_000_000)).len(), 1);
    assert_eq!(tokens(&format!("\"{}", "x\n".repeat(1_000_000))).len(), 1);
    assert_eq!(tokens(&"\\".repeat(1_000_001)).len(), 1);
    assert!(error(&format!("<<{}\nx", "!".repeat(1_000_000))).len() < 2_000);
}
