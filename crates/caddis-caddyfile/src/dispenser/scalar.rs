//! Tokens as numbers and booleans.

use crate::token::Token;

/// What a token looks like: quoted ones are always strings.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalarVal {
    /// A whole number.
    Int(i64),
    /// A decimal number.
    Float(f64),
    /// `true`, `false` and Go's other spellings.
    Bool(bool),
    /// Anything else.
    String(String),
}

impl ScalarVal {
    pub(super) fn of(token: &Token) -> Self {
        let text = token.text.as_str();
        if token.is_quoted() {
            return Self::String(text.to_owned());
        }
        if let Ok(int) = text.parse() {
            return Self::Int(int);
        }
        if let Some(float) = go_float(text) {
            return Self::Float(float);
        }
        match text {
            "t" | "T" | "true" | "TRUE" | "True" => Self::Bool(true),
            "f" | "F" | "false" | "FALSE" | "False" => Self::Bool(false),
            _ => Self::String(text.to_owned()),
        }
    }
}

/// A number as Go's `strconv.ParseFloat` reads it; hexadecimal ones are left as strings.
fn go_float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    // Go reports overflow as an error; infinity has to be spelled out.
    let spelled = text.bytes().any(|b| matches!(b, b'n' | b'N'));
    (value.is_finite() || spelled).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Quote;

    #[test]
    fn looks() {
        let of = |text: &str| ScalarVal::of(&Token::synthetic(text));
        assert_eq!(of("12"), ScalarVal::Int(12));
        assert_eq!(of("-1.5e2"), ScalarVal::Float(-150.0));
        assert_eq!(of("1e999"), ScalarVal::String("1e999".into()));
        assert_eq!(of("True"), ScalarVal::Bool(true));
        assert_eq!(of("yes"), ScalarVal::String("yes".into()));
        let quoted = Token { quote: Quote::Double, ..Token::synthetic("12") };
        assert_eq!(ScalarVal::of(&quoted), ScalarVal::String("12".into()));
    }
}
