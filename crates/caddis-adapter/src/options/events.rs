//! Events and file systems. None of the modules that they name comes with this program.
//!
//! ```text
//! events {
//!     on <event>|* <handler> …
//! }
//! filesystem <name> <module> { … }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::{FilesystemEntry, Subscription};

use super::{GlobalOption, OptionCx};
use crate::modules::{Kind, next_arg};

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "events", parse: events },
    GlobalOption { name: "filesystem", parse: filesystem },
];

const HANDLERS: Kind = Kind { namespace: "events.handlers", key: "handler", modules: &[] };
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

fn filesystem(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let name = next_arg(&mut cx.d)?;
    let file_system = Some(FILESYSTEMS.parse_next(&mut cx.d)?);
    let entry = FilesystemEntry { name, file_system };
    cx.options.filesystems.get_or_insert_default().filesystems.push(entry);
    cx.set(true);
    Ok(())
}
