//! `caddis certs`: the certificates of the running server.

use std::{collections::BTreeMap, fmt::Write, process::ExitCode};

use serde_json::Value as Json;

use super::Outcome;
use crate::{args::Certs, client};

/// Prints a table, or JSON. Exit code 1 where a certificate is missing or expired.
pub(crate) fn certs(flags: &Certs) -> Outcome {
    let address = client::address(&flags.client)?;
    let body = client::get(&address, "/tls/certificates")?;
    let all: Vec<Json> = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    if flags.json {
        crate::say::say!("{}", body.trim());
    } else {
        crate::say::out(table(&all));
    }
    let bad =
        all.iter().any(|one| one.get("not_after").is_none() || text(one, "status") == "expired");
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text<'a>(json: &'a Json, field: &str) -> &'a str {
    json.get(field).and_then(Json::as_str).unwrap_or("-")
}

fn table(all: &[Json]) -> String {
    let mut rows =
        vec![["NAMES", "STATUS", "ISSUER", "EXPIRES", "NEXT", "LAST ERROR"].map(str::to_owned)];
    for one in all {
        let names: Vec<&str> = one
            .get("names")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let fields = ["status", "issuer", "not_after", "next_attempt", "last_error"];
        let [status, issuer, expires, next, error] =
            fields.map(|field| text(one, field).to_owned());
        rows.push([names.join(" "), status, issuer, expires, next, error]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for (remedy, names) in remedies(all) {
        let more =
            if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        let _ = write!(out, "\n{}{more}: {remedy}\n", names[..names.len().min(3)].join(", "));
    }
    out
}

/// What may be done, with the names for which it may.
fn remedies(all: &[Json]) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in all {
        let name = one.pointer("/names/0").and_then(Json::as_str);
        let remedy = one.get("remedy").and_then(Json::as_str);
        if let (Some(name), Some(remedy)) = (name, remedy) {
            found.entry(remedy).or_default().push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let all = [
            json!({"names": ["a.test", "b.test"], "status": "valid", "issuer": "local", "not_after": "2030"}),
            json!({"names": ["c.test"], "status": "waiting", "last_error": "no"}),
        ];
        let text = table(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAMES          STATUS   ISSUER  EXPIRES  NEXT  LAST ERROR");
        assert_eq!(lines[2], "c.test         waiting  -       -        -     no");
    }

    #[test]
    fn remedies_stand_below() {
        let one = |name: &str, remedy: &str| json!({"names": [name], "remedy": remedy});
        let all = ["a", "b", "c", "d", "e"].map(|name| one(name, "make room"));
        let text = table(&all);
        assert!(text.ends_with("\n\na, b, c and 2 more: make room\n"), "{text}");
    }
}
