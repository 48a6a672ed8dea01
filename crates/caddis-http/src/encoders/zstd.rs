//! `zstd`: Zstandard.
//!
//! ```text
//! zstd [<level>] {
//!     level            fastest|default|better|best
//!     disable_checksum
//! }
//! ```
//!
//! JSON: `{"level", "checksum"}`.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Coding, EncoderModule};

pub(super) static MODULE: EncoderModule = EncoderModule { name: "zstd", parse, compile };

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(skip_serializing_if = "String::is_empty")]
    level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<bool>,
}

/// The library's level for a name of Caddy's.
fn level(name: &str) -> Result<i32, String> {
    Ok(match name.to_lowercase().as_str() {
        "fastest" => 1,
        "" | "default" => 3,
        "better" => 7,
        "best" => 11,
        _ => {
            return Err("unexpected compression level, use one of 'fastest', 'better', 'best', \
                        'default'"
                .into());
        }
    })
}

fn parse(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut config = Config::default();
    match d.remaining_args().as_slice() {
        [] => {}
        [name] => {
            level(name).map_err(|error| d.err(error))?;
            name.clone_into(&mut config.level);
        }
        _ => return Err(d.arg_err()),
    }
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "level" => {
                let args = d.remaining_args();
                let [name] = args.as_slice() else { return Err(d.arg_err()) };
                if !config.level.is_empty() {
                    return Err(d.err("compression level already specified"));
                }
                level(name).map_err(|error| d.err(error))?;
                name.clone_into(&mut config.level);
            }
            "disable_checksum" => {
                if d.next_arg() {
                    return Err(d.arg_err());
                }
                if config.checksum.is_some() {
                    return Err(d.err("checksum already specified"));
                }
                config.checksum = Some(false);
            }
            other => return Err(d.err(format_args!("unknown subdirective '{other}'"))),
        }
    }
    serde_json::to_value(config).map_err(|error| d.err(error))
}

fn compile(json: &Json) -> Result<Coding, ConfigError> {
    let config: Config = caddis_config::decode(json.clone())?;
    let level = level(&config.level).map_err(|error| ConfigError::new("level", error))?;
    Ok(Coding::Zstd { level, checksum: config.checksum.unwrap_or(true) })
}
