//! `gzip`: the coding that every client knows.
//!
//! ```text
//! gzip [<level>]
//! ```
//!
//! JSON: `{"level"}`, from -3 (fastest) to 9 (smallest); 5 if 0.

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Coding, EncoderModule};

pub(super) static MODULE: EncoderModule = EncoderModule { name: "gzip", parse, compile };

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(skip_serializing_if = "caddis_config::Omit::is_omitted")]
    level: i64,
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut config = Config::default();
    if d.next_arg() {
        config.level = d.val().parse().map_err(|_| {
            let text = d.val();
            Diagnostic::error(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
                .labelled(d.token(), "not a whole number")
        })?;
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn compile(json: &Json) -> Result<Coding, ConfigError> {
    let config: Config = caddis_config::decode(json.clone())?;
    let refuse = |message: &str| Err(ConfigError::new("level", message));
    Ok(Coding::Gzip(match config.level {
        ..=-4 => return refuse("quality too low; must be >= -3"),
        10.. => return refuse("quality too high; must be <= 9"),
        // Two special fast modes of Caddy's library, and its default.
        -3 | -2 => 1,
        -1 | 0 => 5,
        level => u32::try_from(level).unwrap_or(5),
    }))
}
