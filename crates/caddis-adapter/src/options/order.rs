//! The order of directives.
//!
//! ```text
//! order <directive> first | last | before <other> | after <other>
//! ```

use caddis_caddyfile::Result as ParseResult;

use super::{GlobalOption, OptionCx};
use crate::modules::{next_arg, no_args};
use crate::routes;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[GlobalOption { name: "order", parse: order }];

fn order(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    let name = cx.d.val().to_owned();
    if cx.registry.directive(&name).is_none() {
        let message = format!("{name} is not a registered directive");
        let known: Vec<&str> = cx.registry.directives.iter().map(|known| known.name).collect();
        return Err(cx.unknown(message, &known));
    }
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    let position = cx.d.val().to_owned();
    let mut order: Vec<String> = routes::order(cx.registry, cx.shared)
        .into_iter()
        .filter(|known| *known != name)
        .map(str::to_owned)
        .collect();
    let at = match position.as_str() {
        "first" => 0,
        "last" => order.len(),
        "before" | "after" => {
            let other = next_arg(&mut cx.d)?;
            no_args(&mut cx.d)?;
            let Some(at) = order.iter().position(|known| *known == other) else {
                let known: Vec<&str> = order.iter().map(String::as_str).collect();
                return Err(cx.unknown(format!("directive '{other}' not found"), &known));
            };
            at + usize::from(position == "after")
        }
        other => {
            let message = format!("unknown positional '{other}'");
            return Err(cx.unknown(message, &["first", "last", "before", "after"]));
        }
    };
    no_args(&mut cx.d)?;
    order.insert(at, name);
    cx.shared.order = order;
    Ok(())
}
