//! `caddis file-server`.

use std::process::ExitCode;

use serde_json::json;

use super::Outcome;
use crate::{
    args::{FileServer, FileServerCommand},
    registry, say,
};

/// Serves files until stopped (spec A053); or prints the template of listings (spec A054).
pub(crate) fn file_server(flags: &FileServer) -> Outcome {
    if let Some(FileServerCommand::ExportTemplate) = flags.command {
        say::out(caddis_http::handlers::file_server::TEMPLATE);
        return Ok(ExitCode::SUCCESS);
    }
    let given = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
    let (domain, root) = (given(&flags.domain), given(&flags.root).unwrap_or_default());
    let mut handlers = Vec::new();
    if !flags.no_compress {
        handlers.push(json!({
            "handler": "encode",
            "encodings": { "zstd": {}, "gzip": {} },
            "prefer": ["zstd", "gzip"],
        }));
    }
    if flags.templates {
        handlers.push(json!({ "handler": "templates", "file_root": root }));
    }
    let mut files = json!({ "handler": "file_server", "root": root });
    if flags.browse {
        let mut browse = json!({ "file_limit": flags.file_limit });
        if flags.reveal_symlinks {
            browse["reveal_symlinks"] = json!(true);
        }
        files["browse"] = browse;
    }
    let kinds: Vec<_> = flags.precompressed.iter().filter(|kind| !kind.is_empty()).collect();
    if !kinds.is_empty() {
        let known = registry::standard().module_ids();
        for kind in &kinds {
            let id = format!("http.precompressed.{kind}");
            if !known.contains(&id.as_str()) {
                let why = format!("getting module named '{id}': module not registered: {id}");
                return Err(why + "; there are br, gzip and zstd");
            }
        }
        let map: serde_json::Map<_, _> =
            kinds.iter().map(|kind| ((*kind).clone(), json!({}))).collect();
        files["precompressed"] = map.into();
        files["precompressed_order"] = json!(kinds);
    }
    handlers.push(files);
    let mut route = json!({ "handle": handlers });
    if let Some(domain) = &domain {
        route["match"] = json!([{ "host": [domain] }]);
    }
    let default = if domain.is_some() { ":443" } else { ":80" };
    let listen = given(&flags.listen).unwrap_or_else(|| default.to_owned());
    let mut server = json!({
        "listen": [listen],
        "routes": [route],
        "read_header_timeout": 10_000_000_000_u64,
        "idle_timeout": 30_000_000_000_u64,
        "max_header_bytes": 10_240,
    });
    if flags.access_log {
        server["logs"] = json!({});
    }
    let ready = || tracing::info!("caddis serving static files on {listen}");
    super::respond::serve_server(server, flags.debug, &ready)
}
