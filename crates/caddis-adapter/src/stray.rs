//! Caddy's sentence for a `}` that closes nothing.
//!
//! To Caddy it is the address of one more site, so what it says is what comes of that: an address
//! without certificate, or the first line after it that is no directive. People search for that
//! sentence, so the mistake has it, drawn at the brace.

use caddis_caddyfile::{Diagnostic, File, Loader, STRAY_BRACE, SourceMap, parse_literally};
use caddis_core::Registry;

use crate::{Adapted, adapt};

/// Gives the first mistake Caddy's sentence if it is a stray `}`.
///
/// `Some`: Caddy takes the file, and so it is taken, with a warning. `sources` are the texts of the
/// file, the main one first.
pub fn reword_stray_brace(
    errors: &mut Vec<Diagnostic>,
    sources: &SourceMap,
    loader: &dyn Loader,
    registry: &Registry,
) -> Option<(File, Adapted)> {
    let first = errors.iter().position(Diagnostic::is_error)?;
    let brace = &errors[first];
    let (span, _) = brace.labels.first()?;
    let (_, text) = sources.iter().next()?;
    if brace.code != STRAY_BRACE {
        return None;
    }
    let (file, found) = parse_literally(&text.name, text.text.as_bytes(), loader);
    let (mut mistakes, warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(Diagnostic::is_error);
    if mistakes.is_empty() {
        match adapt(&file, registry) {
            Ok(mut adapted) => {
                let odd = "this closing brace closes nothing and is read as a site address";
                let odd = Diagnostic::warning(odd).label(*span, "closes nothing");
                adapted.warnings.splice(0..0, warnings);
                adapted.warnings.push(odd);
                return Some((file, adapted));
            }
            Err(more) => mistakes = more,
        }
    }
    let said = mistakes.into_iter().next()?;
    let sentence = said.to_string();
    // A mistake of its own, which the other reading found as well.
    if let Some(own) = errors.iter().position(|error| error.to_string() == sentence) {
        let own = errors.remove(own);
        errors.insert(first, own);
        return None;
    }
    let brace = &mut errors[first];
    brace.message.clone_from(&said.message);
    brace.place.clone_from(&said.place);
    brace.imports.clone_from(&said.imports);
    None
}
