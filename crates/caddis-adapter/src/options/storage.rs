//! Where certificates and the like are kept.
//!
//! ```text
//! storage <module> { … }
//! storage_check off
//! storage_clean_interval <duration> | off
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::Duration;

use super::simple::single;
use super::{GlobalOption, OptionCx};
use crate::storage::STORAGE;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "storage", parse: storage },
    GlobalOption { name: "storage_check", parse: storage_check },
    GlobalOption { name: "storage_clean_interval", parse: storage_clean_interval },
];

fn storage(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    let storage = STORAGE.parse(&mut cx.d)?;
    cx.set(storage);
    Ok(())
}

fn storage_check(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let word = single(cx)?;
    if word != "off" {
        return Err(cx.d.err("storage_check must be 'off'"));
    }
    cx.set(word);
    Ok(())
}

fn storage_clean_interval(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let text = single(cx)?;
    if text == "off" {
        cx.set(false);
        return Ok(());
    }
    let duration = Duration::parse(&text).map_err(|error| {
        cx.d.err(format_args!(
            "failed to parse storage_clean_interval, must be a duration or 'off' {error}"
        ))
    })?;
    cx.set(duration.as_nanos());
    Ok(())
}
