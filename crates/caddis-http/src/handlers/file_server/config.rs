//! JSON shape of the file server, and its Caddyfile syntax.

use caddis_caddyfile::{Dispenser, Result as ParseResult, nearest};
use caddis_config::{ModuleMap, WeakString};
use caddis_core::Helper;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::hide::Rules;
use crate::{encoders::PRECOMPRESSED, path::clean};

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileServerConfig {
    /// The file system's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fs: String,
    /// Where files start; `{http.vars.root}` if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// Files that are hidden.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub hide: Vec<String>,
    /// Names of index files; `None` for the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_names: Option<Vec<String>>,
    /// Directory listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browse: Option<BrowseConfig>,
    /// Whether directories get a slash and files none; true if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_uris: Option<bool>,
    /// Status of answers that succeed; may be a placeholder.
    #[serde(skip_serializing_if = "WeakString::is_empty")]
    pub status_code: WeakString,
    /// Whether the next handler runs where there is no file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pass_thru: bool,
    /// Codings of files beside the served ones.
    #[serde(
        skip_serializing_if = "ModuleMap::is_empty",
        deserialize_with = "caddis_config::nullable"
    )]
    pub precompressed: ModuleMap,
    /// Which of these is preferred.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub precompressed_order: Vec<String>,
    /// Suffixes of files that hold an entity tag.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub etag_file_extensions: Vec<String>,
}

/// JSON shape of directory listings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrowseConfig {
    /// A template to use instead of the built-in page.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template_file: String,
    /// Whether targets of symbolic links are told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reveal_symlinks: bool,
    /// Order by default: a criterion, and a direction.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "caddis_config::nullable")]
    pub sort: Vec<String>,
    /// How many entries are read; 10000 if 0.
    #[serde(skip_serializing_if = "caddis_config::Omit::is_omitted")]
    pub file_limit: i64,
}

const SUBDIRECTIVES: &[&str] = &[
    "fs",
    "hide",
    "index",
    "root",
    "browse",
    "precompressed",
    "status",
    "disable_canonical_uris",
    "pass_thru",
    "etag_file_extensions",
];

/// Reads the directive.
pub(super) fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let files = source_files(&h.d);
    let mut config = parse_config(&mut h.d)?;
    // The Caddyfile itself is hidden, by path and not by name alone.
    for file in files {
        let file = clean(&file).into_owned();
        if !Rules::new(config.hide.iter().map(String::as_str)).hides(&file) {
            config.hide.push(if file.contains('/') { file } else { format!("./{file}") });
        }
    }
    h.handler("file_server", &config)
}

/// The files that the directive's tokens come from, sorted.
fn source_files(d: &Dispenser) -> Vec<String> {
    let mut files: Vec<String> = d
        .tokens()
        .iter()
        .map(|token| token.file().to_string())
        .filter(|file| !file.is_empty())
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn parse_config(d: &mut Dispenser) -> ParseResult<FileServerConfig> {
    let mut config = FileServerConfig::default();
    d.next();
    match d.remaining_args().as_slice() {
        [] => {}
        [one] if one == "browse" => config.browse = Some(BrowseConfig::default()),
        [one] if nearest(one, ["browse"]).is_some() => return Err(d.arg_err().meant("browse")),
        _ => return Err(d.arg_err()),
    }
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "fs" => {
                let fs = one(d)?;
                if !config.fs.is_empty() {
                    return Err(d.err("file system already specified"));
                }
                config.fs = fs;
            }
            "hide" => config.hide.extend(some(d)?),
            "index" => config.index_names = Some(some(d)?),
            "root" => config.root = one(d)?,
            "browse" => {
                if config.browse.is_some() {
                    return Err(d.err("browsing is already configured"));
                }
                config.browse = Some(parse_browse(d)?);
            }
            "precompressed" => parse_precompressed(d, &mut config)?,
            "status" => config.status_code = one(d)?.into(),
            "disable_canonical_uris" => {
                none(d)?;
                config.canonical_uris = Some(false);
            }
            "pass_thru" => {
                none(d)?;
                config.pass_thru = true;
            }
            "etag_file_extensions" => config.etag_file_extensions = some(d)?,
            other => {
                let error = d.err(format_args!("unknown subdirective '{other}'"));
                return Err(d.did_you_mean(error, SUBDIRECTIVES.iter().copied()));
            }
        }
    }
    Ok(config)
}

fn one(d: &mut Dispenser) -> ParseResult<String> {
    if d.next_arg() { Ok(d.val().to_owned()) } else { Err(d.arg_err()) }
}

fn some(d: &mut Dispenser) -> ParseResult<Vec<String>> {
    let args = d.remaining_args();
    if args.is_empty() { Err(d.arg_err()) } else { Ok(args) }
}

fn none(d: &mut Dispenser) -> ParseResult<()> {
    if d.next_arg() { Err(d.arg_err()) } else { Ok(()) }
}

fn parse_browse(d: &mut Dispenser) -> ParseResult<BrowseConfig> {
    let mut browse = BrowseConfig::default();
    if d.next_arg() {
        d.val().clone_into(&mut browse.template_file);
    }
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "reveal_symlinks" => {
                if browse.reveal_symlinks {
                    return Err(d.err("Symlinks path reveal is already enabled"));
                }
                browse.reveal_symlinks = true;
            }
            "sort" => {
                for option in d.remaining_args() {
                    let known = ["name", "namedirfirst", "size", "time", "asc", "desc"];
                    if !known.contains(&option.as_str()) {
                        let error = d.err(format_args!("unknown sort option '{option}'"));
                        return Err(error.meant_one_of(&option, known));
                    }
                    browse.sort.push(option);
                }
            }
            "file_limit" => {
                let args = d.remaining_args();
                let [limit] = args.as_slice() else {
                    return Err(d.err("file_limit should have an integer value"));
                };
                if browse.file_limit != 0 {
                    return Err(d.err("file_limit is already enabled"));
                }
                browse.file_limit = limit.parse().unwrap_or_default();
            }
            other => {
                let error = d.err(format_args!("unknown subdirective '{other}'"));
                return Err(d.did_you_mean(error, ["reveal_symlinks", "sort", "file_limit"]));
            }
        }
    }
    Ok(browse)
}

fn parse_precompressed(d: &mut Dispenser, config: &mut FileServerConfig) -> ParseResult<()> {
    let mut order = d.remaining_args();
    if order.is_empty() {
        order = ["br", "zstd", "gzip"].map(str::to_owned).to_vec();
    }
    for format in &order {
        if !PRECOMPRESSED.iter().any(|(name, _)| name == format) {
            let id = format!("http.precompressed.{format}");
            return Err(
                d.err(format_args!("getting module named '{id}': module not registered: {id}"))
            );
        }
        config.precompressed.insert(format.clone(), json!({}));
    }
    config.precompressed_order = order;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json, String> {
        let tokens = caddis_caddyfile::tokenize("Caddyfile", text).map_err(|e| e.to_string())?;
        let config = parse_config(&mut Dispenser::new(tokens));
        config
            .map(|config| serde_json::to_value(config).expect("an object"))
            .map_err(|error| error.message.clone())
    }

    #[test]
    fn shapes() {
        for (text, want) in [
            ("file_server", json!({})),
            ("file_server browse", json!({"browse": {}})),
            (
                "file_server {\n browse t.html {\n sort size desc\n file_limit 4000\n }\n}",
                json!({"browse": {"template_file": "t.html", "sort": ["size", "desc"],
                    "file_limit": 4000}}),
            ),
            ("file_server {\n status 403\n}", json!({"status_code": 403})),
            (
                "file_server {\n status {x}\n pass_thru\n}",
                json!({"status_code": "{x}", "pass_thru": true}),
            ),
            (
                "file_server {\n precompressed\n index a b\n disable_canonical_uris\n}",
                json!({"precompressed": {"br": {}, "gzip": {}, "zstd": {}},
                    "precompressed_order": ["br", "zstd", "gzip"], "index_names": ["a", "b"],
                    "canonical_uris": false}),
            ),
            (
                "file_server {\n hide a b\n hide c\n fs x\n root /r\n etag_file_extensions .md5\n}",
                json!({"hide": ["a", "b", "c"], "fs": "x", "root": "/r",
                    "etag_file_extensions": [".md5"]}),
            ),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, want) in [
            ("file_server nope", "wrong argument count or unexpected line ending after 'nope'"),
            ("file_server {\n nope\n}", "unknown subdirective 'nope'"),
            ("file_server browse {\n browse\n}", "browsing is already configured"),
            (
                "file_server {\n precompressed x\n}",
                "getting module named 'http.precompressed.x': module not registered: \
                 http.precompressed.x",
            ),
            ("file_server {\n browse {\n sort up\n }\n}", "unknown sort option 'up'"),
        ] {
            assert_eq!(parse(text), Err(want.into()), "{text}");
        }
    }
}
