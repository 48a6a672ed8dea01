//! How a provider is written in a Caddyfile, as data: `dns <name> [<argument>] { … }`.
//!
//! The adapter reads the tokens by it; a provider knows nothing of tokens.

use serde_json::{Map, Value};

/// The syntax of a provider.
#[derive(Debug, Clone, Copy)]
pub struct Syntax {
    /// The JSON field that an argument after the name sets; none: no argument.
    pub argument: Option<&'static str>,
    /// The subdirectives of the block.
    pub fields: &'static [Field],
    /// What the JSON holds before the block is read.
    pub defaults: fn() -> Map<String, Value>,
    /// The sentence for what must not be left out, or not stand together.
    pub check: fn(&Map<String, Value>) -> Result<(), String>,
}

impl Syntax {
    /// No argument, no block, no rules.
    pub const NONE: Self =
        Self { argument: None, fields: &[], defaults: Map::new, check: |_| Ok(()) };
}

/// A subdirective.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, and further names for the same.
    pub names: &'static [&'static str],
    /// The JSON field.
    pub json: &'static str,
    /// What follows the name.
    pub kind: FieldKind,
    /// The sentence where it is already set; none: the last one counts.
    pub repeated: Option<&'static str>,
}

/// What follows the name of a subdirective.
#[derive(Debug, Clone, Copy)]
pub enum FieldKind {
    /// A text.
    Text,
    /// `true` or `false`; anything else is passed over, as Caddy's plugins do. The JSON leaves
    /// `false` out where the default is not `true`.
    Bool,
    /// A whole number; anything else is passed over.
    Int,
    /// A duration, or a number of seconds; nanoseconds in JSON. Anything else is passed over.
    Duration,
    /// Several texts; also as arguments after the provider's name.
    Words,
    /// A block of names with a block of these fields each.
    Named(&'static [Field]),
}

impl Field {
    /// A subdirective whose JSON field has the same name.
    pub const fn new(name: &'static str, kind: FieldKind) -> Self {
        Self { names: &[], json: name, kind, repeated: None }
    }

    /// A text.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, FieldKind::Text)
    }

    /// With other names than the JSON field's.
    #[must_use]
    pub const fn named(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }

    /// With a sentence where it is set twice.
    #[must_use]
    pub const fn once(self, sentence: &'static str) -> Self {
        Self { repeated: Some(sentence), ..self }
    }

    /// Whether a subdirective of this name is meant.
    pub fn is(&self, name: &str) -> bool {
        if self.names.is_empty() { self.json == name } else { self.names.contains(&name) }
    }
}

/// Fails with the first sentence whose field is absent or an empty text.
///
/// # Errors
/// The sentence.
pub(crate) fn demand(json: &Map<String, Value>, fields: &[(&str, &str)]) -> Result<(), String> {
    for (field, sentence) in fields {
        if json.get(*field).and_then(Value::as_str).unwrap_or_default().is_empty() {
            return Err((*sentence).to_owned());
        }
    }
    Ok(())
}
