//! The compiled expression: its nodes, its types and its values.

use std::fmt;

use caddis_config::ConfigError;
use caddis_core::{Exchange, Matcher, Result, Value, placeholder::Placeholder};
use regex::Regex;
use time::OffsetDateTime;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
    /// In nanoseconds.
    Duration(i64),
    Time(OffsetDateTime),
    /// A type, by its name.
    Type(String),
    /// `req`.
    Request,
}

/// What is known of a value before there is one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    /// Anything.
    Dyn,
    /// Anything, out of a placeholder.
    Any,
    /// A mistake was told already.
    Unknown,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    List(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Duration,
    Time,
    /// A type itself.
    Meta(Box<Self>),
    Request,
}

impl Type {
    /// Whether nothing is known of it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Unknown)
    }

    /// Whether a value of this type may be one of the other.
    pub(super) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (one, two) if one.is_open() || two.is_open() => true,
            (Self::List(one), Self::List(two)) => one.fits(two),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.fits(other_key) && value.fits(other_value)
            }
            (Self::Meta(_), Self::Meta(_)) => true,
            (one, two) => one == two,
        }
    }

    /// The type of a place that holds both.
    pub(super) fn join(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        match (self, other) {
            (Self::List(one), Self::List(two)) if one.fits(&two) => {
                Self::List(one.join(*two).into())
            }
            (Self::Unknown, other) | (other, Self::Unknown) => other,
            _ => Self::Dyn,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "dyn",
            Self::Any => "any",
            Self::Unknown => "!error!",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Str => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Time => "timestamp",
            Self::Request => "http.Request",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(key, value) => return write!(f, "map({key}, {value})"),
            Self::Meta(of) => return write!(f, "type({of})"),
        })
    }
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
pub(super) type Function = fn(&[Val]) -> Result<Val>;

/// Makes a matcher of the texts of its arguments.
pub(super) type Make =
    Box<dyn Fn(&[String]) -> std::result::Result<Box<dyn Matcher>, ConfigError> + Send + Sync>;

/// What a macro does with the items of a list or the keys of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    SortBy,
}

pub(super) enum Node {
    Const(Val),
    /// With its key.
    Placeholder(Placeholder, String),
    /// A placeholder whose name is computed.
    Lookup(Box<Self>),
    /// A variable of a macro, by its place among those in scope.
    Var(usize),
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
    /// `m.field`, or whether there is one.
    Field(Box<Self>, String),
    Has(Box<Self>, String),
    Call(Function, Vec<Self>),
    /// `matches` with a constant expression.
    Regex(Box<Self>, Regex),
    Matcher(Box<dyn Matcher>),
    /// A matcher whose expression is known with the request only.
    DynamicMatcher(Make, Vec<Self>),
    /// `cel.bind`: a value, and what it is used in.
    Bind(Box<Self>, Box<Self>),
    /// A macro: over what, with a condition (of `map` with three arguments), and what is asked.
    Walk(Walk, Box<Self>, Option<Box<Self>>, Box<Self>),
}

/// The request, the macros' variables, and what is left of the bound on work.
pub(super) struct Scope<'a> {
    pub(super) ex: &'a mut Exchange,
    pub(super) vars: Vec<Val>,
    pub(super) steps: usize,
}

impl Val {
    /// Whether two values are equal; numbers are, whatever their kind.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Int(_) | Self::Uint(_) | Self::Float(_),
                Self::Int(_) | Self::Uint(_) | Self::Float(_),
            ) => self.order(other).is_some_and(std::cmp::Ordering::is_eq),
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.equals(two))
            }
            (Self::Map(one), Self::Map(two)) => {
                let find = |key: &Self| two.iter().find(|(other, _)| other.equals(key));
                one.len() == two.len()
                    && one
                        .iter()
                        .all(|(key, value)| find(key).is_some_and(|(_, two)| two.equals(value)))
            }
            (one, two) => one == two,
        }
    }

    /// The order of two values of one kind, or of two numbers.
    #[expect(clippy::cast_precision_loss, reason = "as CEL compares numbers of two kinds")]
    pub(super) fn order(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Int(one), Self::Int(two)) => Some(one.cmp(two)),
            (Self::Uint(one), Self::Uint(two)) => Some(one.cmp(two)),
            (Self::Int(one), Self::Uint(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
            (Self::Uint(one), Self::Int(two)) => Some(i128::from(*one).cmp(&i128::from(*two))),
            (Self::Float(one), Self::Float(two)) => one.partial_cmp(two),
            (Self::Int(one), Self::Float(two)) => (*one as f64).partial_cmp(two),
            (Self::Float(one), Self::Int(two)) => one.partial_cmp(&(*two as f64)),
            (Self::Uint(one), Self::Float(two)) => (*one as f64).partial_cmp(two),
            (Self::Float(one), Self::Uint(two)) => one.partial_cmp(&(*two as f64)),
            (Self::Str(one), Self::Str(two)) => Some(one.cmp(two)),
            (Self::Bytes(one), Self::Bytes(two)) => Some(one.cmp(two)),
            (Self::Bool(one), Self::Bool(two)) => Some(one.cmp(two)),
            (Self::Duration(one), Self::Duration(two)) => Some(one.cmp(two)),
            (Self::Time(one), Self::Time(two)) => Some(one.cmp(two)),
            _ => None,
        }
    }

    /// The name of its type.
    pub(super) fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Float(_) => "double",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Request => "http.Request",
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
