//! Functions on lists, and choices between values.

use super::{Args, LARGEST, Res};
use crate::handlers::templates::{eval::Stop, value::Val};

pub(super) fn of_lists(args: &Args<'_>) -> Res<Option<Val>> {
    let at_most = |count: i64| match usize::try_from(count.max(0)) {
        Ok(count) if count <= LARGEST => Ok(count),
        _ => Err(Stop::text(format!("{}: too large", args.name))),
    };
    Ok(Some(match args.name {
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
            Val::list(lists.concat())
        }
        "reverse" => Val::list(args.list(0)?.into_iter().rev().collect()),
        "uniq" => {
            let mut found: Vec<Val> = Vec::new();
            for item in args.list(0)?.into_iter().take(10_000) {
                if !found.iter().any(|known| known.equals(&item)) {
                    found.push(item);
                }
            }
            Val::list(found)
        }
        "compact" => Val::list(args.list(0)?.into_iter().filter(Val::truth).collect()),
        "without" => {
            let unwanted = &args.values[1..];
            let keep = |item: &Val| !unwanted.iter().any(|other| other.equals(item));
            Val::list(args.list(0)?.into_iter().filter(keep).collect())
        }
        "has" => {
            let wanted = args.get(0)?;
            Val::Bool(args.list(1)?.iter().any(|item| item.equals(wanted)))
        }
        "sortAlpha" => {
            let mut texts: Vec<String> = args.list(0)?.iter().map(Val::shown).collect();
            texts.sort();
            Val::strings(texts.iter().map(String::as_str))
        }
        "toStrings" => {
            let texts: Vec<String> = args.list(0)?.iter().map(Val::shown).collect();
            Val::strings(texts.iter().map(String::as_str))
        }
        "until" => {
            at_most(args.int(0)?)?;
            Val::list((0..args.int(0)?).map(Val::Int).collect())
        }
        "untilStep" => {
            let (start, stop, step) = (args.int(0)?, args.int(1)?, args.int(2)?);
            let span = i128::from(stop) - i128::from(start);
            let count = if step == 0 {
                0
            } else {
                (span / i128::from(step)).clamp(0, i128::from(i64::MAX))
            };
            at_most(i64::try_from(count).unwrap_or(i64::MAX))?;
            let more = step != 0 && span % i128::from(step.max(1)) != 0;
            let count =
                count as i64 + i64::from(more && span.signum() == i128::from(step.signum()));
            Val::list(
                (0..count)
                    .map(|at| Val::Int(start.saturating_add(at.saturating_mul(step))))
                    .collect(),
            )
        }
        "seq" => {
            let (first, step, last) = match args.values.len() {
                1 => (1, if args.int(0)? < 1 { -1 } else { 1 }, args.int(0)?),
                2 => (args.int(0)?, if args.int(1)? < args.int(0)? { -1 } else { 1 }, args.int(1)?),
                _ => (args.int(0)?, args.int(1)?, args.int(2)?),
            };
            let steps = if step == 0 { -1 } else { last.saturating_sub(first) / step };
            at_most(steps)?;
            let numbers = (0..=steps).map(|at| (first + at * step).to_string());
            Val::str(&numbers.collect::<Vec<_>>().join(" "))
        }
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
        "typeOf" => Val::str(match args.get(0)? {
            Val::List(_) => "[]interface {}",
            Val::Map(_) => "map[string]interface {}",
            Val::Nil => "<nil>",
            other => other.kind(),
        }),
        "kindIs" | "typeIs" => Val::Bool(args.text(0)? == args.get(1)?.kind()),
        "deepEqual" => Val::Bool(args.get(0)?.equals(args.get(1)?)),
        _ => return Ok(None),
    }))
}
