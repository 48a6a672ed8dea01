//! Where a config comes from: file, standard input, the folder's Caddyfile (spec A067–A070).

use std::{borrow::Cow, io::Read, path::Path, sync::Arc};

use caddis_caddyfile::{Diagnostic, FsLoader, SourceMap};
use caddis_core::Registry;
use serde_json::Value as Json;

use crate::args::Config;

pub(crate) use caddis_core::error::plain;

/// A config that was read and adapted.
pub(crate) struct Loaded {
    pub(crate) json: Json,
    /// The file it came from; `None` for standard input or no file at all.
    pub(crate) file: Option<String>,
    pub(crate) adapter: String,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) sources: Arc<SourceMap>,
    /// The text that it was made from.
    pub(crate) text: Text,
}

/// A config as read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text {
    /// The file's name, for messages.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// `caddyfile`, or empty or `json` for JSON.
    pub(crate) adapter: String,
}

impl Text {
    /// Whether the text is Caddy's JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.adapter.is_empty() || self.adapter == "json"
    }
}

/// Why there is no config.
pub(crate) enum Failure {
    /// A sentence.
    Message(String),
    /// Mistakes in a Caddyfile.
    Diagnostics(Vec<Diagnostic>, Arc<SourceMap>),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Diagnostics(all, _) => {
                let first = all.iter().find(|one| one.is_error()).or(all.first());
                match first {
                    Some(first)
                        if ["json::", "config::"].iter().any(|of| first.code.starts_with(of)) =>
                    {
                        write!(f, "{first}")
                    }
                    Some(first) => write!(f, "adapting config using caddyfile: {first}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Reads and adapts the config that the flags name. `None`: no file was named and there is none here.
pub(crate) fn load(flags: &Config, registry: &Registry) -> Result<Option<Loaded>, Failure> {
    let Some(text) = read_text(flags)? else { return Ok(None) };
    let (json, warnings, sources) = to_json(&text, registry)?;
    let file = (text.name != "-").then(|| text.name.clone());
    let adapter = text.adapter.clone();
    Ok(Some(Loaded { json, file, adapter, warnings, sources, text }))
}

fn to_json(
    text: &Text,
    registry: &Registry,
) -> Result<(Json, Vec<Diagnostic>, Arc<SourceMap>), Failure> {
    if text.is_json() {
        return Ok((parse_json(text)?, Vec::new(), Arc::default()));
    }
    adapt_caddyfile(&text.name, &text.bytes, registry)
}

/// The JSON of a text once more; none if it cannot be read now.
pub(crate) fn json_of(text: &Text, registry: &Registry) -> Option<Json> {
    to_json(text, registry).ok().map(|(json, ..)| json)
}

/// Reads the config that the flags name. `None`: no file was named and there is none here.
pub(crate) fn read_text(flags: &Config) -> Result<Option<Text>, Failure> {
    if flags.file().is_none() && flags.adapter().is_some() {
        let message = "cannot adapt config without config file (use --config)";
        return Err(Failure::Message(message.into()));
    }
    let Some(name) = name_of(flags) else { return Ok(None) };
    let bytes = read(&name)
        .map_err(|error| Failure::Message(format!("reading config from file: {error}")))?;
    let adapter = flags.adapter().unwrap_or_else(|| guess_adapter(&name)).to_owned();
    if !["", "json", "caddyfile"].contains(&adapter.as_str()) {
        return Err(Failure::Message(format!("unrecognized config adapter: {adapter}")));
    }
    Ok(Some(Text { name, bytes, adapter }))
}

/// The file that the flags name, or the folder's Caddyfile.
pub(crate) fn name_of(flags: &Config) -> Option<String> {
    let here = || Path::new("Caddyfile").exists().then(|| "Caddyfile".to_owned());
    flags.file().map(str::to_owned).or_else(here)
}

/// Reads a file, `-` for standard input; an error as Caddy says it.
pub(crate) fn read(name: &str) -> std::io::Result<Vec<u8>> {
    if name == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        return Ok(text);
    }
    std::fs::read(name).map_err(|error| {
        std::io::Error::new(error.kind(), format!("open {name}: {}", plain(&error)))
    })
}

fn guess_adapter(name: &str) -> &'static str {
    let base = Path::new(name)
        .file_name()
        .map(|base| base.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let caddyfile = base.starts_with("caddyfile") || base.ends_with(".caddyfile");
    if caddyfile && !base.ends_with(".json") { "caddyfile" } else { "" }
}

/// Reads a JSON config.
pub(crate) fn parse_json(text: &Text) -> Result<Json, Failure> {
    serde_json::from_slice(&text.bytes).map_err(|error| {
        let (all, sources) = crate::diagnose::no_json(text, &error);
        Failure::Diagnostics(all, sources)
    })
}

/// Adapts a Caddyfile to JSON.
pub(crate) fn adapt_caddyfile(
    name: &str,
    text: &[u8],
    registry: &Registry,
) -> Result<(Json, Vec<Diagnostic>, Arc<SourceMap>), Failure> {
    let (json, warnings, sources) = adapt_text(name, text, registry)?;
    let json = serde_json::from_str(&json)
        .map_err(|error| Failure::Message(format!("encoding config: {error}")))?;
    Ok((json, warnings, sources))
}

/// Adapts a Caddyfile to the text of its JSON.
pub(crate) fn adapt_text<'a>(
    name: &str,
    text: impl Into<Cow<'a, [u8]>>,
    registry: &Registry,
) -> Result<(String, Vec<Diagnostic>, Arc<SourceMap>), Failure> {
    let text = text.into();
    if text.is_empty() {
        return Err(Failure::Diagnostics(vec![nothing(name)], Arc::default()));
    }
    let (mut file, found) = caddis_caddyfile::parse(name, text, &FsLoader);
    let (mut errors, mut warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(Diagnostic::is_error);
    let adapted = caddis_adapter::adapt_to_text(std::mem::take(&mut file.blocks), registry);
    let sources = Arc::new(file.sources);
    match adapted {
        Ok((json, more)) if errors.is_empty() => {
            warnings.extend(more);
            warnings.extend(unformatted(name, &sources));
            Ok((json, warnings, sources))
        }
        adapted => {
            // The parser's mistakes come first; what the adapter says of a broken tree only adds.
            errors.extend(adapted.err().unwrap_or_default());
            match caddis_adapter::reword_stray_brace(&mut errors, &sources, &FsLoader, registry) {
                Some((file, mut adapted)) => {
                    adapted.warnings.extend(unformatted(name, &file.sources));
                    let json = caddis_config::json::write::to_string(&adapted.config)
                        .map_err(|error| Failure::Message(format!("encoding config: {error}")))?;
                    Ok((json, adapted.warnings, Arc::new(file.sources)))
                }
                None => Err(all_mistakes(name, errors, sources, registry)),
            }
        }
    }
}

/// Largest text of which all mistakes are looked for where a config is only to be loaded.
const LOOKED_THROUGH: usize = 256 << 10;

/// The mistakes of a Caddyfile that does not adapt, as `caddis check` has them: also those that show
/// only in the rest of it. `errors` are those that are known.
fn all_mistakes(
    name: &str,
    errors: Vec<Diagnostic>,
    sources: Arc<SourceMap>,
    registry: &Registry,
) -> Failure {
    let main = sources.iter().next().map(|(_, main)| main.text.as_bytes().to_vec());
    if let Some(bytes) = main.filter(|main| main.len() <= LOOKED_THROUGH) {
        let text = Text { name: name.to_owned(), bytes, adapter: "caddyfile".to_owned() };
        let (all, found_in) = crate::commands::check::mistakes_of(&text, registry);
        // Whoever loads the config is told Caddy's sentence, whatever else is found.
        let same =
            |one: &Diagnostic| Some(one.to_string()) == errors.first().map(ToString::to_string);
        if all.first().is_some_and(same) {
            return Failure::Diagnostics(all, found_in);
        }
    }
    Failure::Diagnostics(errors, sources)
}

/// What is wrong with a Caddyfile without a single byte. One with a comment or a blank line is the
/// empty config, but this is what a file is whose writing went wrong.
pub(crate) fn nothing(name: &str) -> Diagnostic {
    Diagnostic::error("EOF")
        .help(format!("{name} has no content; a file with a comment in it is an empty config"))
}

/// A warning if the main text is not formatted.
fn unformatted(name: &str, sources: &SourceMap) -> Option<Diagnostic> {
    let (_, main) = sources.iter().next()?;
    caddis_caddyfile::formatting_difference(name, &main.text)
}

const ENVIRONMENT: &str = "loading additional environment variables";

/// The variables of environment files (spec A095) that are not set already.
///
/// # Errors
/// A file that cannot be read, a line that is no assignment.
pub(crate) fn env_files(files: &[std::path::PathBuf]) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!(
                "{ENVIRONMENT}: reading environment file: open {}: {}",
                path.display(),
                plain(&error)
            )
        })?;
        let pairs = parse_env(&text).map_err(|error| {
            format!("{ENVIRONMENT}: parsing environment file: {}: {error}", path.display())
        })?;
        for (key, value) in pairs {
            let set = std::env::var_os(&key).is_some() || all.iter().any(|(name, _)| *name == key);
            if !set {
                all.push((key, value));
            }
        }
    }
    Ok(all)
}

/// The assignments of an environment file; of the same key, the last one counts.
fn parse_env(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let (line, at) = (line.trim(), at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("can't parse line {at}; line should be in KEY=VALUE format"));
        };
        let key = key.strip_prefix("export ").unwrap_or(key);
        if key.is_empty() {
            return Err(format!("missing or empty key on line {at}"));
        }
        if key.contains(' ') {
            return Err(format!("invalid key on line {at}: contains whitespace: {key}"));
        }
        if value.starts_with([' ', '\t']) {
            return Err(format!("invalid value on line {at}: whitespace before value: '{value}'"));
        }
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote, &mut lines),
            // As in Caddy, a comment needs no space before it.
            _ => value.split('#').next().unwrap_or_default().trim_end().to_owned(),
        };
        all.retain(|(known, _)| *known != key);
        all.push((key.to_owned(), value));
    }
    Ok(all)
}

/// A value in quotes, after the first one. Where it ends on its line it stays as it is; else further
/// lines belong to it, up to one that ends with the quote, and quotes after a backslash are its own.
fn quoted<'a>(
    first: &str,
    quote: char,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> String {
    let escaped = format!("\\{quote}");
    let ends = |text: &str| text.ends_with(quote) && !text.ends_with(&escaped);
    let without_comment =
        first.rfind('#').map(|at| first[..at].trim_end()).filter(|text| ends(text));
    for line in [Some(first), without_comment].into_iter().flatten() {
        if ends(line) {
            return line.strip_suffix(quote).unwrap_or(line).to_owned();
        }
    }
    let plain = |text: &str| text.replace(&escaped, &quote.to_string());
    let mut value = plain(first);
    for (_, line) in lines {
        value.push('\n');
        value.push_str(&plain(line));
        if ends(line) {
            break;
        }
    }
    value.strip_suffix(quote).unwrap_or(&value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_adapters() {
        for name in ["Caddyfile", "caddyfile.prod", "/x/site.caddyfile", "Caddyfile.example"] {
            assert_eq!(guess_adapter(name), "caddyfile", "{name}");
        }
        for name in ["caddy.json", "Caddyfile.json", "config"] {
            assert_eq!(guess_adapter(name), "", "{name}");
        }
    }

    #[test]
    fn reads_env_files() {
        let text = "# c\nexport A=1\nB=\"two words\"\nC='x\ny'\nD=v # note\n\
            E=a#b\nF=\"a # b\"\nG=\"a\" # c\nH='it\\'s\nso'\nI=\nJ=\"a\\\"b\"\nA=2\nK=\"\n\"\nL=a=b\nM='";
        let all = parse_env(text).unwrap();
        let want = [
            ("B", "two words"),
            ("C", "x\ny"),
            ("D", "v"),
            ("E", "a"),
            ("F", "a # b"),
            ("G", "a"),
            ("H", "it's\nso"),
            ("I", ""),
            ("J", "a\\\"b"),
            ("A", "2"),
            ("K", "\n"),
            ("L", "a=b"),
            ("M", ""),
        ];
        assert_eq!(all, want.map(|(key, value)| (key.to_owned(), value.to_owned())));
        for (text, want) in [
            ("nonsense", "can't parse line 1; line should be in KEY=VALUE format"),
            ("\n=1", "missing or empty key on line 2"),
            ("A B=1", "invalid key on line 1: contains whitespace: A B"),
            ("A= 1", "invalid value on line 1: whitespace before value: ' 1'"),
        ] {
            assert_eq!(parse_env(text), Err(want.to_owned()));
        }
    }
}
