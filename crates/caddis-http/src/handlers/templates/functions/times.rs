//! Times, in Go's layouts.

use caddis_core::Layout;
use time::OffsetDateTime;

use super::{Args, Res};
use crate::handlers::templates::{eval::Stop, value::Val};

pub(super) fn of_times(args: &Args<'_>) -> Res<Option<Val>> {
    let last = args.values.len().saturating_sub(1);
    Ok(Some(match args.name {
        "now" => Val::Time(OffsetDateTime::now_utc()),
        "date" => match args.get(last)? {
            Val::Time(time) => Val::str(&date(&args.text(0)?, time)),
            other => {
                let time = OffsetDateTime::from_unix_timestamp(other.int());
                Val::str(&date(&args.text(0)?, &time.unwrap_or(OffsetDateTime::UNIX_EPOCH)))
            }
        },
        "htmlDate" => match args.get(0)? {
            Val::Time(time) => Val::str(&date("2006-01-02", time)),
            _ => Val::str(""),
        },
        "unixEpoch" => match args.get(0)? {
            Val::Time(time) => Val::str(&time.unix_timestamp().to_string()),
            _ => Val::str(""),
        },
        _ => return Ok(None),
    }))
}

/// Methods of times.
pub(in super::super) fn time_method(time: &OffsetDateTime, name: &str, args: &[Val]) -> Res {
    Ok(match name {
        "UTC" => Val::Time(time.to_offset(time::UtcOffset::UTC)),
        "Format" => Val::str(&date(&args.first().map(Val::shown).unwrap_or_default(), time)),
        "Weekday" => Val::str(&date("Monday", time)),
        "Year" => Val::Int(i64::from(time.year())),
        "Month" => Val::str(&date("January", time)),
        "Day" => Val::Int(i64::from(time.day())),
        "Hour" => Val::Int(i64::from(time.hour())),
        "Minute" => Val::Int(i64::from(time.minute())),
        "Second" => Val::Int(i64::from(time.second())),
        "YearDay" => Val::Int(i64::from(time.ordinal())),
        "Unix" => Val::Int(time.unix_timestamp()),
        _ => return Err(Stop::text(format!("can't evaluate field {name} in type time.Time"))),
    })
}

/// A time in a layout of Go.
pub(in super::super) fn date(layout: &str, time: &OffsetDateTime) -> String {
    let mut out = String::new();
    Layout::parse(layout).format(*time, &mut out);
    out
}
