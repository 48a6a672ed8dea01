//! Numbers, and random texts.

use super::{Args, Res};
use crate::handlers::templates::value::Val;

pub(super) fn of_numbers(args: &Args<'_>) -> Res<Option<Val>> {
    let ints = || args.values.iter().map(Val::int);
    let floats = || args.values.iter().map(Val::float);
    let by_zero = || args.failed("integer divide by zero");
    let decimal = |with: fn(Decimal, Decimal) -> Option<Decimal>, plain: fn(f64, f64) -> f64| {
        Ok::<_, crate::handlers::templates::eval::Stop>(Val::Float(decimals(args, with, plain)?))
    };
    Ok(Some(match args.name {
        "add" => Val::Int64(ints().fold(0, i64::wrapping_add)),
        "add1" => Val::Int64(args.int(0)?.wrapping_add(1)),
        "sub" => Val::Int64(args.int(0)?.wrapping_sub(args.int(1)?)),
        "mul" => Val::Int64(ints().fold(1, i64::wrapping_mul)),
        "div" => Val::Int64(args.int(0)?.checked_div(args.int(1)?).ok_or_else(by_zero)?),
        "mod" => Val::Int64(args.int(0)?.checked_rem(args.int(1)?).ok_or_else(by_zero)?),
        "max" | "biggest" => Val::Int64(ints().max().unwrap_or(0)),
        "min" => Val::Int64(ints().min().unwrap_or(0)),
        "maxf" => Val::Float(floats().fold(f64::NEG_INFINITY, f64::max)),
        "minf" => Val::Float(floats().fold(f64::INFINITY, f64::min)),
        "add1f" => {
            let values = [Val::Float(args.float(0)?), Val::Float(1.0)];
            let args = Args { name: args.name, values: &values };
            Val::Float(decimals(&args, Decimal::add, |one, two| one + two)?)
        }
        "addf" => {
            let mut values = vec![Val::Float(0.0)];
            values.extend_from_slice(args.values);
            let args = Args { name: args.name, values: &values };
            Val::Float(decimals(&args, Decimal::add, |one, two| one + two)?)
        }
        "subf" => decimal(Decimal::sub, |one, two| one - two)?,
        "mulf" => decimal(Decimal::mul, |one, two| one * two)?,
        "divf" => {
            if args.rest().iter().any(|value| value.float() == 0.0) {
                return Err(args.failed("decimal division by 0"));
            }
            decimal(Decimal::div, |one, two| one / two)?
        }
        "floor" => Val::Float(args.float(0)?.floor()),
        "ceil" => Val::Float(args.float(0)?.ceil()),
        "round" => {
            let half = args.values.get(2).map_or(0.5, Val::float);
            let digits = i32::try_from(args.int(1)?.clamp(-300, 300)).unwrap_or(0);
            let scale = 10f64.powi(digits);
            let scaled = args.float(0)? * scale;
            let (whole, fraction) = (scaled.trunc(), scaled.fract());
            let rounded = match fraction.abs() >= half {
                true if scaled > 0.0 => scaled.ceil(),
                true => scaled.floor(),
                false => whole,
            };
            Val::Float(rounded / scale)
        }
        "int" => Val::Int(args.int(0)?),
        "int64" => Val::Int64(args.int(0)?),
        "atoi" => Val::Int(args.text(0)?.parse().unwrap_or(0)),
        "float64" => Val::Float(args.float(0)?),
        "toDecimal" => Val::Int64(i64::from_str_radix(&args.text(0)?, 8).unwrap_or(0)),
        "randInt" => {
            let (low, high) = (args.int(0)?, args.int(1)?);
            if high <= low {
                return Err(args.failed("invalid argument to Intn"));
            }
            Val::Int(fastrand::i64(low..high))
        }
        "randAlphaNum" => random(args, |c| c.is_ascii_alphanumeric())?,
        "randAlpha" => random(args, |c| c.is_ascii_alphabetic())?,
        "randNumeric" => random(args, |c| c.is_ascii_digit())?,
        "randAscii" => random(args, |c| (32..127).contains(c))?,
        _ => return Ok(None),
    }))
}

/// So many characters that fit, from the system's generator.
fn random(args: &Args<'_>, fits: fn(&u8) -> bool) -> Res {
    let count = args.size(0)?;
    let mut out = String::with_capacity(count);
    let mut bytes = [0; 256];
    while out.len() < count {
        getrandom::fill(&mut bytes).map_err(|error| args.failed(error))?;
        // Numbers beyond 127 would make some characters likelier than others.
        let found = bytes.iter().filter(|byte| byte.is_ascii() && fits(byte));
        out.extend(found.take(count - out.len()).map(|byte| char::from(*byte)));
    }
    Ok(Val::str(&out))
}

/// A decimal number: digits and how many of them are behind the point.
#[derive(Debug, Clone, Copy)]
struct Decimal(i128, u32);

/// Digits behind the point of a quotient.
const DIVISION_DIGITS: u32 = 16;

impl Decimal {
    /// The shortest one that reads back as this number.
    fn new(value: f64) -> Option<Self> {
        let text = value.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = u32::try_from(fraction.len()).ok()?;
        Some(Self(format!("{whole}{fraction}").parse().ok()?, digits))
    }

    fn scaled(self, digits: u32) -> Option<i128> {
        self.0.checked_mul(10i128.checked_pow(digits.checked_sub(self.1)?)?)
    }

    fn add(self, other: Self) -> Option<Self> {
        let digits = self.1.max(other.1);
        Some(Self(self.scaled(digits)?.checked_add(other.scaled(digits)?)?, digits))
    }

    fn sub(self, other: Self) -> Option<Self> {
        self.add(Self(other.0.checked_neg()?, other.1))
    }

    fn mul(self, other: Self) -> Option<Self> {
        Some(Self(self.0.checked_mul(other.0)?, self.1.checked_add(other.1)?))
    }

    fn div(self, other: Self) -> Option<Self> {
        // Digits enough for both, and one to round by.
        let power = DIVISION_DIGITS.checked_add(other.1)?.checked_sub(self.1)?;
        let above = self.0.checked_mul(10i128.checked_pow(power)?)?;
        let (whole, rest) = (above.checked_div(other.0)?, above.checked_rem(other.0)?);
        let up = rest.checked_mul(2)?.unsigned_abs() >= other.0.unsigned_abs();
        let sign = (above.signum() * other.0.signum()) * i128::from(up);
        Some(Self(whole.checked_add(sign)?, DIVISION_DIGITS))
    }

    fn float(self) -> f64 {
        format!("{}e-{}", self.0, self.1).parse().unwrap_or(f64::NAN)
    }
}

/// Calculates in decimals, as sprig does; in binary where those have too many digits.
fn decimals(
    args: &Args<'_>,
    with: fn(Decimal, Decimal) -> Option<Decimal>,
    plain: fn(f64, f64) -> f64,
) -> Res<f64> {
    let exact = || {
        let mut values = args.values.iter().map(|value| Decimal::new(value.float()));
        let mut result = values.next()??;
        for value in values {
            result = with(result, value?)?;
        }
        Some(result.float())
    };
    let binary = || args.values.iter().map(Val::float).reduce(plain).unwrap_or(0.0);
    Ok(exact().unwrap_or_else(binary))
}
