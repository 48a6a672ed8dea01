//! The compiled expression: its nodes and its values.

use caddis_core::{Matcher, Value, placeholder::Placeholder};
use regex::Regex;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

/// An operator with two operands that are both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A function of values; a method's target is its first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Int,
    Double,
    Text,
    Bool,
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    Split,
    Join,
    Lower,
    Upper,
    Trim,
    Replace,
    IndexOf,
    LastIndexOf,
    Substring,
    CharAt,
}

pub(super) enum Node {
    Const(Val),
    /// With its key; a header field that is absent is an empty text.
    Placeholder(Placeholder, String),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Not(Box<Self>),
    Neg(Box<Self>),
    /// `&&`, as a list, so that long chains do not nest.
    And(Vec<Self>),
    /// `||`.
    Or(Vec<Self>),
    Choose(Box<Self>, Box<Self>, Box<Self>),
    Binary(Op, Box<Self>, Box<Self>),
    Index(Box<Self>, Box<Self>),
    Call(Function, Vec<Self>),
    /// `matches` with a constant expression.
    Regex(Box<Self>, Regex),
    Matcher(Box<dyn Matcher>),
}

impl Val {
    /// Whether two values are equal; numbers are, whatever their kind.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            #[expect(clippy::cast_precision_loss, reason = "as CEL compares them")]
            (Self::Int(int), Self::Float(float)) | (Self::Float(float), Self::Int(int)) => {
                (*int as f64) == *float
            }
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.equals(two))
            }
            (one, two) => one == two,
        }
    }

    pub(super) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value),
            Value::Str(text) => Self::Str(text.into_owned()),
            Value::List(items) => Self::List(items.into_iter().map(Self::Str).collect()),
        }
    }
}
