//! What an expression yields for a request.

use std::cmp::Ordering;

use caddis_core::{Exchange, HttpError, Result};

use super::node::{Function, Node, Op, Val};

/// Texts and lists that grow beyond this end the evaluation.
const MAX_SIZE: usize = 1 << 20;

fn no_overload() -> HttpError {
    HttpError::internal("evaluating expression: no such overload")
}

fn error(message: &str) -> HttpError {
    HttpError::internal(format_args!("evaluating expression: {message}"))
}

impl Node {
    /// The value.
    ///
    /// # Errors
    /// Operands that do not fit, or a matcher's own error.
    pub(super) fn eval(&self, ex: &mut Exchange) -> Result<Val> {
        Ok(match self {
            Self::Const(value) => value.clone(),
            Self::Placeholder(placeholder, key) => match placeholder.value(ex).map(Val::of) {
                Some(Val::Null) if key.starts_with("http.request.header.") => {
                    Val::Str(String::new())
                }
                Some(value) => value,
                None => Val::Null,
            },
            Self::List(items) => Val::List(all(items, ex)?),
            Self::Map(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    map.push((key.eval(ex)?, value.eval(ex)?));
                }
                Val::Map(map)
            }
            Self::Not(node) => Val::Bool(!node.truth(ex)?),
            Self::Neg(node) => match node.eval(ex)? {
                Val::Int(value) => {
                    Val::Int(value.checked_neg().ok_or_else(|| error("integer overflow"))?)
                }
                Val::Float(value) => Val::Float(-value),
                _ => return Err(no_overload()),
            },
            Self::And(all) => Val::Bool(decide(all, false, ex)?),
            Self::Or(all) => Val::Bool(decide(all, true, ex)?),
            Self::Choose(condition, yes, no) => {
                return if condition.truth(ex)? { yes.eval(ex) } else { no.eval(ex) };
            }
            Self::Binary(op, one, two) => {
                let (one, two) = (one.eval(ex)?, two.eval(ex)?);
                return binary(*op, one, two);
            }
            Self::Index(of, index) => {
                let (of, index) = (of.eval(ex)?, index.eval(ex)?);
                return element(of, &index);
            }
            Self::Call(function, args) => {
                let args = all(args, ex)?;
                return call(*function, &args);
            }
            Self::Regex(target, regex) => match target.eval(ex)? {
                Val::Str(text) => Val::Bool(regex.is_match(&text)),
                _ => return Err(no_overload()),
            },
            Self::Matcher(matcher) => Val::Bool(matcher.matches(ex)?),
        })
    }

    fn truth(&self, ex: &mut Exchange) -> Result<bool> {
        match self.eval(ex)? {
            Val::Bool(value) => Ok(value),
            _ => Err(no_overload()),
        }
    }
}

fn all(nodes: &[Node], ex: &mut Exchange) -> Result<Vec<Val>> {
    nodes.iter().map(|node| node.eval(ex)).collect()
}

/// `&&` and `||`: one side that decides makes errors of the others vanish.
fn decide(all: &[Node], deciding: bool, ex: &mut Exchange) -> Result<bool> {
    let mut failed = None;
    for node in all {
        match node.truth(ex) {
            Ok(value) if value == deciding => return Ok(deciding),
            Ok(_) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(!deciding), Err)
}

fn binary(op: Op, one: Val, two: Val) -> Result<Val> {
    let ordered =
        |fits: fn(Ordering) -> bool| Ok(Val::Bool(compare(&one, &two)?.is_some_and(fits)));
    match op {
        Op::Eq => Ok(Val::Bool(one.equals(&two))),
        Op::Ne => Ok(Val::Bool(!one.equals(&two))),
        Op::Lt => ordered(Ordering::is_lt),
        Op::Le => ordered(Ordering::is_le),
        Op::Gt => ordered(Ordering::is_gt),
        Op::Ge => ordered(Ordering::is_ge),
        Op::In => match two {
            Val::List(items) => Ok(Val::Bool(items.iter().any(|item| item.equals(&one)))),
            Val::Map(entries) => Ok(Val::Bool(entries.iter().any(|(key, _)| key.equals(&one)))),
            _ => Err(no_overload()),
        },
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem => arithmetic(op, one, two),
    }
}

#[expect(clippy::cast_precision_loss, reason = "as CEL compares numbers of both kinds")]
fn compare(one: &Val, two: &Val) -> Result<Option<Ordering>> {
    Ok(match (one, two) {
        (Val::Int(one), Val::Int(two)) => Some(one.cmp(two)),
        (Val::Float(one), Val::Float(two)) => one.partial_cmp(two),
        (Val::Int(one), Val::Float(two)) => (*one as f64).partial_cmp(two),
        (Val::Float(one), Val::Int(two)) => one.partial_cmp(&(*two as f64)),
        (Val::Str(one), Val::Str(two)) => Some(one.cmp(two)),
        (Val::Bool(one), Val::Bool(two)) => Some(one.cmp(two)),
        _ => return Err(no_overload()),
    })
}

fn arithmetic(op: Op, one: Val, two: Val) -> Result<Val> {
    match (one, two) {
        (Val::Int(one), Val::Int(two)) => {
            let result = match op {
                Op::Add => one.checked_add(two),
                Op::Sub => one.checked_sub(two),
                Op::Mul => one.checked_mul(two),
                Op::Div | Op::Rem if two == 0 => return Err(error("division by zero")),
                Op::Div => one.checked_div(two),
                _ => one.checked_rem(two),
            };
            result.map(Val::Int).ok_or_else(|| error("integer overflow"))
        }
        (Val::Float(one), Val::Float(two)) => Ok(Val::Float(match op {
            Op::Add => one + two,
            Op::Sub => one - two,
            Op::Mul => one * two,
            Op::Div => one / two,
            _ => return Err(no_overload()),
        })),
        (Val::Str(one), Val::Str(two)) if op == Op::Add => bounded(one + &two),
        (Val::List(mut one), Val::List(two)) if op == Op::Add => {
            if one.len() + two.len() > MAX_SIZE {
                return Err(error("a list is too long"));
            }
            one.extend(two);
            Ok(Val::List(one))
        }
        _ => Err(no_overload()),
    }
}

fn bounded(text: String) -> Result<Val> {
    if text.len() > MAX_SIZE { Err(error("a text is too long")) } else { Ok(Val::Str(text)) }
}

fn element(of: Val, index: &Val) -> Result<Val> {
    match (of, index) {
        (Val::List(mut items), Val::Int(index)) => {
            let at = usize::try_from(*index).ok().filter(|at| *at < items.len());
            at.map(|at| items.swap_remove(at)).ok_or_else(|| error("index out of bounds"))
        }
        (Val::Map(entries), key) => entries
            .into_iter()
            .find(|(name, _)| name.equals(key))
            .map(|(_, value)| value)
            .ok_or_else(|| error("no such key")),
        _ => Err(no_overload()),
    }
}

fn call(function: Function, args: &[Val]) -> Result<Val> {
    use Val::{Int, List, Map, Str};
    let count = |len: usize| Int(i64::try_from(len).unwrap_or(i64::MAX));
    match (function, args) {
        (Function::Int | Function::Double | Function::Text | Function::Bool, [value]) => {
            convert(function, value)
        }
        (Function::Size, [Str(text)]) => Ok(count(text.chars().count())),
        (Function::Size, [List(items)]) => Ok(count(items.len())),
        (Function::Size, [Map(entries)]) => Ok(count(entries.len())),
        (Function::StartsWith, [Str(text), Str(part)]) => {
            Ok(Val::Bool(text.starts_with(part.as_str())))
        }
        (Function::EndsWith, [Str(text), Str(part)]) => {
            Ok(Val::Bool(text.ends_with(part.as_str())))
        }
        (Function::Contains, [Str(text), Str(part)]) => Ok(Val::Bool(text.contains(part.as_str()))),
        (Function::Matches, [Str(text), Str(pattern)]) => {
            let regex = crate::regexp::compile(pattern).map_err(|message| error(&message))?;
            Ok(Val::Bool(regex.is_match(text)))
        }
        (Function::Split, [Str(text), Str(by)]) => Ok(split(text, by, -1)),
        (Function::Split, [Str(text), Str(by), Int(limit)]) => Ok(split(text, by, *limit)),
        (Function::Join, [List(items)]) => join(items, ""),
        (Function::Join, [List(items), Str(by)]) => join(items, by),
        (Function::Lower, [Str(text)]) => Ok(Str(text.to_ascii_lowercase())),
        (Function::Upper, [Str(text)]) => Ok(Str(text.to_ascii_uppercase())),
        (Function::Trim, [Str(text)]) => Ok(Str(text.trim().to_owned())),
        (Function::Replace, [Str(text), Str(from), Str(to)]) => {
            bounded(text.replace(from.as_str(), to))
        }
        (Function::Replace, [Str(text), Str(from), Str(to), Int(most)]) => {
            let most = usize::try_from(*most).unwrap_or(usize::MAX);
            bounded(text.replacen(from.as_str(), to, most))
        }
        (Function::IndexOf, [Str(text), Str(part)]) => Ok(index(text, text.find(part.as_str()))),
        (Function::LastIndexOf, [Str(text), Str(part)]) => {
            Ok(index(text, text.rfind(part.as_str())))
        }
        (Function::Substring, [Str(text), Int(start)]) => substring(text, *start, None),
        (Function::Substring, [Str(text), Int(start), Int(end)]) => {
            substring(text, *start, Some(*end))
        }
        (Function::CharAt, [Str(text), Int(at)]) => substring(text, *at, at.checked_add(1)),
        _ => Err(no_overload()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the conversions that the functions are for"
)]
fn convert(function: Function, value: &Val) -> Result<Val> {
    let bad = || error("type conversion error");
    Ok(match (function, value) {
        (Function::Int, Val::Int(value)) => Val::Int(*value),
        (Function::Int, Val::Float(value)) if value.abs() < 9.2e18 => Val::Int(*value as i64),
        (Function::Int, Val::Str(text)) => Val::Int(text.parse().map_err(|_| bad())?),
        (Function::Double, Val::Int(value)) => Val::Float(*value as f64),
        (Function::Double, Val::Float(value)) => Val::Float(*value),
        (Function::Double, Val::Str(text)) => Val::Float(text.parse().map_err(|_| bad())?),
        (Function::Bool, Val::Bool(value)) => Val::Bool(*value),
        (Function::Bool, Val::Str(text)) => match text.as_str() {
            "1" | "t" | "true" | "TRUE" | "True" => Val::Bool(true),
            "0" | "f" | "false" | "FALSE" | "False" => Val::Bool(false),
            _ => return Err(bad()),
        },
        (Function::Text, Val::Str(text)) => Val::Str(text.clone()),
        (Function::Text, Val::Int(value)) => Val::Str(value.to_string()),
        (Function::Text, Val::Float(value)) => Val::Str(value.to_string()),
        (Function::Text, Val::Bool(value)) => Val::Str(value.to_string()),
        _ => return Err(no_overload()),
    })
}

fn split(text: &str, by: &str, limit: i64) -> Val {
    let part = |part: &str| Val::Str(part.to_owned());
    Val::List(match usize::try_from(limit) {
        Ok(0) => Vec::new(),
        _ if by.is_empty() => text.chars().map(|char| Val::Str(char.to_string())).collect(),
        Ok(limit) => text.splitn(limit, by).map(part).collect(),
        Err(_) => text.split(by).map(part).collect(),
    })
}

fn join(items: &[Val], by: &str) -> Result<Val> {
    let texts: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Val::Str(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    bounded(texts.ok_or_else(no_overload)?.join(by))
}

/// A place in characters, or -1.
fn index(text: &str, at: Option<usize>) -> Val {
    let chars = at.map(|at| text[..at].chars().count());
    Val::Int(chars.and_then(|count| i64::try_from(count).ok()).unwrap_or(-1))
}

fn substring(text: &str, start: i64, end: Option<i64>) -> Result<Val> {
    let length = text.chars().count();
    let place = |at: i64| {
        usize::try_from(at)
            .ok()
            .filter(|at| *at <= length)
            .ok_or_else(|| error("index out of range"))
    };
    let start = place(start)?;
    let end = end.map_or(Ok(length), place)?;
    if start > end {
        return Err(error("invalid substring range"));
    }
    Ok(Val::Str(text.chars().skip(start).take(end - start).collect()))
}
