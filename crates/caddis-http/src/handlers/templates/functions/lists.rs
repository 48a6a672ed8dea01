//! Functions on lists, choices between values, and types.

use super::{Args, MOST, Res};
use crate::handlers::templates::value::Val;

pub(super) fn of_lists(args: &Args<'_>) -> Res<Option<Val>> {
    if let Some(value) = of_values(args)? {
        return Ok(Some(value));
    }
    let name = args.name;
    // The functions whose names begin with `must` are the same: here, too, mistakes are errors.
    let plain = name.strip_prefix("must").map_or(name.to_owned(), |rest| {
        let mut chars = rest.chars();
        chars.next().map_or(String::new(), |c| c.to_lowercase().chain(chars).collect())
    });
    Ok(Some(match plain.as_str() {
        "list" | "tuple" => Val::list(args.values.to_vec()),
        "first" => args.list(0)?.first().cloned().unwrap_or(Val::Nil),
        "last" => args.list(0)?.last().cloned().unwrap_or(Val::Nil),
        "rest" => Val::list(args.list(0)?.into_iter().skip(1).collect()),
        "initial" => {
            let mut items = args.list(0)?;
            items.pop();
            Val::list(items)
        }
        "append" | "push" => {
            let mut items = args.list(0)?;
            items.push(args.get(1)?.clone());
            Val::list(items)
        }
        "prepend" => {
            let mut items = args.list(0)?;
            items.insert(0, args.get(1)?.clone());
            Val::list(items)
        }
        "concat" => {
            let lists = (0..args.values.len()).map(|at| args.list(at)).collect::<Res<Vec<_>>>()?;
            if lists.iter().map(Vec::len).sum::<usize>() > MOST {
                return Err(args.too_large());
            }
            Val::list(lists.concat())
        }
        "reverse" => Val::list(args.list(0)?.into_iter().rev().collect()),
        "uniq" => {
            let mut found: Vec<Val> = Vec::new();
            let mut work = 0;
            for item in args.list(0)? {
                let is_known = found.iter().any(|known| known.equals_within(&item, &mut work));
                if work > MAX_COMPARED {
                    return Err(args.too_large());
                }
                if !is_known {
                    found.push(item);
                }
            }
            Val::list(found)
        }
        "compact" => Val::list(args.list(0)?.into_iter().filter(Val::truth).collect()),
        "without" => {
            let unwanted = args.rest();
            let keep = |item: &Val| !unwanted.iter().any(|other| other.equals(item));
            Val::list(args.list(0)?.into_iter().filter(keep).collect())
        }
        "has" => {
            let wanted = args.get(0)?;
            match args.get(1)? {
                Val::Nil => Val::Bool(false),
                _ => Val::Bool(args.list(1)?.iter().any(|item| item.equals(wanted))),
            }
        }
        "chunk" => {
            let (size, items) = (args.int(0)?, args.list(1)?);
            let size = usize::try_from(size).unwrap_or(0);
            if size == 0 {
                return Err(args.failed("integer divide by zero"));
            }
            Val::list(items.chunks(size).map(|part| Val::list(part.to_vec())).collect())
        }
        "slice" => {
            let items = match args.get(0)? {
                Val::List(items) => items.clone(),
                other => {
                    let kind = other.kind();
                    return Err(args
                        .failed(format_args!("list should be type of slice or array but {kind}")));
                }
            };
            if items.is_empty() {
                return Ok(Some(Val::Nil));
            }
            let place = |at: usize, otherwise: usize| match args.values.get(at) {
                Some(value) => usize::try_from(value.int()).unwrap_or(usize::MAX),
                None => otherwise,
            };
            let found = items.get(place(1, 0)..place(2, items.len()));
            let found = found.ok_or_else(|| args.failed("slice index out of bounds"))?;
            Val::list(found.to_vec())
        }
        "sortAlpha" => {
            let mut texts = args.texts(args.get(0)?)?;
            texts.sort();
            Val::strings(texts.iter().map(String::as_str))
        }
        "toStrings" => Val::strings(args.texts(args.get(0)?)?.iter().map(String::as_str)),
        "until" => {
            let count = args.int(0)?;
            steps(args, 0, count, if count < 0 { -1 } else { 1 })?
        }
        "untilStep" => steps(args, args.int(0)?, args.int(1)?, args.int(2)?)?,
        "seq" => seq(args)?,
        _ => return Ok(None),
    }))
}

/// Values that `uniq` compares: comparing each with each grows with the square.
const MAX_COMPARED: usize = 1 << 25;

fn of_values(args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "empty" => Val::Bool(!args.get(0)?.truth()),
        "all" => Val::Bool(args.values.iter().all(Val::truth)),
        "any" => Val::Bool(args.values.iter().any(Val::truth)),
        "default" => match args.values.get(1).filter(|value| value.truth()) {
            Some(value) => value.clone(),
            None => args.get(0)?.clone(),
        },
        "coalesce" => args.values.iter().find(|value| value.truth()).cloned().unwrap_or(Val::Nil),
        "ternary" => args.get(usize::from(!args.get(2)?.truth()))?.clone(),
        "kindOf" => Val::str(args.get(0)?.kind()),
        "kindIs" => Val::Bool(args.text(0)? == args.get(1)?.kind()),
        "typeOf" => Val::str(args.get(0)?.type_name()),
        "typeIs" => Val::Bool(args.text(0)? == args.get(1)?.type_name()),
        "typeIsLike" => {
            let (wanted, name) = (args.text(0)?, args.get(1)?.type_name());
            Val::Bool(wanted == name || format!("*{wanted}") == name)
        }
        "deepEqual" => Val::Bool(args.get(0)?.equals(args.get(1)?)),
        _ => return Ok(None),
    }))
}

/// The numbers from one before another.
fn numbers(args: &Args<'_>, start: i64, stop: i64, step: i64) -> Res<Vec<i64>> {
    if step == 0 || (stop > start) != (step > 0) || start == stop {
        return Ok(Vec::new());
    }
    let span = (i128::from(stop) - i128::from(start)).unsigned_abs();
    let count = span.div_ceil(u128::from(step.unsigned_abs()));
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if usize::try_from(count).unwrap_or(usize::MAX) > MOST {
        return Err(args.too_large());
    }
    Ok((0..count).map(|at| start.saturating_add(at.saturating_mul(step))).collect())
}

fn steps(args: &Args<'_>, start: i64, stop: i64, step: i64) -> Res {
    Ok(Val::list(numbers(args, start, stop, step)?.into_iter().map(Val::Int).collect()))
}

fn seq(args: &Args<'_>) -> Res {
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end, beyond) = match args.values.len() {
        1 => {
            let (start, end) = (1, args.int(0)?);
            let step = direction(start, end);
            (start, step, end, step)
        }
        2 => {
            let (start, end) = (args.int(0)?, args.int(1)?);
            let step = direction(start, end);
            (start, step, end, step)
        }
        3 => {
            let (start, step, end) = (args.int(0)?, args.int(1)?, args.int(2)?);
            if end < start && step > 0 {
                return Ok(Val::str(""));
            }
            (start, step, end, direction(start, end))
        }
        _ => return Ok(Val::str("")),
    };
    let numbers = numbers(args, start, end.saturating_add(beyond), step)?;
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Ok(Val::str(&texts.join(" ")))
}
