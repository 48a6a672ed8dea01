//! Small readers shared by the directives of this crate.

use caddis_caddyfile::{Diagnostic, Dispenser, Result, Token};
use caddis_config::{Duration, Size};

/// The next argument, which must be there.
pub(crate) fn argument(d: &mut Dispenser) -> Result<String> {
    if d.next_arg() { Ok(d.val().to_owned()) } else { Err(d.arg_err()) }
}

/// The next argument, which must be there and be the last.
pub(crate) fn only_argument(d: &mut Dispenser) -> Result<String> {
    let text = argument(d)?;
    no_more(d)?;
    Ok(text)
}

/// Refuses a further argument.
pub(crate) fn no_more(d: &mut Dispenser) -> Result<()> {
    if d.next_arg() { Err(d.arg_err()) } else { Ok(()) }
}

/// All arguments of the line, at least one.
pub(crate) fn arguments(d: &mut Dispenser) -> Result<Vec<String>> {
    let args = d.remaining_args();
    if args.is_empty() { Err(d.arg_err()) } else { Ok(args) }
}

/// A duration; a wrong one is reported as `what TEXT: why`.
pub(crate) fn duration(d: &mut Dispenser, what: &str) -> Result<Duration> {
    let text = argument(d)?;
    Duration::parse(&text).map_err(|error| d.err(format_args!("{what} '{text}': {error}")))
}

/// [`duration`] with the text not in quotes.
pub(crate) fn duration_bare(d: &mut Dispenser, what: &str) -> Result<Duration> {
    let text = argument(d)?;
    Duration::parse(&text).map_err(|error| d.err(format_args!("{what} {text}: {error}")))
}

/// A duration or whole nanoseconds.
pub(crate) fn duration_or_nanos(d: &mut Dispenser) -> Result<Duration> {
    let text = argument(d)?;
    if let Ok(nanos) = text.parse() {
        return Ok(Duration::from_nanos(nanos));
    }
    Duration::parse(&text)
        .map_err(|error| d.err(format_args!("bad duration value '{text}': {error}")))
}

/// A whole number.
pub(crate) fn integer(d: &mut Dispenser, what: &str) -> Result<i64> {
    let text = argument(d)?;
    parse_integer(&text).map_err(|error| d.err(format_args!("{what} '{text}': {error}")))
}

/// Reads a whole number as Go's `strconv.Atoi` does, with its sentence where it is none.
pub(crate) fn parse_integer(text: &str) -> std::result::Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                "value out of range"
            }
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {why}")
    })
}

/// A size in bytes.
pub(crate) fn size(d: &mut Dispenser, what: &str) -> Result<i64> {
    let text = argument(d)?;
    Size::parse(&text)
        .map(Size::as_i64)
        .map_err(|error| d.err(format_args!("{what} '{text}': {error}")))
}

/// A status code or a class (`5xx` is 5).
pub(crate) fn status(d: &Dispenser, text: &str) -> Result<i64> {
    let digits = if text.len() == 3 && text.ends_with("xx") { &text[..1] } else { text };
    parse_integer(digits).map_err(|error| d.err(format_args!("bad status value '{text}': {error}")))
}

/// Whether a status code is the wanted one or of the wanted class.
pub(crate) fn status_matches(code: u16, wanted: i64) -> bool {
    i64::from(code) == wanted || (wanted < 100 && i64::from(code / 100) == wanted)
}

/// The error for a module name that nobody registered, at the name.
pub(crate) fn unknown_module(name: &Token, namespace: &str) -> Diagnostic {
    let id = format!("{namespace}.{}", name.text);
    Diagnostic::error(format!("getting module named '{id}': module not registered: {id}"))
        .at(name)
        .code("adapter::unknown_module")
}
