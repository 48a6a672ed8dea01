//! Logs and metrics.
//!
//! ```text
//! log [<name>] { … }          as the directive, with include and exclude
//! metrics {
//!     per_host
//!     observe_catchall_hosts
//!     otlp
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::Metrics;

use super::{GlobalOption, OptionCx};
use crate::log_config;
use crate::logs::DEFAULT;
use crate::modules::no_args;
use crate::site::NamedLog;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] =
    &[GlobalOption { name: "log", parse: log }, GlobalOption { name: "metrics", parse: metrics }];

fn log(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let mut name = DEFAULT.to_owned();
    if cx.d.next_arg() {
        cx.d.val().clone_into(&mut name);
        no_args(&mut cx.d)?;
    }
    if cx.options.logs.iter().any(|log| log.name == name) {
        return Err(cx.d.err(format_args!("duplicate global log option for: {name}")));
    }
    let block = log_config::block(&mut cx.d, true)?;
    cx.options.logs.push(NamedLog { name, log: block.log, ..NamedLog::default() });
    cx.set(true);
    Ok(())
}

fn metrics(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let mut metrics = Metrics::default();
    while cx.d.next_block(0) {
        match cx.d.val() {
            "per_host" => metrics.per_host = true,
            "observe_catchall_hosts" => metrics.observe_catchall_hosts = true,
            "otlp" => metrics.otlp = true,
            other => {
                let message = format!("unrecognized servers option '{other}'");
                let known = ["per_host", "observe_catchall_hosts", "otlp"];
                return Err(cx.unknown(message, &known));
            }
        }
    }
    cx.options.metrics = Some(metrics);
    cx.set(true);
    Ok(())
}
