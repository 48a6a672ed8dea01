//! Content codings: what a client accepts (`negotiate`), and the compressors (`http.encoders.*`).

mod coder;
mod gzip;
mod negotiate;
mod zstd;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use serde_json::Value as Json;

pub(crate) use coder::{Coder, Coding};
pub(crate) use negotiate::accepted;

/// One of `http.encoders.*`: its name in headers is its short name.
pub(crate) struct EncoderModule {
    pub(crate) name: &'static str,
    /// The dispenser stands before the encoder's name.
    pub(crate) parse: fn(&mut Dispenser) -> ParseResult<Json>,
    pub(crate) compile: fn(&Json) -> Result<Coding, ConfigError>,
}

/// `http.encoders.*`.
pub(crate) static ALL: &[&EncoderModule] = &[&gzip::MODULE, &zstd::MODULE];

/// A coding that files beside the served one may have (`http.precompressed.*`): its name in
/// headers and the suffix of such files.
pub(crate) static PRECOMPRESSED: &[(&str, &str)] =
    &[("br", ".br"), ("gzip", ".gz"), ("zstd", ".zst")];
