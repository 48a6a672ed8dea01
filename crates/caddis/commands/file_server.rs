//! `caddis file-server`.

use serde_json::json;

use super::Outcome;
use crate::args::FileServer;

/// Serves files until stopped.
pub(crate) fn file_server(flags: &FileServer) -> Outcome {
    let mut handlers = Vec::new();
    if !flags.no_compress {
        handlers.push(json!({
            "handler": "encode",
            "encodings": { "zstd": {}, "gzip": {} },
            "prefer": ["zstd", "gzip"],
        }));
    }
    if flags.templates {
        handlers.push(json!({ "handler": "templates" }));
    }
    let mut files = json!({ "handler": "file_server" });
    if let Some(root) = &flags.root {
        files["root"] = json!(root);
    }
    if flags.browse {
        let mut browse = json!({ "file_limit": flags.file_limit });
        if flags.reveal_symlinks {
            browse["reveal_symlinks"] = json!(true);
        }
        files["browse"] = browse;
    }
    if !flags.precompressed.is_empty() {
        let kinds: serde_json::Map<_, _> =
            flags.precompressed.iter().map(|kind| (kind.clone(), json!({}))).collect();
        files["precompressed"] = kinds.into();
        files["precompressed_order"] = json!(flags.precompressed);
    }
    handlers.push(files);
    let mut route = json!({ "handle": handlers });
    if let Some(domain) = &flags.domain {
        route["match"] = json!([{ "host": [domain] }]);
    }
    let default = if flags.domain.is_some() { ":443" } else { ":80" };
    let listen = flags.listen.as_deref().unwrap_or(default);
    let mut server = json!({
        "listen": [listen],
        "routes": [route],
        "read_header_timeout": 10_000_000_000_u64,
        "idle_timeout": 30_000_000_000_u64,
    });
    if flags.access_log {
        server["logs"] = json!({});
    }
    super::respond::serve_server(server, flags.debug)
}
