//! The library for numbers.

use caddis_core::Result;

use super::conversions::double;
use crate::matchers::expression::{
    eval::{error, no_overload},
    node::Val::{self, Bool, Float, Int, List, Uint},
};

pub(super) fn float(args: &[Val], change: fn(f64) -> f64) -> Result<Val> {
    match args {
        [Float(value)] => Ok(Float(change(*value))),
        _ => Err(no_overload()),
    }
}

pub(super) fn test(args: &[Val], test: fn(f64) -> bool) -> Result<Val> {
    match args {
        [Float(value)] => Ok(Bool(test(*value))),
        _ => Err(no_overload()),
    }
}

pub(super) fn sqrt(args: &[Val]) -> Result<Val> {
    float(&[double(args)?], f64::sqrt)
}

pub(super) fn abs(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(value.checked_abs().ok_or_else(|| error("integer overflow"))?),
        [Uint(value)] => Uint(*value),
        [Float(value)] => Float(value.abs()),
        _ => return Err(no_overload()),
    })
}

pub(super) fn sign(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(value.signum()),
        [Uint(value)] => Uint(u64::from(*value > 0)),
        [Float(value)] if *value == 0.0 => Float(0.0),
        [Float(value)] => Float(value.signum()),
        _ => return Err(no_overload()),
    })
}

#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits stay as they are")]
pub(super) fn bits(args: &[Val], change: fn(u64, u64) -> u64) -> Result<Val> {
    Ok(match args {
        [Int(one), Int(two)] => Int(change(*one as u64, *two as u64) as i64),
        [Uint(one), Uint(two)] => Uint(change(*one, *two)),
        _ => return Err(no_overload()),
    })
}

pub(super) fn bit_not(args: &[Val]) -> Result<Val> {
    Ok(match args {
        [Int(value)] => Int(!value),
        [Uint(value)] => Uint(!value),
        _ => return Err(no_overload()),
    })
}

#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits stay as they are")]
pub(super) fn shift(args: &[Val], left: bool) -> Result<Val> {
    let shifted = |value: u64, by: i64| {
        let by = u32::try_from(by)
            .map_err(|_| error(format_args!("math.bitShift() negative offset: {by}")))?;
        let result = if left { value.checked_shl(by) } else { value.checked_shr(by) };
        Ok::<_, caddis_core::HttpError>(result.unwrap_or(0))
    };
    Ok(match args {
        [Int(value), Int(by)] => Int(shifted(*value as u64, *by)? as i64),
        [Uint(value), Int(by)] => Uint(shifted(*value, *by)?),
        _ => return Err(no_overload()),
    })
}

/// `math.greatest`.
pub(in crate::matchers::expression) fn greatest(args: &[Val]) -> Result<Val> {
    extreme(args, std::cmp::Ordering::Greater)
}

/// `math.least`.
pub(in crate::matchers::expression) fn least(args: &[Val]) -> Result<Val> {
    extreme(args, std::cmp::Ordering::Less)
}

fn extreme(args: &[Val], wanted: std::cmp::Ordering) -> Result<Val> {
    let items = match args {
        [List(items)] => items,
        args => args,
    };
    let mut best: Option<&Val> = None;
    for item in items {
        if !matches!(item, Int(_) | Uint(_) | Float(_)) {
            return Err(no_overload());
        }
        if best.is_none_or(|best| item.order(best) == Some(wanted)) {
            best = Some(item);
        }
    }
    best.cloned().ok_or_else(|| error("a list without items has no extreme"))
}
