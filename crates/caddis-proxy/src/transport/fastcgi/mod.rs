//! `transport fastcgi`: its syntax and JSON shape.
//!
//! ```text
//! transport fastcgi {
//!     root <path>
//!     split <texts...>
//!     env <key> <value>
//!     resolve_root_symlink
//!     dial_timeout <duration>
//!     read_timeout <duration>
//!     write_timeout <duration>
//!     capture_stderr
//! }
//! ```
//!
//! JSON: `{"protocol": "fastcgi", "root", "split_path", "resolve_root_symlink", "env",
//! "dial_timeout", "read_timeout", "write_timeout", "capture_stderr"}`.

mod client;
mod params;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result};
use caddis_config::Duration;

pub(crate) use client::{FastCgi, compile};
pub(crate) use params::Head;

use crate::parse::{argument, arguments, duration_bare, no_more};

shape! {
    /// `{"protocol": "fastcgi", …}`.
    pub(crate) struct FastCgiConfig {
        /// Document root on the other side.
        pub root: String,
        /// Where script and path info are split.
        pub split_path: Vec<String>,
        /// Whether symbolic links in the root are followed here.
        pub resolve_root_symlink: bool,
        /// Further variables.
        pub env: BTreeMap<String, String>,
        /// Time to connect.
        pub dial_timeout: Duration,
        /// Time for the answer.
        pub read_timeout: Duration,
        /// Time for the request.
        pub write_timeout: Duration,
        /// Whether the other side's stderr is logged.
        pub capture_stderr: bool,
    }
}

const OPTIONS: &[&str] = &[
    "root",
    "split",
    "env",
    "resolve_root_symlink",
    "dial_timeout",
    "read_timeout",
    "write_timeout",
    "capture_stderr",
];

/// Reads the block; the cursor stands before the transport's name.
pub(crate) fn parse(d: &mut Dispenser) -> Result<FastCgiConfig> {
    let mut config = FastCgiConfig::default();
    d.next();
    while d.next_block(0) {
        match d.val() {
            "root" => config.root = argument(d)?,
            "split" => config.split_path = arguments(d)?,
            "env" => {
                let Some([key, value]) = d.all_args() else { return Err(d.arg_err()) };
                config.env.insert(key, value);
            }
            "resolve_root_symlink" => {
                no_more(d)?;
                config.resolve_root_symlink = true;
            }
            "dial_timeout" => config.dial_timeout = duration_bare(d, "bad timeout value")?,
            "read_timeout" => config.read_timeout = duration_bare(d, "bad timeout value")?,
            "write_timeout" => config.write_timeout = duration_bare(d, "bad timeout value")?,
            "capture_stderr" => {
                no_more(d)?;
                config.capture_stderr = true;
            }
            _ => return Err(d.unrecognized("subdirective", OPTIONS.iter().copied())),
        }
    }
    Ok(config)
}
