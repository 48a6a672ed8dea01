//! Times, in Go's layouts.

use time::{OffsetDateTime, Weekday};

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
        "Weekday" => Val::str(weekday(time.weekday())),
        "Year" => Val::Int(i64::from(time.year())),
        "Month" => Val::str(MONTHS[usize::from(u8::from(time.month())) - 1]),
        "Day" => Val::Int(i64::from(time.day())),
        "Hour" => Val::Int(i64::from(time.hour())),
        "Minute" => Val::Int(i64::from(time.minute())),
        "Second" => Val::Int(i64::from(time.second())),
        "YearDay" => Val::Int(i64::from(time.ordinal())),
        "Unix" => Val::Int(time.unix_timestamp()),
        _ => return Err(Stop::text(format!("can't evaluate field {name} in type time.Time"))),
    })
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

/// A time in a layout of Go: the parts of its reference time stand for those of this one.
pub(in super::super) fn date(layout: &str, time: &OffsetDateTime) -> String {
    let month = MONTHS[usize::from(u8::from(time.month())) - 1];
    let day = weekday(time.weekday());
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let seconds = time.offset().whole_seconds();
    let (sign, offset) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    let (hours, minutes) = (offset / 60, offset % 60);
    let zone = |colon: &str| format!("{sign}{hours:02}{colon}{minutes:02}");
    let parts: [(&str, String); 25] = [
        ("January", month.to_owned()),
        ("Jan", month[..3].to_owned()),
        ("Monday", day.to_owned()),
        ("Mon", day[..3].to_owned()),
        ("MST", if seconds == 0 { "UTC".to_owned() } else { zone("") }),
        ("2006", format!("{:04}", time.year())),
        ("-07:00", zone(":")),
        ("-0700", zone("")),
        ("Z07:00", if seconds == 0 { "Z".to_owned() } else { zone(":") }),
        ("Z0700", if seconds == 0 { "Z".to_owned() } else { zone("") }),
        (".000000", format!(".{:06}", time.microsecond())),
        (".000", format!(".{:03}", time.millisecond())),
        ("01", format!("{:02}", u8::from(time.month()))),
        ("02", format!("{:02}", time.day())),
        ("03", format!("{hour12:02}")),
        ("04", format!("{:02}", time.minute())),
        ("05", format!("{:02}", time.second())),
        ("06", format!("{:02}", time.year().rem_euclid(100))),
        ("15", format!("{:02}", time.hour())),
        ("PM", if time.hour() < 12 { "AM" } else { "PM" }.to_owned()),
        ("1", u8::from(time.month()).to_string()),
        ("2", time.day().to_string()),
        ("3", hour12.to_string()),
        ("4", time.minute().to_string()),
        ("5", time.second().to_string()),
    ];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        match parts.iter().find(|(part, _)| rest.starts_with(part)) {
            Some((part, text)) => {
                out.push_str(text);
                rest = &rest[part.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}
