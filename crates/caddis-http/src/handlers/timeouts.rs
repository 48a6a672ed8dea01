//! Deadlines of single requests: `timeouts`. The settings are read, but not enforced yet, so a
//! configuration with it is refused rather than run without them.
//!
//! ```text
//! timeouts [<matcher>] {
//!     read_timeout    <duration> [<bytes per second>]
//!     write_timeout   <duration> [<bytes per second>]
//!     max_write_chunk <size>
//! }
//! ```
//!
//! JSON: `{"handler": "timeouts", "read_timeout": 1000, "read_min_rate": 1, "write_timeout": 1000,
//! "write_min_rate": 1, "max_write_chunk": 65536}`, durations in nanoseconds.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, Duration, Size};
use caddis_core::{CompileCx, Directive, DirectiveKind, Handler, HandlerModule, Helper};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.timeouts`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.timeouts", compile };
/// `timeouts`.
pub static DIRECTIVE: Directive =
    Directive { name: "timeouts", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a read may wait, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<i64>,
    /// Bytes per second that reads must reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_min_rate: Option<i64>,
    /// How long a write may wait, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<i64>,
    /// Bytes per second that writes must reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_min_rate: Option<i64>,
    /// The most bytes of one write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_write_chunk: Option<i64>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "read_timeout" => {
                (config.read_timeout, config.read_min_rate) = parse_deadline(d)?;
            }
            "write_timeout" => {
                (config.write_timeout, config.write_min_rate) = parse_deadline(d)?;
            }
            "max_write_chunk" => {
                let Some([text]) = d.all_args() else { return Err(d.arg_err()) };
                config.max_write_chunk = Some(parse_size(d, &text)?);
            }
            _ => {
                let names = ["read_timeout", "write_timeout", "max_write_chunk"];
                return Err(d.unrecognized("subdirective", names));
            }
        }
    }
    h.handler("timeouts", &config)
}

fn parse_deadline(d: &mut Dispenser) -> ParseResult<(Option<i64>, Option<i64>)> {
    let args = d.remaining_args();
    let (duration, rate) = match args.as_slice() {
        [duration] => (duration, None),
        [duration, rate] => (duration, Some(parse_size(d, rate)?)),
        _ => return Err(d.arg_err()),
    };
    let duration = Duration::parse(duration)
        .map_err(|error| d.err(format!("parsing duration '{duration}': {error}")))?;
    Ok((Some(duration.as_nanos()), rate))
}

fn parse_size(d: &Dispenser, text: &str) -> ParseResult<i64> {
    Size::parse(text)
        .map(Size::as_i64)
        .map_err(|error| d.err(format!("parsing size '{text}': {error}")))
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let _: Config = cx.decode(json, "handler")?;
    Err(ConfigError::new("handler", "the timeouts handler is not supported yet"))
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, compile_error};
    use serde_json::json;

    #[test]
    fn adapts_and_refuses() {
        let want = json!({"handler": "timeouts", "read_timeout": 5_000_000_000_i64,
            "read_min_rate": 1000, "max_write_chunk": 65536});
        assert_eq!(
            adapt("timeouts {\n read_timeout 5s 1kB\n max_write_chunk 64KiB\n}"),
            Ok(want.clone())
        );
        assert!(adapt("timeouts {\n read_timeout soon\n}").is_err());
        assert!(compile_error(&want).contains("not supported yet"));
    }
}
