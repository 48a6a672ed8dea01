//! `bind`: where a site listens.
//!
//! ```text
//! bind <host…> {
//!     protocols <h1|h2|h2c|h3…>
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};

use crate::site::Bind;

/// The directive.
pub(crate) static DIRECTIVE: Directive =
    Directive { name: "bind", kind: DirectiveKind::Values(parse), ordered: false };

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let Bind { addresses, protocols } = addresses(&mut h.d)?;
    Ok(vec![ConfigValue::Bind { addresses, protocols }])
}

/// Reads hosts and the block after them.
///
/// # Errors
/// An unknown word in the block, or `protocols` without any.
pub(crate) fn addresses(d: &mut Dispenser) -> ParseResult<Bind> {
    let mut bind = Bind { addresses: d.remaining_args(), protocols: Vec::new() };
    while d.next_block(0) {
        if d.val() != "protocols" {
            let error = d.err(format_args!("unknown subdirective: {}", d.val()));
            return Err(d.did_you_mean(error, ["protocols"]));
        }
        bind.protocols = d.remaining_args();
        if bind.protocols.is_empty() {
            return Err(d.err("protocols requires one or more arguments"));
        }
    }
    Ok(bind)
}
