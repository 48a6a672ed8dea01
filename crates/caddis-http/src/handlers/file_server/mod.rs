//! `file_server`: files from a directory.
//!
//! ```text
//! file_server [<matcher>] [browse] {
//!     fs                     <name>
//!     root                   <path>
//!     hide                   <files...>
//!     index                  <names...>
//!     browse                 [<template>] { reveal_symlinks; sort <by> [<direction>]; file_limit <n> }
//!     precompressed          [<formats...>]
//!     status                 <code>
//!     disable_canonical_uris
//!     pass_thru
//!     etag_file_extensions   <suffixes...>
//! }
//! ```
//!
//! JSON: [`FileServerConfig`]. The way of a request: `lookup` turns its path into an open file (at
//! once where the kernel has all of it in memory, else where blocking is allowed), `response` and
//! `conditional` make an answer of it, `body` sends it.

mod body;
mod browse;
mod conditional;
mod config;
mod hide;
mod lookup;
mod response;
#[cfg(test)]
pub(crate) mod test_dir;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, HttpError,
    LocalBoxFuture, Middleware, Next, Response, Result, Template,
};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value as Json;

pub use browse::TEMPLATE;
pub(crate) use browse::human_size;
pub use config::{BrowseConfig, FileServerConfig};

use self::{
    browse::Browse,
    hide::Hide,
    lookup::{Lookup, Outcome},
};
use crate::{
    disk::Disk,
    encoders::{self, PRECOMPRESSED},
    names,
};

/// `http.handlers.file_server`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.file_server", compile };

/// The directive `file_server`.
pub static DIRECTIVE: Directive =
    Directive { name: "file_server", kind: DirectiveKind::Handler(config::parse), ordered: true };

struct FileServer {
    fs: Template,
    root: Template,
    hide: Hide,
    index: Vec<Template>,
    browse: Option<Browse>,
    canonical: bool,
    status: Option<Template>,
    pass_thru: bool,
    /// Name and suffix.
    precompressed: Vec<(&'static str, &'static str)>,
    precompressed_order: Vec<String>,
    etag_extensions: Arc<[String]>,
}

/// Whether this names the file system of the machine; there is no other one yet.
pub(crate) fn is_default_fs(name: &str) -> bool {
    matches!(name, "" | "default" | "file")
}

/// The options of a precompressed format, which mean nothing here (spec J048, J050).
fn encoder_fields(format: &str) -> &'static [&'static str] {
    match format {
        "gzip" => &["level"],
        "zstd" => &["level", "checksum"],
        _ => &[],
    }
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> std::result::Result<Handler, ConfigError> {
    let config: FileServerConfig = cx.decode(json, "handler")?;
    let or =
        |text: &str, default: &str| Template::parse(if text.is_empty() { default } else { text });
    let index = config.index_names.unwrap_or_else(|| vec!["index.html".into(), "index.txt".into()]);
    let mut precompressed = Vec::new();
    for (name, options) in &config.precompressed {
        let fields = encoder_fields(name);
        let keys = options.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        if let Some(key) = keys.into_iter().find(|key| !fields.contains(key)) {
            let message = format!("json: unknown field \"{key}\"");
            return Err(ConfigError::new(format!("precompressed.{name}.{key}"), message));
        }
        let known = PRECOMPRESSED.iter().find(|(known, _)| known == name);
        precompressed.push(*known.ok_or_else(|| {
            caddis_core::compile::unknown_module("http.precompressed", name, "precompressed")
        })?);
    }
    let status = config.status_code.as_str();
    Ok(Handler::middleware(FileServer {
        fs: or(&config.fs, "{http.vars.fs}"),
        root: or(&config.root, "{http.vars.root}"),
        hide: Hide::new(&config.hide),
        index: index.iter().map(|name| Template::parse(name)).collect(),
        browse: config.browse.map(|browse| Browse::compile(browse, cx)).transpose()?,
        canonical: config.canonical_uris.unwrap_or(true),
        status: (!status.is_empty()).then(|| Template::parse(status)),
        pass_thru: config.pass_thru,
        precompressed,
        precompressed_order: config.precompressed_order,
        etag_extensions: config.etag_file_extensions.into(),
    }))
}

impl Middleware for FileServer {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, Result<Response>> {
        Box::pin(self.serve(ex, next))
    }
}

impl FileServer {
    async fn serve<'a>(&'a self, ex: &'a mut Exchange, next: Next<'a>) -> Result<Response> {
        if !is_default_fs(&self.fs.render(ex)) {
            return Err(HttpError::new(StatusCode::NOT_FOUND, "use of unregistered filesystem"));
        }
        let lookup = self.lookup(ex);
        let memory = Disk::memory();
        let mut outcome = lookup.run(&memory);
        if memory.missed() {
            let patient = tokio::task::spawn_blocking(move || lookup.run(&Disk::patient()));
            outcome = patient.await.map_err(HttpError::internal)?;
        }
        match outcome {
            Outcome::File(found) => self.respond(ex, found),
            Outcome::Directory(directory) => match &self.browse {
                Some(browse) => {
                    let rules = self.hide.rules(ex);
                    match browse.serve(ex, directory, rules, &self.root).await? {
                        Some(response) => Ok(response),
                        None => self.not_found(ex, next).await,
                    }
                }
                None => self.not_found(ex, next).await,
            },
            Outcome::NotFound => self.not_found(ex, next).await,
            Outcome::Redirect(add) => {
                let path = ex.original.target.path();
                let to = if add {
                    format!("{path}/")
                } else {
                    path.strip_suffix('/').unwrap_or(path).to_owned()
                };
                Ok(response::redirect(ex, &to))
            }
            Outcome::Invalid(error) => Err(HttpError::new(StatusCode::BAD_REQUEST, error)),
            Outcome::Forbidden(error) => Err(HttpError::new(StatusCode::FORBIDDEN, error)),
            Outcome::Failed(error) => Err(HttpError::internal(error)),
            Outcome::Busy(error) => {
                // Clients come back at different times.
                let seconds = HeaderValue::from(fastrand::u16(2..5));
                ex.early_headers.insert(header::RETRY_AFTER, seconds);
                Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, error))
            }
        }
    }

    async fn not_found<'a>(&self, ex: &'a mut Exchange, next: Next<'a>) -> Result<Response> {
        if self.pass_thru {
            return next.run(ex).await;
        }
        Err(HttpError::status(StatusCode::NOT_FOUND))
    }

    fn lookup(&self, ex: &Exchange) -> Lookup {
        const CONDITIONAL: [http::HeaderName; 6] = [
            header::IF_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::IF_UNMODIFIED_SINCE,
            header::RANGE,
        ];
        let headers = &ex.request.headers;
        let codings = if self.precompressed.is_empty() {
            Vec::new()
        } else {
            encoders::accepted(headers, &self.precompressed_order)
                .iter()
                .filter_map(|name| self.precompressed.iter().find(|(known, _)| known == name))
                .copied()
                .collect()
        };
        let (original, current) = (ex.original.target.path(), ex.request.target.path());
        // Where the last element was rewritten, the path is what the administrator wants.
        let canonical = self.canonical && base(original) == base(current);
        Lookup {
            root: self.root.render(ex).into_owned(),
            path: match ex.request.target.path_bytes() {
                Some(bytes) => names::from_bytes(&bytes),
                None => names::from_text(current).into_owned(),
            },
            hide: self.hide.rules(ex),
            index: self.index.iter().map(|name| name.render(ex).into_owned()).collect(),
            codings,
            etag_extensions: self.etag_extensions.clone(),
            trailing_slash: canonical.then(|| original.ends_with('/')),
            read: ex.request.method != Method::HEAD
                && !CONDITIONAL.iter().any(|name| headers.contains_key(name)),
        }
    }

    fn respond(&self, ex: &mut Exchange, found: lookup::Found) -> Result<Response> {
        response::vary(ex);
        let read = ex.request.method == Method::GET || ex.request.method == Method::HEAD;
        if !read && ex.error.is_none() {
            let (name, value) = response::ALLOW;
            ex.early_headers.append(name, value);
            return Err(HttpError::status(StatusCode::METHOD_NOT_ALLOWED));
        }
        let mut status = ex.error.as_ref().map(|error| error.status);
        if let Some(template) = &self.status {
            let text = template.render(ex);
            let code = text.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            status = Some(code.ok_or_else(|| {
                HttpError::internal(format_args!(
                    "strconv.Atoi: parsing \"{text}\": invalid syntax"
                ))
            })?);
        }
        Ok(response::file(ex, found, status))
    }
}

/// The last element of a path, as Go's `path.Base`.
fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}
