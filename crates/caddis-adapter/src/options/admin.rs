//! The administration endpoint.
//!
//! ```text
//! admin off | [<address>] {
//!     origins <origin…>
//!     enforce_origin
//! }
//! persist_config off
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::AdminConfig;

use super::simple::single;
use super::{GlobalOption, OptionCx};
use crate::modules::no_args;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "admin", parse: admin },
    GlobalOption { name: "persist_config", parse: persist_config },
];

/// Where the endpoint listens if nothing is said.
const DEFAULT_LISTEN: &str = "localhost:2019";

fn admin(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let mut config = AdminConfig::default();
    if cx.d.next_arg() {
        if cx.d.val() == "off" {
            config.disabled = true;
            if cx.d.next() {
                return Err(cx.d.err("No more option is allowed after turning off admin config"));
            }
        } else {
            cx.d.val().clone_into(&mut config.listen);
            no_args(&mut cx.d)?;
        }
    }
    while cx.d.next_block(0) {
        match cx.d.val() {
            "enforce_origin" => config.enforce_origin = true,
            "origins" => {
                config.origins = Some(cx.d.remaining_args()).filter(|origins| !origins.is_empty());
            }
            other => {
                let message = format!("unrecognized parameter '{other}'");
                return Err(cx.unknown(message, &["enforce_origin", "origins"]));
            }
        }
    }
    if config.listen.is_empty() && !config.disabled {
        DEFAULT_LISTEN.clone_into(&mut config.listen);
    }
    cx.options.admin = Some(config);
    Ok(())
}

fn persist_config(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let word = single(cx)?;
    if word != "off" {
        return Err(cx.d.err("persist_config must be 'off'"));
    }
    cx.set(word);
    Ok(())
}
