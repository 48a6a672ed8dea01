//! Caddy's sentence for a `}` that closes nothing.
//!
//! To Caddy it is the address of one more site, so what it says is what comes of that: an address
//! without certificate, or the first line after it that is no directive. People search for that
//! sentence, so the mistake has it, drawn at the brace.

use caddis_caddyfile::{
    Diagnostic, File, Loader, STRAY_BRACE, Source, SourceMap, Span, parse_literally,
};
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
    let (_, text) = sources.iter().next()?;
    point_at_early_ends(errors, text);
    let first = errors.iter().position(Diagnostic::is_error)?;
    let brace = &errors[first];
    let span = brace.labels.first()?.0;
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
                let odd = Diagnostic::warning(odd).label(span, "closes nothing");
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
        if own.code == "adapter::key"
            && own.labels.first().is_some_and(|(key, _)| key.file == span.file && *key < span)
        {
            // The site ended too early, so that its own `}` closes nothing.
            errors.retain(|error| {
                error.code != STRAY_BRACE
                    || error.labels.first().is_none_or(|(place, _)| *place != span)
            });
        }
        errors.insert(first.min(errors.len()), own);
        return None;
    }
    let brace = &mut errors[first];
    brace.message.clone_from(&said.message);
    brace.place.clone_from(&said.place);
    brace.imports.clone_from(&said.imports);
    None
}

/// Shows the `}` that ended the site before directives that stand outside of one.
fn point_at_early_ends(errors: &mut [Diagnostic], text: &Source) {
    for error in errors.iter_mut().filter(|one| one.code == "adapter::key" && one.help.is_none()) {
        let Some(key) = error.labels.first().map(|(key, _)| *key) else { continue };
        let before = without_comments(text.text.get(..key.start as usize).unwrap_or_default());
        if !before.ends_with('}') {
            error.help = Some("write the address of a site and a block `{ … }` around it".into());
            continue;
        }
        let end = u32::try_from(before.len()).unwrap_or(u32::MAX);
        error.labels.push((Span::new(key.file, end - 1, end), "the block before ends here".into()));
        error.help = Some(
            "remove that `}` if the site is meant to go on, else write the address of a site before these lines".into(),
        );
    }
}

/// A text without the blank lines and the lines of comments at its end.
fn without_comments(text: &str) -> &str {
    let mut text = text.trim_end();
    while let Some((before, line)) = text.rsplit_once('\n')
        && line.trim_start().starts_with('#')
    {
        text = before.trim_end();
    }
    text
}
