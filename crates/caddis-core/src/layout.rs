//! Times by Go's layout strings: the reference time `Mon Jan 2 15:04:05 MST 2006` written as wished.

use std::fmt::Write;

use time::OffsetDateTime;

/// A layout, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Field(Field),
    /// `.000` or `.999`: the separator, the digits, whether trailing zeros stay.
    Fraction(char, usize, bool),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    YearLong,
    YearShort,
    MonthName,
    MonthShort,
    MonthTwo,
    Month,
    WeekdayName,
    WeekdayShort,
    DayTwo,
    DaySpace,
    Day,
    DayOfYear,
    Hour,
    HourTwelveTwo,
    HourTwelve,
    MinuteTwo,
    Minute,
    SecondTwo,
    Second,
    UpperPm,
    LowerPm,
    ZoneName,
    /// Whether `Z` stands for UTC, whether there is a colon, whether there are minutes.
    Zone(bool, bool, bool),
}

/// Longer names before their beginnings.
const FIELDS: &[(&str, Field)] = &[
    ("January", Field::MonthName),
    ("Jan", Field::MonthShort),
    ("Monday", Field::WeekdayName),
    ("Mon", Field::WeekdayShort),
    ("MST", Field::ZoneName),
    ("2006", Field::YearLong),
    ("002", Field::DayOfYear),
    ("01", Field::MonthTwo),
    ("02", Field::DayTwo),
    ("03", Field::HourTwelveTwo),
    ("04", Field::MinuteTwo),
    ("05", Field::SecondTwo),
    ("06", Field::YearShort),
    ("15", Field::Hour),
    ("_2", Field::DaySpace),
    ("PM", Field::UpperPm),
    ("pm", Field::LowerPm),
    ("Z07:00", Field::Zone(true, true, true)),
    ("Z0700", Field::Zone(true, false, true)),
    ("Z07", Field::Zone(true, false, false)),
    ("-07:00", Field::Zone(false, true, true)),
    ("-0700", Field::Zone(false, false, true)),
    ("-07", Field::Zone(false, false, false)),
    ("1", Field::Month),
    ("2", Field::Day),
    ("3", Field::HourTwelve),
    ("4", Field::Minute),
    ("5", Field::Second),
];

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

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Layout {
    /// Takes a layout apart; what is no part of the reference time stands for itself.
    pub fn parse(layout: &str) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = layout;
        while let Some(first) = rest.chars().next() {
            let found = fraction(rest).or_else(|| field(rest));
            let Some((part, length)) = found else {
                text.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
            rest = &rest[length..];
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Self(parts)
    }

    /// Appends a time.
    pub fn format(&self, time: OffsetDateTime, out: &mut String) {
        for part in &self.0 {
            // Writing to a string cannot fail.
            let _ = match part {
                Part::Text(text) => out.write_str(text),
                Part::Fraction(separator, digits, zeros) => {
                    let nanos = format!("{:09}", time.nanosecond());
                    let mut nanos = &nanos[..(*digits).min(9)];
                    if !zeros {
                        nanos = nanos.trim_end_matches('0');
                    }
                    if nanos.is_empty() { Ok(()) } else { write!(out, "{separator}{nanos}") }
                }
                Part::Field(field) => write_field(*field, time, out),
            };
        }
    }
}

fn field(rest: &str) -> Option<(Part, usize)> {
    let (name, field) = FIELDS.iter().find(|(name, _)| rest.starts_with(name))?;
    Some((Part::Field(*field), name.len()))
}

fn fraction(rest: &str) -> Option<(Part, usize)> {
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = rest[1..].chars().take_while(|c| *c == digit).count();
    let followed = rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit());
    (!followed).then_some((Part::Fraction(separator, digits, digit == '0'), 1 + digits))
}

fn write_field(field: Field, time: OffsetDateTime, out: &mut String) -> std::fmt::Result {
    let month = MONTHS[usize::from(u8::from(time.month()) - 1) % 12];
    let weekday = WEEKDAYS[usize::from(time.weekday().number_days_from_sunday()) % 7];
    let hour = time.hour();
    let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
    match field {
        Field::YearLong => write!(out, "{:04}", time.year()),
        Field::YearShort => write!(out, "{:02}", time.year().rem_euclid(100)),
        Field::MonthName => out.write_str(month),
        Field::MonthShort => out.write_str(&month[..3]),
        Field::MonthTwo => write!(out, "{:02}", u8::from(time.month())),
        Field::Month => write!(out, "{}", u8::from(time.month())),
        Field::WeekdayName => out.write_str(weekday),
        Field::WeekdayShort => out.write_str(&weekday[..3]),
        Field::DayTwo => write!(out, "{:02}", time.day()),
        Field::DaySpace => write!(out, "{:2}", time.day()),
        Field::Day => write!(out, "{}", time.day()),
        Field::DayOfYear => write!(out, "{:03}", time.ordinal()),
        Field::Hour => write!(out, "{hour:02}"),
        Field::HourTwelveTwo => write!(out, "{twelve:02}"),
        Field::HourTwelve => write!(out, "{twelve}"),
        Field::MinuteTwo => write!(out, "{:02}", time.minute()),
        Field::Minute => write!(out, "{}", time.minute()),
        Field::SecondTwo => write!(out, "{:02}", time.second()),
        Field::Second => write!(out, "{}", time.second()),
        Field::UpperPm => out.write_str(if hour >= 12 { "PM" } else { "AM" }),
        Field::LowerPm => out.write_str(if hour >= 12 { "pm" } else { "am" }),
        Field::ZoneName if time.offset().is_utc() => out.write_str("UTC"),
        Field::ZoneName => zone(time, false, true, out),
        Field::Zone(true, ..) if time.offset().is_utc() => out.write_char('Z'),
        Field::Zone(_, colon, minutes) => zone(time, colon, minutes, out),
    }
}

fn zone(time: OffsetDateTime, colon: bool, minutes: bool, out: &mut String) -> std::fmt::Result {
    let offset = time.offset();
    let sign = if offset.is_negative() { '-' } else { '+' };
    write!(out, "{sign}{:02}", offset.whole_hours().unsigned_abs())?;
    if colon {
        out.write_char(':')?;
    }
    if minutes {
        write!(out, "{:02}", offset.minutes_past_hour().unsigned_abs())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::{OffsetDateTime, UtcOffset};

    use super::Layout;

    #[test]
    fn layouts_are_gos() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_767_366_245_006_700_000).unwrap();
        let east = time.to_offset(UtcOffset::from_hms(5, 30, 0).unwrap());
        for (layout, utc, local) in [
            ("2006/01/02 15:04:05.000", "2026/01/02 15:04:05.006", "2026/01/02 20:34:05.006"),
            ("2006-01-02T15:04:05Z07:00", "2026-01-02T15:04:05Z", "2026-01-02T20:34:05+05:30"),
            (
                "02/Jan/2006:15:04:05 -0700",
                "02/Jan/2026:15:04:05 +0000",
                "02/Jan/2026:20:34:05 +0530",
            ),
            (
                "Monday, _2 January 06 3:04PM",
                "Friday,  2 January 26 3:04PM",
                "Friday,  2 January 26 8:34PM",
            ),
            ("5.999999999 002", "5.0067 002", "5.0067 002"),
            ("heure: 1", "heure: 1", "heure: 1"),
        ] {
            for (time, expected) in [(time, utc), (east, local)] {
                let mut out = String::new();
                Layout::parse(layout).format(time, &mut out);
                assert_eq!(out, expected, "{layout}");
            }
        }
    }
}
