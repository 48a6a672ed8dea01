//! Rules of the project that a compiler does not check. Those on code that lints know are among
//! the workspace's lints.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Files below folders of the project with one of these endings, as paths from its root.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|at| Path::new(ROOT).join(at)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| endings.iter().any(|one| end == *one)) {
                all.push(path.strip_prefix(ROOT).unwrap().to_owned());
            }
        }
    }
    all.sort();
    all
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all that is wrong at once.
#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let exempt = |path: &Path| path.ends_with("tests.rs") || path.ends_with("testing.rs");
    let silent = files(&["crates", "tests"], &["rs"])
        .into_iter()
        .filter(|path| !exempt(path) && !read(path).starts_with("//!"))
        .map(|path| format!("{} has no module doc", path.display()));
    none(&silent.collect::<Vec<_>>());
}

/// Lines that a file may have before it becomes a folder, split by responsibility.
const LONGEST: usize = 600;

/// Files that were over it, or close to it, when the rule came, with what they may have at most.
/// None is added; one that was taken apart is taken off.
const LONGER: &[(&str, usize)] = &[
    ("crates/caddis-tls/src/automate/manager/mod.rs", 700),
    ("tests/abuse.rs", 700),
    ("tests/http2.rs", 700),
    ("tests/http2_limits.rs", 700),
    ("tests/http2_rules.rs", 800),
    ("tests/http3/mod.rs", 700),
    ("tests/streams.rs", 700),
];

#[test]
fn files_are_read_in_one_go() {
    let longer: BTreeMap<_, _> = LONGER.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in files(&["crates", "tests", "fuzz/fuzz_targets"], &["rs"]) {
        let (lines, shown) = (read(&path).lines().count(), path.display().to_string());
        let most = longer.get(&*shown).copied().unwrap_or(LONGEST);
        if lines > most {
            wrong.push(format!("{shown} has {lines} lines, more than {most}"));
        }
    }
    none(&wrong);
}

/// Crates by floor; one names those on lower floors, and of its own floor only what ARCHITECTURE.md
/// says that it borrows.
const FLOORS: &[&[&str]] = &[
    &["caddis-caddyfile", "caddis-config", "caddis-wire"],
    &["caddis-core", "caddis-dns", "caddis-otel"],
    &["caddis-http", "caddis-proxy", "caddis-tls", "caddis-logging"],
    &["caddis-plan"],
    &["caddis-adapter", "caddis-engine"],
];

/// Who borrows, and from whom.
const BORROWED: &[(&str, &str)] = &[
    ("caddis-dns", "caddis-core"),
    ("caddis-otel", "caddis-core"),
    ("caddis-otel", "caddis-dns"),
    ("caddis-proxy", "caddis-http"),
];

/// What stays on the other side of the registry, though the floor is lower.
const APART: &[(&str, &[&str])] = &[
    ("caddis-adapter", &["caddis-http", "caddis-proxy", "caddis-plan"]),
    ("caddis-engine", &["caddis-http", "caddis-proxy", "caddis-caddyfile"]),
    ("caddis-plan", &["caddis-http", "caddis-proxy", "caddis-caddyfile"]),
];

/// The names of a manifest's dependencies, those of tests left out.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            found.insert(line[..end].to_owned());
        }
    }
    found.retain(|name| !name.starts_with('#') && !name.is_empty());
    found
}

#[test]
fn floors_keep_to_themselves() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let mut wrong = Vec::new();
    for name in FLOORS.iter().copied().flatten().copied() {
        let apart = APART.iter().find(|(one, _)| *one == name).map_or(&[][..], |(_, apart)| apart);
        for used in dependencies(&read(format!("crates/{name}/Cargo.toml"))) {
            let Some(below) = floor(&used) else {
                if used.starts_with("caddis") {
                    wrong.push(format!("{name} uses {used}, which has no floor"));
                }
                continue;
            };
            let lower = Some(below) < floor(name) || BORROWED.contains(&(name, &*used));
            if !lower || apart.contains(&&*used) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn floors_do_what_is_theirs() {
    // What a crate leaves to others, beside what its manifest lacks.
    let forbidden = [
        ("caddis-caddyfile", &["serde_json", "std::fs", "tokio"][..]),
        ("caddis-config", &["std::fs", "tokio"]),
        ("caddis-wire", &["tokio", "std::net::Tcp", "std::net::Udp", "std::fs"]),
        ("caddis-core", &["tokio::net", "std::fs"]),
    ];
    let mut wrong = Vec::new();
    for (name, words) in forbidden {
        for path in files(&[&format!("crates/{name}/src")], &["rs"]) {
            let shown = path.display().to_string();
            // Where a text's imports are read, through a trait; placeholders of the machine, files
            // among them, which wait for no disk; what the system tells of the process; tests.
            let exempt = [
                "loader/fs.rs",
                "core/src/placeholder.rs",
                "core/src/disk.rs",
                "core/src/process.rs",
                "corpus.rs",
            ];
            if exempt.iter().any(|end| shown.ends_with(end)) || shown.contains("/tests") {
                continue;
            }
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines();
            let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            for word in words.iter().filter(|word| code.iter().any(|line| line.contains(**word))) {
                wrong.push(format!("{shown} names {word}"));
            }
        }
    }
    none(&wrong);
}

/// The dependencies that the workspace declares, its own crates left out.
fn declared() -> BTreeSet<String> {
    let root = read("Cargo.toml");
    let start = root.find("[workspace.dependencies]").unwrap();
    let section = root[start..].split("\n[").next().unwrap();
    let mut names = dependencies(section);
    names.retain(|name| !name.starts_with("caddis"));
    names
}

#[test]
fn dependencies_are_declared_once_and_named_with_their_jobs() {
    let mut wrong = Vec::new();
    // Behind the workspace's own sections, the root is a package like the others.
    let mut used = read("Cargo.toml").rsplit("[workspace.").next().unwrap().to_owned();
    for path in files(&["crates"], &["toml"]) {
        let text = read(&path);
        let section = text.split_once("dependencies]").map_or("", |(_, section)| section);
        for line in section.lines().filter(|line| line.contains(" = ")) {
            if !line.contains("workspace = true") {
                wrong.push(format!("{} does not inherit: {line}", path.display()));
            }
        }
        used += section;
    }
    let told = read("ARCHITECTURE.md");
    let told = told.split("## Dependencies and their jobs").nth(1).unwrap();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let words: BTreeSet<&str> = told.split(|c| !is_word(c)).collect();
    for name in declared() {
        if !words.contains(&*name) {
            wrong.push(format!("ARCHITECTURE.md does not say what {name} is for"));
        }
        let is_used = used
            .lines()
            .any(|line| line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(['.', ' '])));
        if !is_used {
            wrong.push(format!("nothing uses {name}"));
        }
    }
    none(&wrong);
}

#[test]
fn documents_name_files_that_are_there() {
    let mut all = files(&["crates", "tests", "fixtures", ".ci"], &["rs", "toml", "py", "json"]);
    all.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "deny.toml"].map(PathBuf::from));
    let known = |name: &str| {
        // `core/x.rs` stands for crates/caddis-core/src/x.rs.
        let below = name.split_once('/').map(|(first, rest)| format!("caddis-{first}/src/{rest}"));
        all.iter().any(|path| {
            path.ends_with(name) || below.as_ref().is_some_and(|below| path.ends_with(below))
        })
    };
    let mut wrong = Vec::new();
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"] {
        let text = read(document);
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let names = quoted.filter(|name| name.ends_with(".rs")).chain(linked);
        for name in names.filter(|name| !name.contains("://") && !name.starts_with('#')) {
            if !known(name) && !Path::new(ROOT).join(name).exists() {
                wrong.push(format!("{document} names {name}, which is not there"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn nothing_of_one_machine_or_left_to_do_stays_behind() {
    let home = std::env::var("HOME").ok().filter(|home| home.len() > 1);
    let mut unwanted = vec![ROOT.to_owned()];
    unwanted.extend(home.map(|home| format!("{home}/")));
    unwanted.extend(["TODO", "FIXME", "XXX"].map(|word| format!("{word}:")));
    unwanted.extend(["todo", "unimplemented"].map(|word| format!("{word}!(")));
    let mut wrong = Vec::new();
    let mut all = files(&["crates", "tests", ".ci", "fuzz/fuzz_targets"], &["rs", "toml", "py"]);
    all.extend(["ARCHITECTURE.md", "README.md", "CHANGELOG.md"].map(PathBuf::from));
    for path in all {
        let text = read(&path);
        for word in unwanted.iter().filter(|word| text.contains(word.as_str())) {
            wrong.push(format!("{} has {word}", path.display()));
        }
    }
    none(&wrong);
}

#[test]
fn json_objects_stay_sorted() {
    let object = serde_json::json!({ "b": 1, "a": 2 });
    assert_eq!(object.to_string(), r#"{"a":2,"b":1}"#, "serde_json/preserve_order is on");
}
