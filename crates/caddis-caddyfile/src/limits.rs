//! Bounds on what a configuration may make the parser do. They are far above what people write and
//! low enough that hostile input ends in an error instead of in a full memory. Unit tests have lower
//! ones, to be quick.

/// Bytes of one text, before and after `{$VAR}` is replaced.
pub(crate) const TEXT_BYTES: usize = 160 << 20;

/// Tokens of all texts together, imports expanded.
pub(crate) const TOKENS: usize = if cfg!(test) { 200_000 } else { 2_000_000 };

/// Bytes written by replacing `{args[…]}`.
pub(crate) const ARGUMENT_BYTES: usize = if cfg!(test) { 8 << 20 } else { 256 << 20 };

/// Blocks inside blocks.
pub(crate) const BLOCK_DEPTH: usize = 250;

/// Imports inside imports.
pub(crate) const IMPORT_DEPTH: u32 = 1_000;

/// Steps of the search for import cycles.
pub(crate) const CYCLE_STEPS: usize = 50_000_000;

/// Diagnostics of one severity.
pub(crate) const DIAGNOSTICS: usize = 200;

/// Bytes of the lines that are drawn around one place; more is not for reading.
pub(crate) const DRAWN_BYTES: usize = 16 << 10;

/// A word as it goes into a message: as it is, unless it would fill the message alone.
pub(crate) fn quoted(text: &str) -> &str {
    if text.len() > 2_000 { shown(text) } else { text }
}

/// Cuts a text that goes into a message.
pub(crate) fn shown(text: &str) -> &str {
    const LONGEST: usize = 500;
    text.char_indices().nth(LONGEST).map_or(text, |(at, _)| &text[..at])
}
