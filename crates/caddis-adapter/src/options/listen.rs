//! Where sites listen, and what is automatic about HTTPS.
//!
//! ```text
//! default_bind <host…> {
//!     protocols <protocol…>
//! }
//! auto_https off | disable_redirects | disable_certs | ignore_loaded_certs
//! ```

use caddis_caddyfile::Result as ParseResult;

use super::{GlobalOption, OptionCx};
use crate::directives::bind;
use crate::modules::some_args;

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "default_bind", parse: default_bind },
    GlobalOption { name: "auto_https", parse: auto_https },
];

fn default_bind(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let mut found = bind::addresses(&mut cx.d)?;
    if found.addresses.is_empty() {
        found.addresses.push(String::new());
    }
    cx.options.default_bind.get_or_insert_default().push(found);
    cx.set(true);
    Ok(())
}

fn auto_https(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    const WORDS: [&str; 4] = ["off", "disable_redirects", "disable_certs", "ignore_loaded_certs"];
    cx.d.next();
    let words = some_args(&mut cx.d)?;
    if !words.iter().all(|word| WORDS.contains(&word.as_str())) {
        let message = "auto_https must be one of 'off', 'disable_redirects', 'disable_certs', or 'ignore_loaded_certs'";
        return Err(cx.unknown(message.to_owned(), &WORDS));
    }
    cx.set(words);
    Ok(())
}
