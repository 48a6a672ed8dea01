//! The block of `log`, as directive and as global option.
//!
//! ```text
//! log [<name>] {
//!     hostnames <host…>                 directive only
//!     no_hostname                       directive only
//!     output    <writer> …
//!     format    <encoder> …
//!     level     <level>
//!     sampling {
//!         interval   <duration>
//!         first      <count>
//!         thereafter <count>
//!     }
//!     core      <core> …
//!     include   <logger…>               option only
//!     exclude   <logger…>               option only
//! }
//! ```

mod encoders;
mod filters;
mod outputs;

use std::collections::HashSet;

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::{CustomLog, LogSampling};

use crate::modules::{Kind, duration, integer, next_arg, no_args, some_args};

const CORES: Kind = Kind { namespace: "caddy.logging.cores", key: "module", modules: &[] };

/// What a block says.
#[derive(Debug, Default)]
pub(crate) struct LogBlock {
    /// The log, if anything is set.
    pub(crate) log: Option<CustomLog>,
    /// Hosts instead of the site's own.
    pub(crate) hostnames: Vec<String>,
    /// For no host at all.
    pub(crate) no_hostname: bool,
}

/// Reads the block after the current token.
///
/// # Errors
/// The first mistake in it.
pub(crate) fn block(d: &mut Dispenser, is_option: bool) -> ParseResult<LogBlock> {
    let mut log = CustomLog::default();
    let mut block = LogBlock::default();
    let mut seen = HashSet::new();
    while d.next_block(0) {
        let word = d.val().to_owned();
        let repeatable = ["hostnames", "include", "exclude"].contains(&word.as_str());
        if !repeatable && !seen.insert(word.clone()) {
            return Err(d.err(format_args!(
                "'{word}' subdirective specified more than once in the same log block"
            )));
        }
        match word.as_str() {
            "hostnames" if is_option => {
                return Err(d.err("hostnames is not allowed in the log global options"));
            }
            "hostnames" => block.hostnames.extend(some_args(d)?),
            "no_hostname" => {
                no_args(d)?;
                block.no_hostname = true;
            }
            "include" | "exclude" if !is_option => {
                return Err(d.err(format_args!("{word} is not allowed in the log directive")));
            }
            "include" => log.include.extend(d.remaining_args()),
            "exclude" => log.exclude.extend(d.remaining_args()),
            "output" => log.writer = Some(outputs::parse(d)?),
            "format" => log.encoder = Some(encoders::ENCODERS.parse_next(d)?),
            "core" => log.core = Some(CORES.parse_next(d)?),
            "sampling" => log.sampling = Some(sampling(&mut d.new_from_next_segment())?),
            "level" => {
                log.level = next_arg(d)?;
                no_args(d)?;
            }
            _ => return Err(unknown(d, is_option)),
        }
    }
    block.log = (log != CustomLog::default()).then_some(log);
    Ok(block)
}

fn unknown(d: &Dispenser, is_option: bool) -> Diagnostic {
    let common = ["output", "format", "level", "sampling", "core"];
    let own = if is_option { ["include", "exclude"] } else { ["hostnames", "no_hostname"] };
    let error = d.err(format_args!("unrecognized subdirective: {}", d.val()));
    d.did_you_mean(error, common.into_iter().chain(own))
}

fn sampling(d: &mut Dispenser) -> ParseResult<LogSampling> {
    d.next();
    let mut sampling = LogSampling::default();
    let mut seen = HashSet::new();
    d.remaining_args();
    while d.next_block(0) {
        let word = d.val().to_owned();
        if !seen.insert(word.clone()) {
            return Err(d.err(format_args!(
                "'{word}' specified more than once in the same sampling block"
            )));
        }
        let what = format!("failed to parse {word}");
        match word.as_str() {
            "interval" => {
                let text = next_arg(d)?;
                sampling.interval = duration(d, &text, &what)?;
            }
            "first" => {
                let text = next_arg(d)?;
                sampling.first = integer(d, &text, &what)?;
            }
            "thereafter" => {
                let text = next_arg(d)?;
                sampling.thereafter = integer(d, &text, &what)?;
            }
            _ => {
                let error = d.err(format_args!("unrecognized subdirective: {word}"));
                return Err(d.did_you_mean(error, ["interval", "first", "thereafter"]));
            }
        }
    }
    Ok(sampling)
}
