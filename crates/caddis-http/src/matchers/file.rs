//! `file`: a file (or directory) exists.
//!
//! ```text
//! file [<files...>] {
//!     root       <path>
//!     try_files  <files...>
//!     try_policy first_exist|first_exist_fallback|smallest_size|largest_size|most_recently_modified
//!     split_path <delims...>
//! }
//! ```
//!
//! JSON: `{"fs", "root", "try_files", "try_policy", "split_path"}`. A name that ends with a slash
//! must be a directory, another one must not. `=404` among the names is an error with that status.
//! Sets `{http.matchers.file.relative}`, `.absolute`, `.type` and `.remainder`.
//!
//! What the kernel has in memory is known at once; else the route waits, and not its worker.

use std::{borrow::Cow, fs::Metadata};

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, HttpError, Matcher, MatcherModule, Result, Template, Value,
    template::Unknown,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    fs_glob::{escape, expand, has_meta},
    shape,
};
use crate::{
    disk::Disk,
    names,
    path::{clean, sanitized_join},
};

/// `http.matchers.file`.
pub static MODULE: MatcherModule = MatcherModule { id: "http.matchers.file", parse, compile };

/// JSON shape of the matcher.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileMatcherConfig {
    /// The file system's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fs: String,
    /// Where names start; `{http.vars.root}` if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// Names to try; the request's path if empty.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub try_files: Vec<String>,
    /// How one of them is chosen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub try_policy: String,
    /// Where a path is split into the file's name and a remainder.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub split_path: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    FirstExist { fallback: bool },
    Smallest,
    Largest,
    MostRecent,
}

enum Try {
    Status(StatusCode, String),
    Name { template: Template, directory: bool, glob: bool },
}

struct File {
    fs: Template,
    root: Template,
    tries: Vec<Try>,
    policy: Policy,
    split: Vec<String>,
}

/// One of the names, as it is for a request.
#[derive(Clone, PartialEq, Eq)]
enum Entry {
    Status(StatusCode, String),
    Path(Candidate),
    /// Whatever paths fit the candidate's.
    Pattern(Candidate),
}

#[derive(Clone, PartialEq, Eq)]
struct Candidate {
    full: String,
    remainder: String,
}

/// What a search ends with.
#[derive(Clone)]
enum Outcome {
    Found { candidate: Candidate, directory: bool },
    Nothing,
    Status(StatusCode, String),
}

/// A search that has to wait for the disk.
#[derive(Clone, PartialEq, Eq)]
struct Search {
    policy: Policy,
    entries: Vec<Entry>,
}

struct Answer {
    search: Search,
    outcome: Outcome,
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    let mut config = FileMatcherConfig::default();
    loop {
        config.try_files.extend(d.remaining_args());
        while d.next_block(0) {
            match d.val() {
                "root" => config.root = one(d)?,
                "try_policy" => config.try_policy = one(d)?,
                "try_files" => {
                    config.try_files.extend(d.remaining_args());
                    if config.try_files.is_empty() {
                        return Err(d.arg_err());
                    }
                }
                "split_path" => {
                    config.split_path = d.remaining_args();
                    if config.split_path.is_empty() {
                        return Err(d.arg_err());
                    }
                }
                other => {
                    let error = d.err(format_args!("unrecognized subdirective: {other}"));
                    let known = ["root", "try_files", "try_policy", "split_path"];
                    return Err(d.did_you_mean(error, known));
                }
            }
        }
        if !d.next() {
            break;
        }
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn one(d: &mut Dispenser) -> ParseResult<String> {
    if d.next_arg() { Ok(d.val().to_owned()) } else { Err(d.arg_err()) }
}

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    let mut config: FileMatcherConfig = shape(json)?;
    let policy = match config.try_policy.as_str() {
        "" | "first_exist" => Policy::FirstExist { fallback: false },
        "first_exist_fallback" => Policy::FirstExist { fallback: true },
        "smallest_size" => Policy::Smallest,
        "largest_size" => Policy::Largest,
        "most_recently_modified" => Policy::MostRecent,
        other => {
            return Err(ConfigError::new("try_policy", format!("unknown try policy {other}")));
        }
    };
    if config.try_files.is_empty() {
        config.try_files.push("{http.request.uri.path}".into());
    }
    let or =
        |text: &str, default: &str| Template::parse(if text.is_empty() { default } else { text });
    Ok(Box::new(File {
        fs: or(&config.fs, "{http.vars.fs}"),
        root: or(&config.root, "{http.vars.root}"),
        tries: config.try_files.iter().map(|text| Try::parse(text)).collect(),
        policy,
        split: config.split_path,
    }))
}

impl Try {
    fn parse(text: &str) -> Self {
        if let Some(code) = text.strip_prefix('=').and_then(|code| code.parse().ok())
            && let Ok(status) = StatusCode::from_u16(code)
        {
            return Self::Status(status, code.to_string());
        }
        let template = Template::parse(text);
        // Only what the configuration itself writes is a pattern, never a placeholder's value.
        let mut own = text.to_owned();
        for key in template.keys() {
            own = own.replace(&format!("{{{key}}}"), "");
        }
        Self::Name { directory: text.ends_with('/'), glob: has_meta(&own), template }
    }
}

impl File {
    /// The names for a request, one after the other.
    fn entries<'a>(&'a self, root: &'a str, ex: &'a Exchange) -> impl Iterator<Item = Entry> + 'a {
        self.tries.iter().map(|entry| match entry {
            Try::Status(status, text) => Entry::Status(*status, text.clone()),
            Try::Name { template, directory, glob } => {
                let candidate = self.candidate(root, template, *directory, *glob, ex);
                if *glob { Entry::Pattern(candidate) } else { Entry::Path(candidate) }
            }
        })
    }

    /// The path, or the pattern of paths, that an entry names.
    fn candidate(
        &self,
        root: &str,
        template: &Template,
        directory: bool,
        glob: bool,
        ex: &Exchange,
    ) -> Candidate {
        let path = ex.request.target.path_bytes();
        let has_path = path.is_some() && !glob;
        let name: Cow<'_, str> = if glob {
            Cow::Owned(template.render_map(ex, Unknown::Empty, |_, value, out| escape(&value, out)))
        } else if let Some(path) = path {
            Cow::Owned(template.render_map(ex, Unknown::Empty, |key, value, out| match key {
                "http.request.uri.path" => out.push_str(&names::from_bytes(&path)),
                _ => out.push_str(&value),
            }))
        } else {
            template.render(ex)
        };
        let strange = match names::from_text(&name) {
            Cow::Owned(text) if !has_path => Some(text),
            _ => None,
        };
        let name = strange.map_or(name, Cow::Owned);
        let cleaned = clean(&name);
        let (before, after) = self.first_split(&cleaned);
        let mut before = before.to_owned();
        if directory {
            before.push('/');
        }
        let mut full = sanitized_join(root, &before).to_string_lossy().into_owned();
        if before == "/" && full.len() > 1 && full.ends_with('/') {
            // The root itself is a directory, and no directory was asked for.
            full.pop();
        }
        Candidate { full, remainder: after.to_owned() }
    }

    /// Splits behind the first delimiter that ends an element of the path.
    fn first_split<'a>(&self, path: &'a str) -> (&'a str, &'a str) {
        for delimiter in &self.split {
            let found = (0..path.len()).find(|&at| {
                path.len() > at + delimiter.len()
                    && path.is_char_boundary(at)
                    && path
                        .get(at..at + delimiter.len())
                        .is_some_and(|part| part.eq_ignore_ascii_case(delimiter))
            });
            if let Some(at) = found {
                let end = at + delimiter.len();
                if path[end..].starts_with('/') {
                    return path.split_at(end);
                }
            }
        }
        (path, "")
    }
}

impl Policy {
    /// Looks for the entry that is chosen. Where the disk has missed something, the outcome is none.
    fn search(self, disk: &Disk, entries: impl Iterator<Item = Entry>) -> Outcome {
        match self {
            Self::FirstExist { fallback } => first(disk, fallback, entries),
            Self::Largest => {
                best(disk, entries, |new, best| new.len() > best.map_or(0, Metadata::len))
            }
            // A size of zero counts as none, as in Caddy.
            Self::Smallest => best(disk, entries, |new, best| {
                best.is_none_or(|best| best.len() == 0 || new.len() < best.len())
            }),
            Self::MostRecent => best(disk, entries, |new, best| {
                best.is_none_or(|best| new.modified().ok() > best.modified().ok())
            }),
        }
    }
}

impl Entry {
    /// The paths it stands for; reading directories is always waited for.
    fn candidates(self, disk: &Disk) -> Vec<Candidate> {
        match self {
            Self::Status(..) => Vec::new(),
            Self::Path(candidate) => vec![candidate],
            Self::Pattern(_) if disk.must_wait() => Vec::new(),
            Self::Pattern(Candidate { full, remainder }) => {
                let found = expand(&full).into_iter();
                found.map(|full| Candidate { full, remainder: remainder.clone() }).collect()
            }
        }
    }
}

fn first(disk: &Disk, fallback: bool, entries: impl Iterator<Item = Entry>) -> Outcome {
    let mut entries = entries.peekable();
    while let Some(entry) = entries.next() {
        let last = fallback && entries.peek().is_none();
        if let Entry::Status(status, text) = entry {
            return Outcome::Status(status, text);
        }
        for candidate in entry.candidates(disk) {
            let Ok(metadata) = disk.metadata(&candidate.full) else { continue };
            let directory = metadata.is_dir();
            if last {
                return Outcome::Found { candidate, directory: false };
            }
            if directory == candidate.full.ends_with('/') {
                return Outcome::Found { candidate, directory };
            }
        }
        if disk.missed() {
            break;
        }
    }
    Outcome::Nothing
}

/// The candidate that is better than all before it.
fn best(
    disk: &Disk,
    entries: impl Iterator<Item = Entry>,
    better: impl Fn(&Metadata, Option<&Metadata>) -> bool,
) -> Outcome {
    let mut best: Option<(Candidate, Metadata)> = None;
    for candidate in entries.flat_map(|entry| entry.candidates(disk)) {
        let Ok(metadata) = disk.metadata(&candidate.full) else { continue };
        if better(&metadata, best.as_ref().map(|(_, metadata)| metadata)) {
            best = Some((candidate, metadata));
        }
    }
    match best {
        Some((candidate, metadata)) => Outcome::Found { candidate, directory: metadata.is_dir() },
        None => Outcome::Nothing,
    }
}

impl Search {
    fn run(&self) -> Outcome {
        self.policy.search(&Disk::patient(), self.entries.iter().cloned())
    }

    /// What came of it; none where that is still to be waited for.
    fn outcome(self, ex: &mut Exchange) -> Option<Outcome> {
        let known = ex.awaited.answers::<Answer>().find(|answer| answer.search == self);
        if let Some(answer) = known {
            return Some(answer.outcome.clone());
        }
        if !ex.awaited.can_wait() {
            return Some(self.run());
        }
        ex.awaited.ask(async move {
            let search = self.clone();
            let outcome = tokio::task::spawn_blocking(move || search.run()).await;
            // It fails where the process ends.
            Answer { search: self, outcome: outcome.unwrap_or(Outcome::Nothing) }
        });
        None
    }
}

impl Matcher for File {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if !crate::handlers::file_server::is_default_fs(&self.fs.render(ex)) {
            return Ok(false);
        }
        let root = clean(&self.root.render(ex)).into_owned();
        let memory = Disk::memory();
        let mut outcome = self.policy.search(&memory, self.entries(&root, ex));
        if memory.missed() {
            let entries = self.entries(&root, ex).collect();
            match (Search { policy: self.policy, entries }).outcome(ex) {
                Some(known) => outcome = known,
                None => return Ok(false),
            }
        }
        let (candidate, directory) = match outcome {
            Outcome::Found { candidate, directory } => (candidate, directory),
            Outcome::Nothing => return Ok(false),
            Outcome::Status(status, text) => return Err(HttpError::new(status, text)),
        };
        let relative = match candidate.full.strip_prefix(root.as_str()) {
            Some(relative) if root != "." => relative,
            _ => &candidate.full,
        };
        let kind = if directory { "directory" } else { "file" };
        ex.set_value("http.matchers.file.relative", Value::string(relative));
        ex.set_value("http.matchers.file.absolute", Value::string(candidate.full.as_str()));
        ex.set_value("http.matchers.file.remainder", Value::string(candidate.remainder));
        ex.set_value("http.matchers.file.type", Value::str(kind));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Template;
    use serde_json::json;

    use super::super::testing::{compile, matcher, parse};
    use super::*;
    use crate::handlers::file_server::test_dir::TestDir;

    fn found(text: &str, dir: &TestDir, target: &str) -> Option<String> {
        let mut ex = Exchange::for_test(target);
        ex.set_var("root", Value::string(dir.path()));
        let matched = matcher(&MODULE, text).matches(&mut ex).expect("no error");
        let keys = "{http.matchers.file.relative} {http.matchers.file.remainder}";
        matched.then(|| Template::parse(keys).render(&ex).trim_end().to_owned())
    }

    #[test]
    fn a_name_that_is_no_utf8() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
        let dir = TestDir::new(&[("index.html", "i")]);
        let file = Path::new(dir.path()).join(OsStr::from_bytes(b"caf\xe9.txt"));
        std::fs::write(file, "latin").expect("written");
        let mut ex = Exchange::for_test("/caf%E9.txt");
        ex.set_var("root", Value::string(dir.path()));
        let text = "file {http.request.uri.path} /index.html";
        assert!(matcher(&MODULE, text).matches(&mut ex).expect("no error"));
        let config = crate::handlers::rewrite::Config {
            uri: "{http.matchers.file.relative}".into(),
            ..Default::default()
        };
        let rewrite = crate::handlers::rewrite::Rewrite::compile(&config).expect("valid");
        rewrite.apply_to_exchange(&mut ex);
        assert_eq!(ex.request.target.as_str(), "/caf%E9.txt");
        assert_eq!(found(text, &dir, "/caf%E8.txt").as_deref(), Some("/index.html"));
    }

    #[test]
    fn first_that_exists() {
        let dir = TestDir::new(&[
            ("a.txt", "a"),
            ("page.html", "p"),
            ("dir/index.htm", "i"),
            ("fallback.txt", "f"),
        ]);
        let text = "file {http.request.uri.path} {http.request.uri.path}.html \
                    {http.request.uri.path}/index.htm /fallback.txt";
        for (target, want) in [
            ("/a.txt", "/a.txt"),
            ("/page", "/page.html"),
            ("/dir", "/dir/index.htm"),
            ("/dir/", "/dir/index.htm"),
            ("/nothing", "/fallback.txt"),
            ("/", "/fallback.txt"),
            ("/a.txt/", "/a.txt"),
            ("/%61.txt", "/a.txt"),
            ("/a.txt%00", "/fallback.txt"),
        ] {
            assert_eq!(found(text, &dir, target).as_deref(), Some(want), "{target}");
        }
        assert_eq!(found("file {http.request.uri.path}/", &dir, "/dir").as_deref(), Some("/dir/"));
        assert_eq!(found("file {http.request.uri.path}/", &dir, "/").as_deref(), Some("/"));
        assert_eq!(found("file /dir", &dir, "/"), None);
        assert_eq!(found("file /*.html", &dir, "/").as_deref(), Some("/page.html"));
        assert_eq!(found("file /*/index.htm", &dir, "/").as_deref(), Some("/dir/index.htm"));
        assert_eq!(found("file", &dir, "/*.txt"), None);
    }

    #[test]
    fn splits() {
        let dir = TestDir::new(&[("app.php", "x"), ("lib.php5", "x"), ("index.php", "x")]);
        let text =
            "file {\n try_files {http.request.uri.path} /index.php\n split_path .php .PHP5\n}";
        for (target, want) in [
            ("/app.php/extra/info", "/app.php /extra/info"),
            ("/app.php", "/app.php"),
            ("/APP.PHP/x", "/index.php"),
            ("/lib.php5/y", "/lib.php5 /y"),
            ("/app.phpx", "/index.php"),
        ] {
            assert_eq!(found(text, &dir, target).as_deref(), Some(want), "{target}");
        }
    }

    #[test]
    fn policies() {
        let dir = TestDir::new(&[("small", "s"), ("large", "large")]);
        let by = |policy: &str, files: &str| {
            let text = format!("file {files} {{\n try_policy {policy}\n}}");
            found(&text, &dir, "/")
        };
        assert_eq!(by("largest_size", "/small /large /none").as_deref(), Some("/large"));
        assert_eq!(by("smallest_size", "/large /small").as_deref(), Some("/small"));
        assert_eq!(by("first_exist", "/none /large").as_deref(), Some("/large"));
        assert_eq!(by("first_exist_fallback", "/none /also-none"), None);
        assert!(by("most_recently_modified", "/large").is_some());
        let error = compile(&MODULE, &json!({"try_policy": "x"})).err();
        assert_eq!(error.as_deref(), Some("try_policy: unknown try policy x"));
    }

    #[test]
    fn status_ends_the_search() {
        let mut ex = Exchange::for_test("/");
        let error = matcher(&MODULE, "file /none-at-all =418").matches(&mut ex).expect_err("418");
        assert_eq!((error.status.as_u16(), error.message.as_str()), (418, "418"));
    }

    #[test]
    fn shapes() {
        assert_eq!(
            parse(&MODULE, "file /a {\n root /srv\n try_files /b\n}"),
            Ok(json!({"root": "/srv", "try_files": ["/a", "/b"]}))
        );
        let error = parse(&MODULE, "file {\n nope\n}");
        assert_eq!(error, Err("unrecognized subdirective: nope".into()));
    }
}
