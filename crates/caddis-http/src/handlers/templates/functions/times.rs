//! Times and spans, in Go's layouts.

use caddis_core::Layout;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::{Args, Res};
use crate::{
    handlers::templates::{eval::Stop, value::Val},
    zones,
};

pub(super) fn of_times(args: &Args<'_>) -> Res<Option<Val>> {
    Ok(Some(match args.name {
        "now" => Val::Time(local(&OffsetDateTime::now_utc())),
        "date" => Val::str(&date_in(&args.text(0)?, &moment(args.get(1)?), LOCAL)),
        "htmlDate" => Val::str(&date_in(HTML, &moment(args.get(0)?), LOCAL)),
        "date_in_zone" | "dateInZone" => {
            Val::str(&date_in(&args.text(0)?, &moment(args.get(1)?), &args.text(2)?))
        }
        "htmlDateInZone" => Val::str(&date_in(HTML, &moment(args.get(0)?), &args.text(1)?)),
        "unixEpoch" => match args.get(0)? {
            Val::Time(time) => Val::str(&time.unix_timestamp().to_string()),
            _ => Val::str(""),
        },
        "toDate" => Val::Time(read(&args.text(0)?, &args.text(1)?).unwrap_or(ZERO)),
        "mustToDate" => {
            let found = read(&args.text(0)?, &args.text(1)?);
            Val::Time(found.map_err(|error| args.failed(error))?)
        }
        "date_modify" | "dateModify" | "must_date_modify" | "mustDateModify" => {
            let Val::Time(time) = args.get(1)? else { return Err(args.failed("no time")) };
            let text = args.text(0)?;
            let moved = span(&text).and_then(|by| time.checked_add(Duration::nanoseconds(by)));
            match moved {
                Some(moved) => Val::Time(moved),
                None if args.name.starts_with("must") => {
                    return Err(args.failed(format_args!("time: invalid duration {text:?}")));
                }
                None => Val::Time(*time),
            }
        }
        "ago" => {
            let since = (OffsetDateTime::now_utc() - moment(args.get(0)?)).whole_nanoseconds();
            let since = i64::try_from(since).unwrap_or(i64::MAX);
            let half = if since < 0 { -SECOND / 2 } else { SECOND / 2 };
            Val::str(&duration(since.saturating_add(half) / SECOND * SECOND))
        }
        "duration" => {
            let seconds = match args.get(0)? {
                Val::Str(text) => text.parse().unwrap_or(0),
                Val::Int64(seconds) => *seconds,
                _ => 0,
            };
            Val::str(&duration(seconds.saturating_mul(SECOND)))
        }
        "durationRound" => Val::str(&rounded(match args.get(0)? {
            Val::Str(text) => span(text).unwrap_or(0),
            Val::Int64(nanos) => *nanos,
            Val::Time(time) => {
                let since = (OffsetDateTime::now_utc() - *time).whole_nanoseconds();
                i64::try_from(since).unwrap_or(i64::MAX)
            }
            _ => 0,
        })),
        _ => return Ok(None),
    }))
}

/// Go's zero time.
const ZERO: OffsetDateTime = time::macros::datetime!(0001-01-01 00:00 UTC);
const SECOND: i64 = 1_000_000_000;
/// The layout of `<input type="date">`.
const HTML: &str = "2006-01-02";
/// The name of the process' own zone.
const LOCAL: &str = "Local";

/// A time, or seconds since 1970; anything else is now.
fn moment(value: &Val) -> OffsetDateTime {
    match value {
        Val::Time(time) => *time,
        Val::Int(seconds) | Val::Int64(seconds) => {
            OffsetDateTime::from_unix_timestamp(*seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        }
        _ => OffsetDateTime::now_utc(),
    }
}

/// Go's `ParseDuration`, in nanoseconds.
fn span(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanos += number * unit;
        rest = after;
    }
    (nanos < 9.2e18).then_some(if negative { -nanos } else { nanos } as i64)
}

/// Go's `Duration.String`.
pub(in super::super) fn duration(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let short = |unit: u64| {
        let text = format!("{:.9}", size as f64 / unit as f64);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match size {
        0 => "0s".to_owned(),
        _ if size < 1_000 => format!("{sign}{size}ns"),
        _ if size < 1_000_000 => format!("{sign}{}µs", short(1_000)),
        _ if size < 1_000_000_000 => format!("{sign}{}ms", short(1_000_000)),
        _ => {
            let (whole, fraction) = (size / 1_000_000_000, size % 1_000_000_000);
            let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
            let fraction = format!(".{fraction:09}");
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            let seconds = format!("{seconds}{fraction}s");
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// In the largest unit that it is more than one of, without its sign.
fn rounded(nanos: i64) -> String {
    const HOUR: u64 = 3600 * 1_000_000_000;
    let size = nanos.unsigned_abs();
    let units = [
        (HOUR * 24 * 365, "y"),
        (HOUR * 24 * 30, "mo"),
        (HOUR * 24, "d"),
        (HOUR, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
    ];
    let found = units.into_iter().find(|(unit, _)| size > *unit);
    found.map_or("0s".to_owned(), |(unit, name)| format!("{}{name}", size / unit))
}

/// Fields and methods of times.
pub(in super::super) fn time_method(time: &OffsetDateTime, name: &str, args: &[Val]) -> Res {
    let int = |number: i128| Val::Int64(i64::try_from(number).unwrap_or(i64::MAX));
    let other = || match args.first() {
        Some(Val::Time(other)) => Ok(*other),
        _ => Err(Stop::text(format!("error calling {name}: expected time.Time"))),
    };
    let nanos = |span: Duration| i64::try_from(span.whole_nanoseconds()).unwrap_or(i64::MAX);
    Ok(match name {
        // A time at the end of the calendar may have no place in it elsewhere.
        "UTC" => Val::Time(time.checked_to_offset(UtcOffset::UTC).unwrap_or(*time)),
        "Local" => Val::Time(local(time)),
        "Format" => Val::str(&date(&args.first().map(Val::shown).unwrap_or_default(), time)),
        "String" => Val::str(&Val::Time(*time).shown()),
        "Weekday" => Val::Named(
            "time.Weekday",
            i64::from(time.weekday().number_days_from_sunday()),
            date("Monday", time).into(),
        ),
        "Month" => {
            let number = i64::from(u8::from(time.month()));
            Val::Named("time.Month", number, date("January", time).into())
        }
        "Year" => Val::Int(i64::from(time.year())),
        "Day" => Val::Int(i64::from(time.day())),
        "Hour" => Val::Int(i64::from(time.hour())),
        "Minute" => Val::Int(i64::from(time.minute())),
        "Second" => Val::Int(i64::from(time.second())),
        "Nanosecond" => Val::Int(i64::from(time.nanosecond())),
        "YearDay" => Val::Int(i64::from(time.ordinal())),
        "Unix" => Val::Int64(time.unix_timestamp()),
        "UnixMilli" => int(time.unix_timestamp_nanos().div_euclid(1_000_000)),
        "UnixMicro" => int(time.unix_timestamp_nanos().div_euclid(1_000)),
        "UnixNano" => int(time.unix_timestamp_nanos()),
        "IsZero" => Val::Bool(*time == ZERO),
        "After" => Val::Bool(*time > other()?),
        "Before" => Val::Bool(*time < other()?),
        "Equal" => Val::Bool(*time == other()?),
        "Sub" => Val::Duration(nanos(*time - other()?)),
        "Add" => match args.first() {
            Some(Val::Duration(by)) => {
                Val::Time(time.checked_add(Duration::nanoseconds(*by)).unwrap_or(*time))
            }
            _ => return Err(Stop::text("error calling Add: expected time.Duration")),
        },
        "AddDate" => add_date(time, args)?,
        _ => return Err(Stop::text(format!("can't evaluate field {name} in type time.Time"))),
    })
}

/// Years, months and days later; what is beyond a month's end goes into the next one.
fn add_date(time: &OffsetDateTime, args: &[Val]) -> Res {
    let [years, months, days] = args else {
        return Err(Stop::text("wrong number of args for AddDate: want 3"));
    };
    let wrong = || Stop::text("error calling AddDate: out of range");
    let month = i64::from(u8::from(time.month())) - 1 + months.int().clamp(-100_000, 100_000);
    let year = i64::from(time.year()) + years.int().clamp(-10_000, 10_000) + month.div_euclid(12);
    let month = u8::try_from(month.rem_euclid(12) + 1).map_err(|_| wrong())?;
    let month = time::Month::try_from(month).map_err(|_| wrong())?;
    let year = i32::try_from(year).map_err(|_| wrong())?;
    let first = time::Date::from_calendar_date(year, month, 1).map_err(|_| wrong())?;
    let days = days.int().clamp(-4_000_000, 4_000_000) + i64::from(time.day()) - 1;
    let moved = first.checked_add(Duration::days(days)).ok_or_else(wrong)?;
    Ok(Val::Time(time.replace_date(moved)))
}

/// A time in the process' own zone.
fn local(time: &OffsetDateTime) -> OffsetDateTime {
    let found = zones::zone(LOCAL).and_then(|zone| zones::offset(&zone, time));
    found.and_then(|(offset, _)| time.checked_to_offset(offset)).unwrap_or(*time)
}

/// A time in a layout of Go, in a zone by its name; in UTC where there is none of this name.
fn date_in(layout: &str, time: &OffsetDateTime, zone: &str) -> String {
    let found = zones::zone(zone).and_then(|zone| zones::offset(&zone, time));
    let (offset, name) = found.unwrap_or((UtcOffset::UTC, "UTC".to_owned()));
    let mut out = String::new();
    match time.checked_to_offset(offset) {
        Some(there) => Layout::parse(layout).format_named(there, &name, &mut out),
        None => Layout::parse(layout).format(*time, &mut out),
    }
    out
}

/// A time that is written in a layout of Go; one without a zone is in the process' own.
fn read(layout: &str, text: &str) -> Result<OffsetDateTime, String> {
    let local = zones::zone(LOCAL);
    Layout::parse(layout).read_in(text, |clock| {
        local.as_ref().map_or(UtcOffset::UTC, |zone| zones::offset_by_clock(zone, clock))
    })
}

/// A time in a layout of Go.
pub(in super::super) fn date(layout: &str, time: &OffsetDateTime) -> String {
    let mut out = String::new();
    Layout::parse(layout).format(*time, &mut out);
    out
}

/// Methods of spans.
pub(in super::super) fn duration_method(nanos: i64, name: &str) -> Res {
    let size = nanos as f64;
    Ok(match name {
        "String" => Val::str(&duration(nanos)),
        "Hours" => Val::Float(size / 3600e9),
        "Minutes" => Val::Float(size / 60e9),
        "Seconds" => Val::Float(size / 1e9),
        "Milliseconds" => Val::Int64(nanos / 1_000_000),
        "Microseconds" => Val::Int64(nanos / 1_000),
        "Nanoseconds" => Val::Int64(nanos),
        _ => return Err(Stop::text(format!("can't evaluate field {name} in type time.Duration"))),
    })
}
