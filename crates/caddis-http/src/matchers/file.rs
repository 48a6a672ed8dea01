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

#[derive(Clone, Copy)]
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

struct Candidate {
    full: String,
    remainder: String,
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
    /// The existing paths that an entry names. Without a pattern it is one, looked up by the caller.
    fn candidates(
        &self,
        root: &str,
        template: &Template,
        directory: bool,
        glob: bool,
        ex: &Exchange,
    ) -> Vec<Candidate> {
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
        let remainder = after.to_owned();
        if glob {
            let found = expand(&full).into_iter();
            return found.map(|full| Candidate { full, remainder: remainder.clone() }).collect();
        }
        vec![Candidate { full, remainder }]
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

    fn first(
        &self,
        root: &str,
        fallback: bool,
        ex: &Exchange,
    ) -> Result<Option<(Candidate, bool)>> {
        for (at, entry) in self.tries.iter().enumerate() {
            let (template, directory, glob) = match entry {
                Try::Status(status, text) => return Err(HttpError::new(*status, text)),
                Try::Name { template, directory, glob } => (template, *directory, *glob),
            };
            let last = fallback && at + 1 == self.tries.len();
            for candidate in self.candidates(root, template, directory, glob, ex) {
                let Ok(metadata) = std::fs::metadata(names::path(&candidate.full)) else {
                    continue;
                };
                if last {
                    return Ok(Some((candidate, false)));
                }
                if metadata.is_dir() == candidate.full.ends_with('/') {
                    return Ok(Some((candidate, metadata.is_dir())));
                }
            }
        }
        Ok(None)
    }

    /// The candidate that is better than all before it.
    fn best(
        &self,
        root: &str,
        ex: &Exchange,
        better: impl Fn(&Metadata, Option<&Metadata>) -> bool,
    ) -> Option<(Candidate, bool)> {
        let mut best: Option<(Candidate, Metadata)> = None;
        for entry in &self.tries {
            let Try::Name { template, directory, glob } = entry else { continue };
            for candidate in self.candidates(root, template, *directory, *glob, ex) {
                let Ok(metadata) = std::fs::metadata(names::path(&candidate.full)) else {
                    continue;
                };
                if better(&metadata, best.as_ref().map(|(_, metadata)| metadata)) {
                    best = Some((candidate, metadata));
                }
            }
        }
        best.map(|(candidate, metadata)| (candidate, metadata.is_dir()))
    }
}

impl Matcher for File {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if !crate::handlers::file_server::is_default_fs(&self.fs.render(ex)) {
            return Ok(false);
        }
        let root = clean(&self.root.render(ex)).into_owned();
        let found = match self.policy {
            Policy::FirstExist { fallback } => self.first(&root, fallback, ex)?,
            Policy::Largest => {
                self.best(&root, ex, |new, best| new.len() > best.map_or(0, Metadata::len))
            }
            // A size of zero counts as none, as in Caddy.
            Policy::Smallest => self.best(&root, ex, |new, best| {
                best.is_none_or(|best| best.len() == 0 || new.len() < best.len())
            }),
            Policy::MostRecent => self.best(&root, ex, |new, best| {
                best.is_none_or(|best| new.modified().ok() > best.modified().ok())
            }),
        };
        let Some((candidate, directory)) = found else { return Ok(false) };
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
