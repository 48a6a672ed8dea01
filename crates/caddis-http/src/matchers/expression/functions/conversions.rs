//! Conversions between types.

use caddis_core::Result;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::matchers::expression::{
    eval::{error, no_overload},
    node::Val::{self, Bool, Bytes, Duration, Float, Int, Str, Time, Uint},
};

fn bad_conversion(value: &Val, to: &str) -> caddis_core::HttpError {
    error(format_args!("type conversion error from '{}' to '{to}'", value.type_name()))
}

/// Bounds within which a double is some int (2^63) or uint (2^64).
const INTS: f64 = 9_223_372_036_854_775_808.0;
const UINTS: f64 = 18_446_744_073_709_551_616.0;

#[expect(clippy::cast_possible_truncation, reason = "within bounds, it is what the call is for")]
pub(super) fn int(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Int(match value {
        Int(value) | Duration(value) => *value,
        Uint(value) => i64::try_from(*value).map_err(|_| error("integer overflow"))?,
        Float(value) if *value > -INTS && *value < INTS => *value as i64,
        Float(_) => return Err(error("integer overflow")),
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "int"))?,
        Time(at) => at.unix_timestamp(),
        _ => return Err(no_overload()),
    }))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within bounds, it is what the call is for"
)]
pub(super) fn uint(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Uint(match value {
        Uint(value) => *value,
        Int(value) => u64::try_from(*value).map_err(|_| error("unsigned integer overflow"))?,
        Float(value) if *value >= 0.0 && *value < UINTS => *value as u64,
        Float(_) => return Err(error("unsigned integer overflow")),
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "uint"))?,
        _ => return Err(no_overload()),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "it is what the call is for")]
pub(super) fn double(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Float(match value {
        Float(value) => *value,
        Int(value) => *value as f64,
        Uint(value) => *value as f64,
        Str(text) => text.parse().map_err(|_| bad_conversion(value, "double"))?,
        _ => return Err(no_overload()),
    }))
}

pub(super) fn string(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Str(match value {
        Str(text) => text.clone(),
        Int(value) => value.to_string(),
        Uint(value) => value.to_string(),
        Float(value) => value.to_string(),
        Bool(value) => value.to_string(),
        Bytes(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| error("invalid UTF-8 in bytes, cannot convert to string"))?
            .to_owned(),
        Time(at) => at.format(&Rfc3339).map_err(|_| bad_conversion(value, "string"))?,
        Duration(nanoseconds) => seconds(*nanoseconds),
        _ => return Err(no_overload()),
    }))
}

/// Nanoseconds as seconds with what is needed behind the point, for example `1.5s`.
pub(in crate::matchers::expression) fn seconds(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let (whole, rest) = (all / 1_000_000_000, all % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{whole}s");
    }
    format!("{sign}{whole}.{}s", format!("{rest:09}").trim_end_matches('0'))
}

pub(super) fn boolean(args: &[Val]) -> Result<Val> {
    match args {
        [Bool(value)] => Ok(Bool(*value)),
        [value @ Str(text)] => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Bool(false)),
            _ => Err(bad_conversion(value, "bool")),
        },
        _ => Err(no_overload()),
    }
}

pub(super) fn bytes(args: &[Val]) -> Result<Val> {
    match args {
        [Bytes(bytes)] => Ok(Bytes(bytes.clone())),
        [Str(text)] => Ok(Bytes(text.clone().into_bytes())),
        _ => Err(no_overload()),
    }
}

pub(super) fn duration(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    Ok(Duration(match value {
        Duration(nanoseconds) | Int(nanoseconds) => *nanoseconds,
        Str(text) => caddis_config::Duration::parse_go(text)
            .map_err(|_| bad_conversion(value, "google.protobuf.Duration"))?
            .as_nanos(),
        _ => return Err(no_overload()),
    }))
}

pub(super) fn timestamp(args: &[Val]) -> Result<Val> {
    let [value] = args else { return Err(no_overload()) };
    let bad = || bad_conversion(value, "google.protobuf.Timestamp");
    Ok(Time(match value {
        Time(at) => *at,
        Int(seconds) => OffsetDateTime::from_unix_timestamp(*seconds).map_err(|_| bad())?,
        Str(text) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?,
        _ => return Err(no_overload()),
    }))
}

pub(super) fn type_of(args: &[Val]) -> Result<Val> {
    match args {
        [value] => Ok(Val::Type(value.type_name().to_owned())),
        _ => Err(no_overload()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let of = |text: &str| match duration(&[Str(text.to_owned())]) {
            Ok(Duration(nanoseconds)) => Some(nanoseconds),
            _ => None,
        };
        for (text, want) in [
            ("0", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("5ms", Some(5_000_000)),
            ("1µs", Some(1000)),
            // More digits than a float has.
            ("9007199254.740993s", Some(9_007_199_254_740_993_000)),
            ("100000000.000000001s", Some(100_000_000_000_000_001)),
            ("", None),
            ("5", None),
            ("x", None),
            ("1d", None),
            ("s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
        assert_eq!(seconds(-1_500_000_000), "-1.5s");
        assert_eq!(seconds(90_000_000_000), "90s");
    }
}
