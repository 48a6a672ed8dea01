//! Events and file systems. Of the modules that they name only `exec` comes with this program, with
//! the syntax of the plugin of this name.
//!
//! ```text
//! events {
//!     on <event>|* exec <command> [<argument…>] {
//!         dir     <folder>
//!         timeout <duration>
//!         foreground
//!         abort_codes <code…>
//!     }
//! }
//! filesystem <name> <module> { … }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{Duration, FilesystemEntry, Subscription};

use super::{GlobalOption, OptionCx};
use crate::{
    fields::Fields,
    modules::{Kind, integer, next_arg, no_args, one_arg, some_args},
};
use serde_json::Value as Json;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "events", parse: events },
    GlobalOption { name: "filesystem", parse: filesystem },
];

const HANDLERS: Kind =
    Kind { namespace: "events.handlers", key: "handler", modules: &[("exec", exec)] };
const FILESYSTEMS: Kind = Kind { namespace: "caddy.fs", key: "backend", modules: &[] };

fn events(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let mut subscriptions = Vec::new();
    while cx.d.next_block(0) {
        if cx.d.val() != "on" {
            return Err(cx.d.arg_err());
        }
        let event = next_arg(&mut cx.d)?;
        let event = if event == "*" { String::new() } else { event };
        let handlers = vec![HANDLERS.parse_next(&mut cx.d)?];
        subscriptions.push(Subscription {
            events: vec![event],
            handlers,
            ..Subscription::default()
        });
    }
    cx.options.events.get_or_insert_default().subscriptions = subscriptions;
    cx.set(true);
    Ok(())
}

fn exec(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = Fields::default();
    fields.text("command", next_arg(d)?);
    fields.list("args", d.remaining_args());
    while d.next_block(0) {
        match d.val() {
            "dir" => fields.text("dir", one_arg(d)?),
            "timeout" => {
                let text = one_arg(d)?;
                let timeout = Duration::parse(&text).map_err(|error| d.err(error))?;
                fields.integer("timeout", timeout.as_nanos());
            }
            "foreground" => {
                no_args(d)?;
                fields.flag("foreground");
            }
            "abort_codes" => {
                let mut codes = Vec::new();
                for text in some_args(d)? {
                    codes.push(integer(d, &text, &format!("invalid exit code {text}"))?);
                }
                fields.list("abort_codes", codes);
            }
            other => {
                let known = ["dir", "timeout", "foreground", "abort_codes"];
                let error = d.err(format_args!("unrecognized subdirective '{other}'"));
                return Err(d.did_you_mean(error, known));
            }
        }
    }
    Ok(fields.into())
}

fn filesystem(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let name = next_arg(&mut cx.d)?;
    let file_system = Some(FILESYSTEMS.parse_next(&mut cx.d)?);
    let entry = FilesystemEntry { name, file_system };
    cx.options.filesystems.get_or_insert_default().filesystems.push(entry);
    cx.set(true);
    Ok(())
}
