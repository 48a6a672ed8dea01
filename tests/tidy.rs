//! Rules of the project that a compiler does not check.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources() -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                all.push(path);
            }
        }
    }
    all
}

#[test]
fn every_module_says_what_it_is_for() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let exempt = path.ends_with("tests.rs") || path.ends_with("testing.rs");
        assert!(exempt || text.starts_with("//!"), "{} has no module doc", path.display());
    }
}

#[test]
fn floors_keep_to_themselves() {
    // A lower floor never names a higher one; handlers never name the compiler or the engine.
    let forbidden = [
        ("caddis-caddyfile", &["caddis_config", "caddis_core", "serde_json", "std::fs"][..]),
        ("caddis-config", &["caddis_core", "caddis_caddyfile"]),
        ("caddis-wire", &["tokio", "caddis_core"]),
        ("caddis-core", &["tokio::net", "caddis_http", "caddis_proxy", "caddis_plan"]),
        ("caddis-otel", &["caddis_plan", "caddis_engine", "caddis_http", "caddis_proxy"]),
        ("caddis-http", &["caddis_plan", "caddis_engine", "caddis_proxy", "caddis_adapter"]),
        ("caddis-proxy", &["caddis_plan", "caddis_engine", "caddis_adapter"]),
        ("caddis-adapter", &["caddis_http::", "caddis_proxy::", "caddis_plan", "caddis_engine"]),
        ("caddis-engine", &["caddis_http", "caddis_proxy", "caddis_adapter", "caddis_caddyfile"]),
    ];
    for path in sources() {
        let shown = path.display().to_string();
        if shown.ends_with("loader/fs.rs") || shown.contains("/tests") || shown.contains("corpus") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code: String = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for (name, words) in forbidden {
            if shown.contains(&format!("/{name}/")) {
                for word in words {
                    assert!(!code.contains(word), "{shown} names {word}");
                }
            }
        }
    }
}

#[test]
fn json_objects_stay_sorted() {
    let object = serde_json::json!({ "b": 1, "a": 2 });
    assert_eq!(object.to_string(), r#"{"a":2,"b":1}"#, "serde_json/preserve_order is on");
}
