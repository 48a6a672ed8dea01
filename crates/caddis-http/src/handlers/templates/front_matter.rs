//! `splitFrontMatter`: what stands before a text, between `---` (YAML), `+++` (TOML), or in braces
//! (JSON).

use std::collections::BTreeMap;

use super::{eval::Stop, value::Val, yaml};

/// `{Meta, Body}` of a text.
pub(super) fn split(text: &str) -> Result<Val, Stop> {
    let (meta, body) = parts(text)?;
    Ok(Val::map_of([("Meta", meta), ("Body", Val::str(body))]))
}

type Reader = fn(&str) -> Result<Val, String>;

fn parts(text: &str) -> Result<(Val, &str), Stop> {
    let none = Ok((Val::map(BTreeMap::new()), text));
    let (start, end) = first_line(text);
    let (closing, read): (&[&str], Reader) = match text[start..end].trim() {
        "---" => (&["---", "..."], yaml::read),
        "+++" => (&["+++"], toml),
        "{" => (&["}"], json),
        _ => return none,
    };
    let rest = &text[end..];
    let found = closing
        .iter()
        .find_map(|fence| rest.find(&format!("\n{fence}")).map(|at| (at + 1, fence.len())));
    let Some((at, length)) = found else { return Err(Stop::text("unterminated front matter")) };
    let meta = read(&rest[..at]).map_err(Stop::text)?;
    // The body begins with the end of the closing line.
    Ok((meta, &rest[at + length..]))
}

/// Where the first line that is not empty begins and ends; nowhere without a line end.
fn first_line(text: &str) -> (usize, usize) {
    let (mut start, mut end) = (0, 0);
    let mut is_empty = true;
    for (at, c) in text.char_indices() {
        if c == '\n' {
            start = if end > 0 { end + 1 } else { 0 };
            end = at;
            if !is_empty {
                break;
            }
            continue;
        }
        is_empty &= c.is_whitespace();
    }
    (start.min(end), end)
}

fn json(text: &str) -> Result<Val, String> {
    let found = serde_json::from_str(&format!("{{{text}}}")).map_err(|error| error.to_string())?;
    Ok(Val::from_json(&found))
}

fn toml(text: &str) -> Result<Val, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    Ok(of_toml(&toml::Value::Table(table)))
}

/// The reader bounds the depth.
fn of_toml(value: &toml::Value) -> Val {
    match value {
        toml::Value::String(text) => Val::str(text),
        toml::Value::Integer(number) => Val::Int64(*number),
        toml::Value::Float(number) => Val::Float(*number),
        toml::Value::Boolean(flag) => Val::Bool(*flag),
        toml::Value::Datetime(time) => of_datetime(time),
        toml::Value::Array(items) => Val::list(items.iter().map(of_toml).collect()),
        toml::Value::Table(items) => {
            Val::map(items.iter().map(|(key, value)| (key.clone(), of_toml(value))).collect())
        }
    }
}

fn of_datetime(time: &toml::value::Datetime) -> Val {
    let text = time.to_string();
    yaml::time(&text).map_or_else(|| Val::str(&text), Val::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, String), Stop> {
        parts(text).map(|(meta, body)| (meta.json().to_string(), body.to_owned()))
    }

    #[test]
    fn three_kinds() {
        for (text, meta, body) in [
            (
                "---\na: 1\nb: [x, 'y']\nc:\n  d: true\n---\nbody",
                r#"{"a":1,"b":["x","y"],"c":{"d":true}}"#,
                "\nbody",
            ),
            ("---\na: 1\n...\nbody", r#"{"a":1}"#, "\nbody"),
            ("+++\na = 1\n[t]\nb = \"x\"\n+++\nbody", r#"{"a":1,"t":{"b":"x"}}"#, "\nbody"),
            ("{\n\"a\": {\"b\": null}\n}\nbody", r#"{"a":{"b":null}}"#, "\nbody"),
            ("\n\n---\r\na: 1\r\n---\r\nbody", r#"{"a":1}"#, "\r\nbody"),
            ("no front matter", "{}", "no front matter"),
        ] {
            let want = (meta.to_owned(), body.to_owned());
            assert_eq!(read(text).expect("reads"), want, "{text}");
        }
        assert!(read("---\na: 1\n").is_err());
        assert!(read("+++\na = \n+++\n").is_err());
        assert!(read("---\na: [1\n---\n").is_err());
    }
}
