//! Round trips of recorded configurations, from the folder that `CADDIS_ADAPT_CORPUS` names.

use std::path::Path;

use serde_json::Value;

use crate::{from_slice, json::write};

/// Reads every `.json` with `apps`, and compares tree and (for typed parts) text.
#[test]
fn recorded_configurations_survive() {
    let Some(folder) = std::env::var_os("CADDIS_ADAPT_CORPUS") else {
        return;
    };
    let (mut seen, mut exact) = (0, 0);
    for entry in std::fs::read_dir(Path::new(&folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if value.get("apps").is_none() {
            continue;
        }
        let config =
            from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = write::to_string_pretty(&config).unwrap();
        let again: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(again, value, "{}", path.display());
        let text = String::from_utf8(bytes).unwrap();
        // The recording may have been normalised: its strings are compared as they are written.
        let plain = [("\\u003c", "<"), ("\\u003e", ">"), ("\\u0026", "&")];
        let plain =
            |text: &str| plain.iter().fold(text.trim_end().to_owned(), |t, (a, b)| t.replace(a, b));
        let (written, text) = (plain(&written), plain(&text));
        exact += usize::from(written == text);
        // Raw payloads come out with sorted keys, so their lines may have moved.
        assert_eq!(sorted_lines(&written), sorted_lines(&text), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0, "no configuration in the corpus");
    assert!(exact * 10 >= seen * 9, "only {exact} of {seen} are equal to the byte");
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}
