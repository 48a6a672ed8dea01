//! Modules that are named inside directives and options: `issuer acme { … }`, `output file …`.

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult, nearest};
use caddis_config::{Duration, Size, module_object};
use serde::Serialize;
use serde_json::Value as Json;

/// Reads a module's tokens: the cursor stands before its name.
pub(crate) type Parse = fn(&mut Dispenser) -> ParseResult<Json>;

/// Modules that can stand in one place.
pub(crate) struct Kind {
    /// What comes before the dot in their ids.
    pub(crate) namespace: &'static str,
    /// The key with the name in their JSON objects.
    pub(crate) key: &'static str,
    /// Names and parsers.
    pub(crate) modules: &'static [(&'static str, Parse)],
}

impl Kind {
    /// Reads the module whose name is the current token, to the end of its block.
    ///
    /// # Errors
    /// There is no such module, or its own mistake.
    pub(crate) fn parse(&self, d: &mut Dispenser) -> ParseResult<Json> {
        let name = d.val().to_owned();
        let Some((_, parse)) = self.modules.iter().find(|(known, _)| *known == name) else {
            return Err(self.unknown(d));
        };
        let payload = parse(&mut d.new_from_next_segment())?;
        Ok(module_object(payload, self.key, &name))
    }

    /// Reads the module whose name is the next argument.
    ///
    /// # Errors
    /// There is no argument, or as [`Self::parse`].
    pub(crate) fn parse_next(&self, d: &mut Dispenser) -> ParseResult<Json> {
        if !d.next_arg() {
            return Err(d.arg_err());
        }
        self.parse(d)
    }

    /// As [`Self::parse`]; a mistake gets the place of the module too.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn parse_wrapped(&self, d: &mut Dispenser) -> ParseResult<Json> {
        self.parse(d).map_err(|inner| d.wrap_err(inner))
    }

    /// As [`Self::parse_next`]; a mistake in the module gets its place too.
    ///
    /// # Errors
    /// As [`Self::parse_next`].
    pub(crate) fn parse_next_wrapped(&self, d: &mut Dispenser) -> ParseResult<Json> {
        if !d.next_arg() {
            return Err(d.arg_err());
        }
        self.parse_wrapped(d)
    }

    fn unknown(&self, d: &Dispenser) -> Diagnostic {
        let id = format!("{}.{}", self.namespace, d.val());
        let error = d
            .err(format_args!("getting module named '{id}': module not registered: {id}"))
            .code("adapter::unknown_module");
        match nearest(d.val(), self.modules.iter().map(|(name, _)| *name)) {
            Some(near) => error.meant(near),
            None => error,
        }
    }
}

/// The JSON of a payload.
///
/// # Errors
/// None for the shapes of this crate.
pub(crate) fn payload(d: &Dispenser, value: &impl Serialize) -> ParseResult<Json> {
    serde_json::to_value(value).map_err(|error| d.err(error))
}

/// The only argument on the line.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn one_arg(d: &mut Dispenser) -> ParseResult<String> {
    match d.all_args::<1>() {
        Some([text]) => Ok(text),
        None => Err(d.arg_err()),
    }
}

/// The next argument.
///
/// # Errors
/// There is none.
pub(crate) fn next_arg(d: &mut Dispenser) -> ParseResult<String> {
    if !d.next_arg() {
        return Err(d.arg_err());
    }
    Ok(d.val().to_owned())
}

/// At least one argument.
///
/// # Errors
/// There is none.
pub(crate) fn some_args(d: &mut Dispenser) -> ParseResult<Vec<String>> {
    let args = d.remaining_args();
    if args.is_empty() { Err(d.arg_err()) } else { Ok(args) }
}

/// No further argument.
///
/// # Errors
/// There is one.
pub(crate) fn no_args(d: &mut Dispenser) -> ParseResult<()> {
    if d.next_arg() { Err(d.arg_err()) } else { Ok(()) }
}

/// A duration, with `what: ` before the reason if it is none.
///
/// # Errors
/// The text is no duration.
pub(crate) fn duration(d: &Dispenser, text: &str, what: &str) -> ParseResult<Duration> {
    Duration::parse(text).map_err(|error| d.err(format_args!("{what}: {error}")))
}

/// A size in bytes, with `what: ` before the reason if it is none.
///
/// # Errors
/// The text is no size.
pub(crate) fn size(d: &Dispenser, text: &str, what: &str) -> ParseResult<Size> {
    Size::parse(text).map_err(|error| d.err(format_args!("{what}: {error}")))
}

/// A whole number, with `what: ` before the reason (in Go's words) if it is none.
///
/// # Errors
/// The text is no whole number.
pub(crate) fn integer(d: &Dispenser, text: &str, what: &str) -> ParseResult<i64> {
    text.parse()
        .map_err(|_| d.err(format_args!("{what}: strconv.Atoi: parsing {text:?}: invalid syntax")))
}
