//! `log`: access logs of a site. The block is described in `log_config`.

use caddis_caddyfile::Result as ParseResult;
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};

use crate::log_config;
use crate::modules::no_args;

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "log", kind: DirectiveKind::Values(parse), ordered: false };

/// How many logs got a number for a name.
#[derive(Default)]
struct Numbered(usize);

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let mut name = String::new();
    if h.d.next_arg() {
        h.d.val().clone_into(&mut name);
        no_args(&mut h.d)?;
    }
    let block = log_config::block(&mut h.d, false)?;
    if name.is_empty() && block.log.is_some() {
        let numbered = h.shared.note::<Numbered>("log");
        name = format!("log{}", numbered.0);
        numbered.0 += 1;
    }
    let log = block.log.map(|mut log| {
        log.include = vec![format!("http.log.access.{name}")];
        Box::new(log)
    });
    let log = ConfigValue::AccessLog {
        name,
        log,
        hostnames: block.hostnames,
        no_hostname: block.no_hostname,
    };
    Ok(vec![log])
}
