//! The walk over tokens.

use super::*;
use crate::lexer::tokenize;

fn over(text: &str) -> Dispenser {
    Dispenser::new(tokenize("Testfile", text).expect("no mistake"))
}

#[test]
fn steps() {
    let mut d = over("dir1 arg1\ndir2 arg2 arg3\ndir3");
    assert_eq!((d.val(), d.line(), d.file()), ("", 0, ""));
    assert!(d.next() && d.val() == "dir1");
    assert!(d.next_arg() && d.val() == "arg1");
    assert!(!d.next_arg() && d.is_next_on_new_line());
    assert!(d.next_line() && d.val() == "dir2" && d.is_new_line());
    assert!(!d.next_line());
    assert_eq!(d.count_remaining_args(), 2);
    assert_eq!(d.remaining_args(), ["arg2", "arg3"]);
    assert!(d.next() && !d.next() && d.val() == "dir3");
    assert!(d.prev() && d.val() == "arg3");
    d.reset();
    assert!(!d.prev() && d.next_line() && d.val() == "dir1");
}

#[test]
fn blocks() {
    let mut d = over("foobar1 {\n\tsub1 arg1\n\tsub2\n}\nfoobar2 {\n}\nfoobar3");
    let mut seen = Vec::new();
    while d.next() {
        let nesting = d.nesting();
        seen.push(d.val().to_owned());
        while d.next_block(nesting) {
            seen.push(format!("  {}", d.val()));
        }
    }
    assert_eq!(seen, ["foobar1", "  sub1", "  arg1", "  sub2", "foobar2", "foobar3"]);
}

#[test]
fn nested_blocks() {
    let mut d = over("a {\n\tb {\n\t\tc\n\t}\n\td\n}\ne");
    assert!(d.next() && d.next_block(0) && d.val() == "b");
    let nesting = d.nesting();
    assert!(d.next_block(nesting) && d.val() == "c" && d.nesting() == 2);
    assert!(!d.next_block(nesting));
    assert!(d.next_block(0) && d.val() == "d");
    assert!(!d.next_block(0) && d.next() && d.val() == "e");
}

#[test]
fn arguments() {
    let mut d = over("dir a \"b c\" {\n}");
    d.next();
    let (mut a, mut b, mut c) = (String::new(), String::new(), String::new());
    assert!(d.args(&mut [&mut a, &mut b]) && !d.args(&mut [&mut c]));
    assert_eq!((a.as_str(), b.as_str(), d.val_raw().as_str()), ("a", "b c", "\"b c\""));
    d.reset();
    d.next();
    assert_eq!(d.all_args::<2>(), Some(["a".to_owned(), "b c".to_owned()]));
    d.reset();
    d.next();
    assert_eq!(d.all_args::<1>(), None);
    d.reset();
    d.next();
    assert_eq!(d.remaining_args_raw(), ["a", "\"b c\""]);
    d.reset();
    d.next();
    assert_eq!(d.remaining_args_tokens().len(), 2);
    let mut quoted = over("dir \"{\"");
    assert!(quoted.next() && quoted.next_arg() && quoted.val() == "{");
}

#[test]
fn segments() {
    let mut d = over("outer {\n\ta 1 {\n\t\tx\n\t\ty {\n\t\t\tz\n\t\t}\n\t}\n\tb\n}");
    d.set_context(MATCHER_NAME, "m");
    assert!(d.next() && d.next_block(0));
    let mut inner = d.new_from_next_segment();
    assert_eq!(inner.context(MATCHER_NAME), "m");
    let texts: Vec<_> = inner.tokens().iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, ["a", "1", "{", "x", "y", "{", "z", "}", "}"]);
    assert!(inner.next() && inner.val() == "a");
    assert!(d.next_block(0) && d.val() == "b");
    assert!(!d.next_block(0));
}

#[test]
fn deletion() {
    let mut d = over("a b c d");
    d.next();
    d.next();
    d.next();
    d.delete();
    assert_eq!(d.val(), "b");
    d.delete_n(3);
    assert_eq!(d.val(), "b");
    d.delete_n(2);
    assert!(d.next() && d.val() == "d" && d.tokens().len() == 1);
}

#[test]
fn mistakes() {
    let mut d = over("header {\n}");
    d.next();
    assert_eq!(
        d.arg_err().to_string(),
        "wrong argument count or unexpected line ending after 'header', at Testfile:1"
    );
    d.next();
    assert_eq!(d.arg_err().to_string(), "unexpected token '{', expecting argument, at Testfile:1");
    assert_eq!(
        d.syntax_err("}").to_string(),
        "syntax error: unexpected token '{', expecting '}', at Testfile:1 import chain: ['']"
    );
    assert_eq!(d.eof_err().to_string(), "unexpected EOF, at Testfile:1");
    let mut d = over("heder");
    d.next();
    let mistake = d.unrecognized("directive:", ["header", "root"]);
    assert_eq!(mistake.to_string(), "unrecognized directive: heder, at Testfile:1");
    assert_eq!(mistake.help.as_deref(), Some("did you mean `header`?"));
    assert!(!d.warning("w").is_error());
}

#[test]
fn an_empty_dispenser_is_quiet() {
    let mut d = Dispenser::default();
    assert!(!d.next() && !d.prev() && !d.next_arg() && !d.next_line() && !d.next_block(0));
    assert_eq!(d.next_segment().0.len(), 1);
    d.delete();
}
