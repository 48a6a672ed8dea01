//! The files of `fixtures/`: what each Caddyfile becomes, how it is laid out, what is wrong with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::support::{caddis, scratch};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The names of all fixtures of a folder that end so, sorted.
fn names(folder: &Path, end: &str) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> =
        files.filter_map(|name| name.to_str()?.strip_suffix(end).map(str::to_owned)).collect();
    names.sort();
    names
}

fn run(folder: &Path, command: &str, args: &[&str]) -> Output {
    let home = scratch();
    let output = caddis(&home).current_dir(folder).arg(command).args(args).output().unwrap();
    fs::remove_dir_all(home).unwrap();
    output
}

/// Looks at each fixture of a folder, by its name without the ending; fails with all complaints at
/// once.
#[track_caller]
fn each(kind: &str, ending: &str, complaint: impl Fn(&Path, &str) -> Option<String>) {
    let folder = folder(kind);
    let names = names(&folder, ending);
    let complaints: Vec<_> = names.iter().filter_map(|name| complaint(&folder, name)).collect();
    let (wrong, count) = (complaints.len(), names.len());
    assert!(complaints.is_empty(), "{wrong} of {count}:\n{}", complaints.join("\n"));
    assert!(count > 10, "the fixtures are missing");
}

#[test]
fn every_fixture_adapts_to_its_json() {
    each("adapt", ".Caddyfile", |folder, name| {
        let file = format!("{name}.Caddyfile");
        let output = run(folder, "adapt", &["--config", &file, "--adapter", "caddyfile"]);
        let expected = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(got) if got == expected => None,
            Ok(got) => Some(format!("{name}: {got:#}")),
            Err(_) => Some(format!("{name}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    });
}

#[test]
fn every_fixture_is_laid_out_so() {
    each("fmt", ".in", |folder, name| {
        let expected = fs::read(folder.join(format!("{name}.out"))).unwrap();
        let got = run(folder, "fmt", &[&format!("{name}.in")]).stdout;
        (got != expected).then(|| {
            let (got, expected) =
                (String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected));
            format!("{name}:\n{got:?}\nand not\n{expected:?}")
        })
    });
}

#[test]
fn every_mistake_has_its_sentence() {
    each("errors", ".Caddyfile", |folder, name| {
        let file = format!("{name}.Caddyfile");
        let output = run(folder, "adapt", &["--config", &file, "--adapter", "caddyfile"]);
        let expected = fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
        // Some sentences name a whole path.
        let expected = expected.replace("{folder}", folder.to_str().unwrap());
        let said = String::from_utf8_lossy(&output.stderr);
        // The whole sentence: the drawing follows after an empty line, or the output ends.
        let rest = said.split_once(&format!("Error: {}\n", expected.trim()));
        let ends = rest.is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('\n'));
        let right = !output.status.success() && ends;
        (!right).then(|| format!("{name}: {}\nand not\n{said}", expected.trim()))
    });
}
