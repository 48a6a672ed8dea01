//! Where a config comes from: file, standard input, the folder's Caddyfile (spec A067–A070).

use std::{io::Read, path::Path, sync::Arc};

use caddis_caddyfile::{Diagnostic, FsLoader, SourceMap};
use caddis_core::Registry;
use serde_json::Value as Json;

use crate::args::Config;

/// A config that was read and adapted.
pub(crate) struct Loaded {
    pub(crate) json: Json,
    /// The file it came from; `None` for standard input or no file at all.
    pub(crate) file: Option<String>,
    pub(crate) adapter: String,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) sources: Arc<SourceMap>,
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
                first.map_or(Ok(()), |first| write!(f, "adapting config using caddyfile: {first}"))
            }
        }
    }
}

/// Reads the config that the flags name. `None`: no file was named and there is none here.
pub(crate) fn load(flags: &Config, registry: &Registry) -> Result<Option<Loaded>, Failure> {
    if flags.config.is_none() && flags.adapter.is_some() {
        let message = "cannot adapt config without config file (use --config)";
        return Err(Failure::Message(message.into()));
    }
    let name = match &flags.config {
        Some(name) => name.clone(),
        None if Path::new("Caddyfile").exists() => "Caddyfile".to_owned(),
        None => return Ok(None),
    };
    let text = read(&name)
        .map_err(|error| Failure::Message(format!("reading config from file: {error}")))?;
    let adapter = flags.adapter.clone().unwrap_or_else(|| guess_adapter(&name).to_owned());
    let file = (name != "-").then(|| name.clone());
    if adapter.is_empty() || adapter == "json" {
        let json = parse_json(&text, &name)?;
        let (warnings, sources) = (Vec::new(), Arc::default());
        return Ok(Some(Loaded { json, file, adapter, warnings, sources }));
    }
    if adapter != "caddyfile" {
        return Err(Failure::Message(format!("unrecognized config adapter: {adapter}")));
    }
    let (json, warnings, sources) = adapt_caddyfile(&name, &text, registry)?;
    Ok(Some(Loaded { json, file, adapter, warnings, sources }))
}

fn read(name: &str) -> std::io::Result<Vec<u8>> {
    if name == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        return Ok(text);
    }
    std::fs::read(name).map_err(|error| {
        let plain = error.to_string();
        let plain = plain.split(" (os error").next().unwrap_or_default().to_lowercase();
        std::io::Error::new(error.kind(), format!("open {name}: {plain}"))
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

fn parse_json(text: &[u8], name: &str) -> Result<Json, Failure> {
    serde_json::from_slice(text).map_err(|error| {
        Failure::Message(format!(
            "{name}:{}:{}: config is not valid JSON: {error}; did you mean to use a config adapter (the --adapter flag)?",
            error.line(),
            error.column()
        ))
    })
}

/// Adapts a Caddyfile to JSON.
pub(crate) fn adapt_caddyfile(
    name: &str,
    text: &[u8],
    registry: &Registry,
) -> Result<(Json, Vec<Diagnostic>, Arc<SourceMap>), Failure> {
    let (file, found) = caddis_caddyfile::parse(name, text, &FsLoader);
    let (mut errors, mut warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(Diagnostic::is_error);
    let adapted = caddis_adapter::adapt(&file, registry);
    let sources = Arc::new(file.sources);
    match adapted {
        Ok(adapted) if errors.is_empty() => {
            warnings.extend(adapted.warnings);
            let json = serde_json::to_value(&adapted.config)
                .map_err(|error| Failure::Message(format!("encoding config: {error}")))?;
            Ok((json, warnings, sources))
        }
        Ok(_) => Err(Failure::Diagnostics(errors, sources)),
        Err(more) => {
            // The parser's mistakes come first; what the adapter says of a broken tree only adds.
            errors.extend(more);
            Err(Failure::Diagnostics(errors, sources))
        }
    }
}

/// The variables of environment files (spec A095) that are not set already.
///
/// # Errors
/// A file that cannot be read, a line that is no assignment.
pub(crate) fn env_files(files: &[std::path::PathBuf]) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("loading environment file {}: {error}", path.display()))?;
        let pairs = parse_env(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for (key, value) in pairs {
            let set = std::env::var_os(&key).is_some() || all.iter().any(|(name, _)| *name == key);
            if !set {
                all.push((key, value));
            }
        }
    }
    Ok(all)
}

fn parse_env(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("can't parse line {}; line should be in KEY=VALUE format", at + 1));
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("invalid key on line {}: '{key}'", at + 1));
        }
        let mut value = value.to_owned();
        if let Some(quote) = value.chars().next().filter(|quote| matches!(quote, '"' | '\'')) {
            while value.len() < 2 || !value.trim_end().ends_with(quote) {
                let Some((_, next)) = lines.next() else {
                    return Err(format!("unterminated quote on line {}", at + 1));
                };
                value.push('\n');
                value.push_str(next);
            }
            let inner = value.trim_end();
            value = inner[1..inner.len() - 1].to_owned();
        } else if let Some((before, _)) = value.split_once(" #") {
            value = before.trim_end().to_owned();
        }
        all.push((key.to_owned(), value));
    }
    Ok(all)
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
        let text = "# c\nexport A=1\nB=\"two words\"\nC='x\ny'\nD=v # note\n";
        let all = parse_env(text).unwrap();
        let want = [("A", "1"), ("B", "two words"), ("C", "x\ny"), ("D", "v")];
        assert_eq!(all, want.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(parse_env("nonsense").is_err());
    }
}
