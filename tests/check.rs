//! `caddis check` on the files of fixtures/check: the drawings, and what lints keep silent about.
//!
//! `NAME.Caddyfile` (or `NAME.json`) has its drawing in `NAME.txt`; `LINT-silent.Caddyfile` must give no
//! finding of that lint. With `UPDATE_SNAPSHOTS=1` the drawings are written anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;

use crate::support::{caddis, scratch};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/check")
}

/// Exit code, standard output, standard error.
fn check(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = caddis(folder).arg("check").args(arguments).output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn names(ends: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| ends.iter().any(|end| name.ends_with(end)))
        .collect();
    names.sort();
    names
}

fn lints() -> Vec<String> {
    let (code, list, _) = check(&folder(), &["--explain", "list"]);
    assert_eq!(code, 0);
    list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn drawings() {
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for name in names(&[".Caddyfile", ".json"]) {
        if name.ends_with("-silent.Caddyfile") {
            continue;
        }
        let (_, out, drawn) = check(&folder(), &["--config", &name]);
        let drawn = format!("{drawn}{out}");
        let stem = name.rsplit_once('.').unwrap().0;
        let kept = folder().join(format!("{stem}.txt"));
        if update {
            fs::write(&kept, &drawn).unwrap();
        } else if fs::read_to_string(&kept).unwrap_or_default() != drawn {
            wrong.push(format!("--- {name}\n{drawn}"));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_SNAPSHOTS=1 accepts these:\n{}", wrong.join("\n"));
}

#[test]
fn each_lint_fires_and_keeps_silent() {
    let lints = lints();
    assert!(lints.len() >= 20, "{lints:?}");
    for lint in &lints {
        let found = |name: &str| {
            let (_, out, said) = check(&folder(), &["--format", "json", "--config", name]);
            let report: Json =
                serde_json::from_str(&out).unwrap_or_else(|_| panic!("{name}: {said}"));
            let findings = report["findings"].as_array().unwrap().clone();
            if lint != "on-demand-open" {
                assert_eq!(report["errors"], 0, "{name}: {out}");
            }
            findings.into_iter().filter(|one| one["code"] == lint.as_str()).collect::<Vec<_>>()
        };
        let fires = found(&format!("{lint}.Caddyfile"));
        assert!(!fires.is_empty(), "{lint} does not fire");
        for one in fires {
            assert!(one["line"].as_u64().is_some() && one["severity"] == "warning", "{one}");
        }
        let silent = found(&format!("{lint}-silent.Caddyfile"));
        assert!(silent.is_empty(), "{lint} fires where it should not: {silent:?}");
        let (code, text, _) = check(&folder(), &["--explain", lint]);
        assert!(code == 0 && text.contains(lint.as_str()) && text.len() > 200, "{text}");
    }
}

#[test]
fn lints_are_silenced() {
    let folder = scratch();
    let file = folder.join("Caddyfile");
    let text =
        |comment: &str| format!("{comment}\n(s) {{\n\theader A b\n}}\n:8080 {{\n\trespond x\n}}\n");
    fs::write(&file, text("")).unwrap();
    let (code, out, said) = check(&folder, &[]);
    assert!(
        code == 0 && out.contains("1 warning") && said.contains("unused-snippet"),
        "{out}{said}"
    );
    let (code, _, said) = check(&folder, &["--strict"]);
    assert!(code == 1 && said.contains("--strict"), "{said}");
    let (code, out, _) = check(&folder, &["--strict", "--allow", "unused-snippet"]);
    assert_eq!((code, out.trim()), (0, "Valid configuration"));
    let (code, _, said) = check(&folder, &["--allow", "unused-snipet"]);
    assert!(code == 1 && said.contains("did you mean `unused-snippet`?"), "{said}");
    assert_eq!(check(&folder, &["--explain", "nothing"]).0, 1);
    for comment in ["# caddis: allow unused-snippet", "# caddis: allow x, unused-snippet\n# why"] {
        fs::write(&file, text(comment)).unwrap();
        assert_eq!(check(&folder, &["--strict"]).0, 0, "{comment}");
    }
}

#[test]
fn formats() {
    let folder = folder();
    let file = ["--config", "directives.Caddyfile"];
    let (code, out, _) = check(&folder, &["--format", "json", file[0], file[1]]);
    let report: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["errors"].as_u64()), (1, Some(5)), "{out}");
    assert_eq!(report["findings"][0]["line"], 2);
    let (code, out, _) = check(&folder, &["--format", "sarif", file[0], file[1]]);
    let log: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((code, log["version"].as_str()), (1, Some("2.1.0")));
    assert_eq!(log["runs"][0]["results"][0]["level"], "error");
    let (code, out, _) = check(&folder, &["--format", "github", file[0], file[1]]);
    assert_eq!(code, 1);
    assert!(out.starts_with("::error file=directives.Caddyfile,"), "{out}");
}

#[test]
fn what_cannot_run_yet_adapts() {
    let folder = folder();
    let arguments = ["adapt", "--config", "not-supported.Caddyfile"];
    assert!(caddis(&folder).args(arguments).output().unwrap().status.success());
    let (code, _, said) = check(&folder, &["--config", "not-supported.Caddyfile"]);
    assert!(code == 1 && said.contains("not supported yet"), "{said}");
    let output =
        caddis(&folder).args(["run", "--config", "not-supported.Caddyfile"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not-supported.Caddyfile:"), "{said}");
}
