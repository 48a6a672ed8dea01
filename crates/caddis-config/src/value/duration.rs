//! Lengths of time in Go's notation.
//!
//! Text: `[+-]` then numbers with units, `1h30m`, `1.5s`, `-2ms`; units `ns us µs ms s m h`, and
//! `d` for 24 hours. JSON: integer nanoseconds, or such a text when read.

use std::fmt::{self, Write as _};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::omit::Omit;

/// The longest text that is looked at.
const MAX_TEXT: usize = 1024;

/// A signed length of time in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

impl Duration {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// Whole nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Whole milliseconds, at most the largest duration.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Whole seconds, at most the largest duration.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds with fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Whether it is zero, which in most fields means "not set".
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As the standard library's type; none if negative.
    pub fn as_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.0).ok().map(std::time::Duration::from_nanos)
    }

    /// As the standard library's type, if set to something positive.
    pub fn positive(self) -> Option<std::time::Duration> {
        self.as_std().filter(|duration| !duration.is_zero())
    }

    /// Reads a text with the unit `d` allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err("parsing duration: input string too long".to_owned());
        }
        parse(text, true)
    }

    /// Reads a text as Go's standard library does: no unit `d`.
    pub fn parse_go(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err("parsing duration: input string too long".to_owned());
        }
        parse(text, false)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

fn parse(text: &str, days: bool) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = number(rest).ok_or_else(invalid)?;
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let scale = unit_nanos(unit, days).ok_or_else(|| {
            format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text))
        })?;
        total = number.times(scale).and_then(|n| total.checked_add(n)).ok_or_else(invalid)?;
        if total > 1 << 63 {
            return Err(invalid());
        }
        rest = after;
    }
    let signed = i128::try_from(total).map_err(|_| invalid())?;
    let signed = if negative { -signed } else { signed };
    i64::try_from(signed).map(Duration).map_err(|_| invalid())
}

/// In quotes as Go's `time` has them: what is not printable ASCII is written byte by byte.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', byte.into()]),
            b' '..=b'~' | 0x7f => quoted.push(byte.into()),
            _ => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A decimal number: whole part, and the digits after the point over a power of ten.
struct Number {
    whole: u128,
    fraction: u64,
    divisor: f64,
}

impl Number {
    fn times(&self, unit: u64) -> Option<u128> {
        let whole = self.whole.checked_mul(u128::from(unit))?;
        let fraction = self.fraction as f64 * (unit as f64 / self.divisor);
        whole.checked_add(fraction as u128)
    }
}

fn number(text: &str) -> Option<(Number, &str)> {
    let bytes = text.as_bytes();
    let mut number = Number { whole: 0, fraction: 0, divisor: 1.0 };
    let mut at = 0;
    while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
        number.whole = number.whole.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
        at += 1;
    }
    let mut digits = at;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let mut full = false;
        while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
            let next = number
                .fraction
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(digit - b'0')));
            match next {
                // Digits that no longer fit are far below a nanosecond.
                Some(next) if !full => {
                    number.fraction = next;
                    number.divisor *= 10.0;
                }
                _ => full = true,
            }
            at += 1;
            digits += 1;
        }
    }
    (digits > 0).then(|| (number, &text[at..]))
}

fn unit_nanos(unit: &str, days: bool) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Both code points of the micro sign.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" if days => 86_400_000_000_000,
        _ => return None,
    })
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                let (hours, minutes_left) = (minutes / 60, minutes % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if minutes > 0 {
                    write!(f, "{minutes_left}m")?;
                }
                decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// `value / unit` with as many decimals as it has.
fn decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, suffix: &str) -> fmt::Result {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return write!(f, "{whole}{suffix}");
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    write!(f, "{whole}.{}{suffix}", digits.trim_end_matches('0'))
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl Omit for Duration {
    fn is_omitted(&self) -> bool {
        self.is_zero()
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration as text or integer nanoseconds")
    }

    fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<Duration, E> {
        Ok(Duration(nanos))
    }

    fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<Duration, E> {
        i64::try_from(nanos)
            .map(Duration)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(nanos), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        Duration::parse(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::Duration;

    #[test]
    fn texts_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("-1m", -60_000_000_000),
            ("+.5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1d", 86_400_000_000_000),
            ("1d12h", 129_600_000_000_000),
            ("0.5d", 43_200_000_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("100ns", 100),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.3333333333333333333h", 1_200_000_000_000),
        ] {
            assert_eq!(Duration::parse(text), Ok(Duration(nanos)), "{text}");
        }
    }

    #[test]
    fn wrong_texts_get_sentences() {
        for (text, sentence) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            ("é\t", "time: invalid duration \"\\xc3\\xa9\\x09\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            (
                "99999999999999999999999999999999999999999s",
                "time: invalid duration \"99999999999999999999999999999999999999999s\"",
            ),
        ] {
            assert_eq!(Duration::parse(text).unwrap_err(), sentence);
        }
        assert!(Duration::parse(&"1s".repeat(600)).unwrap_err().contains("too long"));
        assert!(Duration::parse_go("1d").is_err());
    }

    #[test]
    fn display_is_gos() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_061_001_000_000, "-25h1m1.001s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(Duration(nanos).to_string(), text);
        }
    }

    #[test]
    fn json_takes_both_forms() {
        let read = |text: &str| serde_json::from_str::<Duration>(text);
        assert_eq!(read("5000000000").unwrap(), read("\"5s\"").unwrap());
        assert!(read("1.5").is_err());
        assert_eq!(serde_json::to_string(&Duration::from_secs(5)).unwrap(), "5000000000");
        assert_eq!(Duration(-1).as_std(), None);
        assert_eq!(Duration::ZERO.positive(), None);
    }
}
