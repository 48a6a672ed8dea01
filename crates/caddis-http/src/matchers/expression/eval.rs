//! What an expression yields for a request.

use caddis_core::{Exchange, HttpError, Result, Value, placeholder::Placeholder};
use time::OffsetDateTime;

use super::node::{Node, Op, Scope, Val, Walk};

/// Texts and lists that grow beyond this end the evaluation.
pub(super) const MAX_SIZE: usize = 1 << 20;
/// Nodes and items that one evaluation looks at; macros within macros multiply.
const MAX_STEPS: usize = 2 << 20;

const PREFIX: &str = "evaluating expression: ";

/// Where an evaluation's mistake is told without a request.
pub(super) struct Failure;

impl Failure {
    /// The sentence alone.
    pub(super) fn text(error: &HttpError) -> String {
        error.message.strip_prefix(PREFIX).unwrap_or(&error.message).to_owned()
    }
}

pub(super) fn no_overload() -> HttpError {
    error("no such overload")
}

pub(super) fn error(message: impl std::fmt::Display) -> HttpError {
    HttpError::internal(format_args!("{PREFIX}{message}"))
}

/// The value for a request.
///
/// # Errors
/// Operands that do not fit, or a matcher's own error.
pub(super) fn run(node: &Node, ex: &mut Exchange) -> Result<Val> {
    node.eval(&mut Scope { ex, vars: Vec::new(), steps: MAX_STEPS })
}

/// The value of a node that needs no request, where it is a text.
pub(super) fn constant(node: &Node) -> Option<Val> {
    match node {
        Node::Const(value) => Some(value.clone()),
        Node::Binary(Op::Add, one, two) => match (constant(one)?, constant(two)?) {
            (Val::Str(one), Val::Str(two)) => Some(Val::Str(one + &two)),
            _ => None,
        },
        _ => None,
    }
}

impl Node {
    fn eval(&self, scope: &mut Scope<'_>) -> Result<Val> {
        scope.spend(1)?;
        Ok(match self {
            Self::Const(value) => value.clone(),
            Self::Placeholder(placeholder, key) => lookup(placeholder, key, scope.ex),
            Self::Lookup(key) => match key.eval(scope)? {
                Val::Str(key) => lookup(&Placeholder::parse(&key), &key, scope.ex),
                _ => return Err(no_overload()),
            },
            Self::Var(place) => {
                let cost = scope.vars.get(*place).map_or(0, length);
                scope.spend(cost)?;
                scope.vars.get(*place).cloned().unwrap_or(Val::Null)
            }
            Self::List(items) => Val::List(all(items, scope)?),
            Self::Map(entries) => {
                let mut map: Vec<(Val, Val)> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let (key, value) = (key.eval(scope)?, value.eval(scope)?);
                    match map.iter_mut().find(|(known, _)| known.equals(&key)) {
                        Some(entry) => entry.1 = value,
                        None => map.push((key, value)),
                    }
                }
                Val::Map(map)
            }
            Self::Not(node) => Val::Bool(!node.truth(scope)?),
            Self::Neg(node) => match node.eval(scope)? {
                Val::Int(value) => {
                    Val::Int(value.checked_neg().ok_or_else(|| error("integer overflow"))?)
                }
                Val::Float(value) => Val::Float(-value),
                _ => return Err(no_overload()),
            },
            Self::And(all) => Val::Bool(decide(all, false, scope)?),
            Self::Or(all) => Val::Bool(decide(all, true, scope)?),
            Self::Choose(condition, yes, no) => {
                return if condition.truth(scope)? { yes.eval(scope) } else { no.eval(scope) };
            }
            Self::Binary(op, one, two) => {
                let (one, two) = (one.eval(scope)?, two.eval(scope)?);
                return binary(*op, one, two);
            }
            Self::Index(of, index) => {
                let (of, index) = (of.eval(scope)?, index.eval(scope)?);
                return element(of, &index);
            }
            Self::Field(of, field) => return element(of.eval(scope)?, &Val::Str(field.clone())),
            Self::Has(of, field) => match of.eval(scope)? {
                Val::Map(entries) => {
                    let is_field = |key: &Val| matches!(key, Val::Str(key) if key == field);
                    Val::Bool(entries.iter().any(|(key, _)| is_field(key)))
                }
                // Known with the request only; it has no fields.
                _ => Val::Bool(false),
            },
            Self::Call(function, args) => {
                let args = all(args, scope)?;
                let value = function(&args)?;
                scope.spend(length(&value))?;
                value
            }
            Self::Regex(target, regex) => match target.eval(scope)? {
                Val::Str(text) => Val::Bool(regex.is_match(&text)),
                _ => return Err(no_overload()),
            },
            Self::Matcher(matcher) => Val::Bool(matcher.matches(scope.ex)?),
            Self::DynamicMatcher(make, args) => {
                let mut texts = Vec::with_capacity(args.len());
                for arg in all(args, scope)? {
                    match arg {
                        Val::Str(text) => texts.push(text),
                        Val::Null => texts.push(String::new()),
                        _ => return Err(no_overload()),
                    }
                }
                let matcher = make(&texts).map_err(|why| error(why.message))?;
                Val::Bool(matcher.matches(scope.ex)?)
            }
            Self::Bind(value, body) => {
                let value = value.eval(scope)?;
                scope.vars.push(value);
                let result = body.eval(scope);
                scope.vars.pop();
                return result;
            }
            Self::Walk(walk, range, condition, body) => {
                let items = match range.eval(scope)? {
                    Val::List(items) => items,
                    Val::Map(entries) => entries.into_iter().map(|(key, _)| key).collect(),
                    _ => return Err(no_overload()),
                };
                return walk_over(*walk, items, condition.as_deref(), body, scope);
            }
        })
    }

    fn truth(&self, scope: &mut Scope<'_>) -> Result<bool> {
        match self.eval(scope)? {
            Val::Bool(value) => Ok(value),
            _ => Err(no_overload()),
        }
    }
}

impl Scope<'_> {
    /// Counts work. Macros go on after an error of one item, so nothing is left after this one.
    fn spend(&mut self, steps: usize) -> Result<()> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.map(|_| ()).ok_or_else(|| error("it takes too long"))
    }
}

/// What a copy of a value costs, those inside of it and long texts among it.
fn length(value: &Val) -> usize {
    match value {
        Val::List(items) => items.iter().map(|item| 1 + length(item)).sum(),
        Val::Map(entries) => {
            entries.iter().map(|(key, value)| 2 + length(key) + length(value)).sum()
        }
        Val::Str(text) => text.len() / 64,
        Val::Bytes(bytes) => bytes.len() / 64,
        _ => 0,
    }
}

/// A placeholder's value; durations and times are such, and not their texts.
fn lookup(placeholder: &Placeholder, key: &str, ex: &Exchange) -> Val {
    match key {
        "http.request.duration" => {
            return Val::Duration(i64::try_from(ex.start.elapsed().as_nanos()).unwrap_or(i64::MAX));
        }
        "time.now" => return Val::Time(OffsetDateTime::now_utc()),
        _ => {}
    }
    match placeholder.value(ex) {
        // A header field that is absent is an empty text.
        None | Some(Value::Null) if key.starts_with("http.request.header.") => {
            Val::Str(String::new())
        }
        Some(Value::Str(text)) if key.ends_with("duration") || key.ends_with("latency") => {
            match caddis_config::Duration::parse_go(&text) {
                Ok(duration) => Val::Duration(duration.as_nanos()),
                Err(_) => Val::Str(text.into_owned()),
            }
        }
        Some(value) => Val::of(value),
        None => Val::Null,
    }
}

fn all(nodes: &[Node], scope: &mut Scope<'_>) -> Result<Vec<Val>> {
    nodes.iter().map(|node| node.eval(scope)).collect()
}

/// `&&` and `||`: one side that decides makes errors of the others vanish.
fn decide(all: &[Node], deciding: bool, scope: &mut Scope<'_>) -> Result<bool> {
    let mut failed = None;
    for node in all {
        match node.truth(scope) {
            Ok(value) if value == deciding => return Ok(deciding),
            Ok(_) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(!deciding), Err)
}

fn walk_over(
    walk: Walk,
    items: Vec<Val>,
    condition: Option<&Node>,
    body: &Node,
    scope: &mut Scope<'_>,
) -> Result<Val> {
    let mut kept = Vec::new();
    let mut keys = Vec::new();
    let (mut count, mut failed) = (0, None);
    for item in items {
        let with = |scope: &mut Scope<'_>, node: &Node| {
            scope.vars.push(item.clone());
            let result = node.eval(scope);
            scope.vars.pop();
            result
        };
        match walk {
            Walk::All | Walk::Exists => {
                let deciding = walk == Walk::Exists;
                match with(scope, body) {
                    Ok(Val::Bool(value)) if value == deciding => return Ok(Val::Bool(deciding)),
                    Ok(Val::Bool(_)) => {}
                    Ok(_) => failed = failed.or_else(|| Some(no_overload())),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            Walk::ExistsOne | Walk::Filter => match with(scope, body)? {
                Val::Bool(true) if walk == Walk::Filter => kept.push(item),
                Val::Bool(value) => count += usize::from(value),
                _ => return Err(no_overload()),
            },
            Walk::Map => {
                let wanted = match condition {
                    Some(condition) => with(scope, condition)?,
                    None => Val::Bool(true),
                };
                match wanted {
                    Val::Bool(true) => kept.push(with(scope, body)?),
                    Val::Bool(false) => {}
                    _ => return Err(no_overload()),
                }
            }
            Walk::SortBy => {
                keys.push(with(scope, body)?);
                kept.push(item);
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(match walk {
        Walk::All => Val::Bool(true),
        Walk::Exists => Val::Bool(false),
        Walk::ExistsOne => Val::Bool(count == 1),
        Walk::Map | Walk::Filter => Val::List(kept),
        Walk::SortBy => Val::List(sorted(kept, &keys)?),
    })
}

/// The items in the order of their keys, which are to be of one kind.
pub(super) fn sorted(items: Vec<Val>, keys: &[Val]) -> Result<Vec<Val>> {
    if let Some(first) = keys.first()
        && keys.iter().any(|key| first.type_name() != key.type_name() || first.order(key).is_none())
    {
        return Err(error("list elements must have the same type and an order"));
    }
    let mut pairs: Vec<_> = keys.iter().zip(items).collect();
    pairs.sort_by(|(one, _), (two, _)| one.order(two).unwrap_or(std::cmp::Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item).collect())
}

fn binary(op: Op, one: Val, two: Val) -> Result<Val> {
    let order = || match one.order(&two) {
        Some(order) => Ok(Some(order)),
        // Numbers without an order are no mistake.
        None if matches!((&one, &two), (Val::Float(_), _) | (_, Val::Float(_))) => Ok(None),
        None => Err(no_overload()),
    };
    match op {
        Op::Eq => Ok(Val::Bool(one.equals(&two))),
        Op::Ne => Ok(Val::Bool(!one.equals(&two))),
        Op::Lt => Ok(Val::Bool(order()?.is_some_and(std::cmp::Ordering::is_lt))),
        Op::Le => Ok(Val::Bool(order()?.is_some_and(std::cmp::Ordering::is_le))),
        Op::Gt => Ok(Val::Bool(order()?.is_some_and(std::cmp::Ordering::is_gt))),
        Op::Ge => Ok(Val::Bool(order()?.is_some_and(std::cmp::Ordering::is_ge))),
        Op::In => match two {
            Val::List(items) => Ok(Val::Bool(items.iter().any(|item| item.equals(&one)))),
            Val::Map(entries) => Ok(Val::Bool(entries.iter().any(|(key, _)| key.equals(&one)))),
            _ => Err(no_overload()),
        },
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem => arithmetic(op, one, two),
    }
}

fn arithmetic(op: Op, one: Val, two: Val) -> Result<Val> {
    let overflow = |what: &str| error(format_args!("{what} overflow"));
    let zero = || match op {
        Op::Rem => error("modulus by zero"),
        _ => error("division by zero"),
    };
    match (one, two) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0))
            if matches!(op, Op::Div | Op::Rem) =>
        {
            Err(zero())
        }
        (Val::Int(one), Val::Int(two)) => {
            let result = match op {
                Op::Add => one.checked_add(two),
                Op::Sub => one.checked_sub(two),
                Op::Mul => one.checked_mul(two),
                Op::Div => one.checked_div(two),
                _ => one.checked_rem(two),
            };
            result.map(Val::Int).ok_or_else(|| overflow("integer"))
        }
        (Val::Uint(one), Val::Uint(two)) => {
            let result = match op {
                Op::Add => one.checked_add(two),
                Op::Sub => one.checked_sub(two),
                Op::Mul => one.checked_mul(two),
                Op::Div => one.checked_div(two),
                _ => one.checked_rem(two),
            };
            result.map(Val::Uint).ok_or_else(|| overflow("unsigned integer"))
        }
        (Val::Float(one), Val::Float(two)) => Ok(Val::Float(match op {
            Op::Add => one + two,
            Op::Sub => one - two,
            Op::Mul => one * two,
            Op::Div => one / two,
            _ => return Err(no_overload()),
        })),
        (Val::Str(one), Val::Str(two)) if op == Op::Add => bounded(one + &two),
        (Val::Bytes(mut one), Val::Bytes(two)) if op == Op::Add => {
            one.extend(two);
            if one.len() > MAX_SIZE {
                Err(error("bytes are too many"))
            } else {
                Ok(Val::Bytes(one))
            }
        }
        (Val::List(mut one), Val::List(two)) if op == Op::Add => {
            if one.len() + two.len() > MAX_SIZE {
                return Err(error("a list is too long"));
            }
            one.extend(two);
            Ok(Val::List(one))
        }
        (one, two) => in_time(op, &one, &two),
    }
}

/// Sums and differences of times and durations.
fn in_time(op: Op, one: &Val, two: &Val) -> Result<Val> {
    let far = || error("timestamp overflow");
    let long = |nanoseconds: i64| time::Duration::nanoseconds(nanoseconds);
    match (op, one, two) {
        (Op::Add, Val::Time(at), Val::Duration(by))
        | (Op::Add, Val::Duration(by), Val::Time(at)) => {
            at.checked_add(long(*by)).map(Val::Time).ok_or_else(far)
        }
        (Op::Sub, Val::Time(at), Val::Duration(by)) => {
            at.checked_sub(long(*by)).map(Val::Time).ok_or_else(far)
        }
        (Op::Sub, Val::Time(one), Val::Time(two)) => {
            let between = (*one - *two).whole_nanoseconds();
            i64::try_from(between).map(Val::Duration).map_err(|_| error("duration overflow"))
        }
        (Op::Add, Val::Duration(one), Val::Duration(two)) => {
            one.checked_add(*two).map(Val::Duration).ok_or_else(|| error("duration overflow"))
        }
        (Op::Sub, Val::Duration(one), Val::Duration(two)) => {
            one.checked_sub(*two).map(Val::Duration).ok_or_else(|| error("duration overflow"))
        }
        _ => Err(no_overload()),
    }
}

pub(super) fn bounded(text: String) -> Result<Val> {
    if text.len() > MAX_SIZE { Err(error("a text is too long")) } else { Ok(Val::Str(text)) }
}

fn element(of: Val, index: &Val) -> Result<Val> {
    match (of, index) {
        (Val::List(mut items), Val::Int(index)) => {
            let at = usize::try_from(*index).ok().filter(|at| *at < items.len());
            at.map(|at| items.swap_remove(at))
                .ok_or_else(|| error(format_args!("index out of bounds: {index}")))
        }
        (Val::Map(entries), key) => entries
            .into_iter()
            .find(|(name, _)| name.equals(key))
            .map(|(_, value)| value)
            .ok_or_else(|| match key {
                Val::Str(key) => error(format_args!("no such key: {key}")),
                _ => error("no such key"),
            }),
        _ => Err(no_overload()),
    }
}
