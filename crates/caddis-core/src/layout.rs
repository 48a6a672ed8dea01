//! Times by Go's layout strings: the reference time `Mon Jan 2 15:04:05 MST 2006` written as wished.

use std::fmt::Write;

use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

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
        self.format_named(time, "", out);
    }

    /// The same with the name of its zone (`CEST`), where that is not empty.
    pub fn format_named(&self, time: OffsetDateTime, zone: &str, out: &mut String) {
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
                Part::Field(Field::ZoneName) if !zone.is_empty() => out.write_str(zone),
                Part::Field(field) => write_field(*field, time, out),
            };
        }
    }
}

impl Layout {
    /// Reads a time written in this layout, as Go's `time.Parse`: what is not there is zero, a time
    /// without a zone is UTC.
    ///
    /// # Errors
    /// What does not fit, or is no date.
    pub fn read(&self, text: &str) -> Result<OffsetDateTime, String> {
        self.read_in(text, |_| UtcOffset::UTC)
    }

    /// The same where a time without a zone has the offset that `local` gives.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_in(
        &self,
        text: &str,
        local: impl Fn(PrimitiveDateTime) -> UtcOffset,
    ) -> Result<OffsetDateTime, String> {
        let mut read = Read { rest: text, ..Read::default() };
        for (at, part) in self.0.iter().enumerate() {
            let fits = match part {
                Part::Text(text) => read.text(text),
                Part::Fraction(_, digits, zeros) => read.fraction(zeros.then_some(*digits)),
                Part::Field(field) => {
                    let seconds = matches!(field, Field::Second | Field::SecondTwo);
                    let followed = matches!(self.0.get(at + 1), Some(Part::Fraction(..)));
                    let fits = read.field(*field);
                    if fits.is_some() && seconds && !followed {
                        // A fraction is taken where seconds are, whether the layout has one or not.
                        read.fraction(None);
                    }
                    fits
                }
            };
            if fits.is_none() {
                return Err(format!("parsing time {text:?}: cannot parse {:?}", read.rest));
            }
        }
        if !read.rest.is_empty() {
            return Err(format!("parsing time {text:?}: extra text: {:?}", read.rest));
        }
        read.time(local).ok_or_else(|| format!("parsing time {text:?}: day out of range"))
    }
}

/// A time that is being read.
#[derive(Default)]
struct Read<'t> {
    rest: &'t str,
    year: Option<i32>,
    month: Option<u8>,
    day: Option<u8>,
    day_of_year: Option<u16>,
    hour: u8,
    minute: u8,
    second: u8,
    nanosecond: u32,
    afternoon: Option<bool>,
    /// Seconds east.
    offset: Option<i32>,
}

impl Read<'_> {
    /// A text; spaces stand for any number of them.
    fn text(&mut self, text: &str) -> Option<()> {
        let mut want = text;
        while let Some(first) = want.chars().next() {
            if first == ' ' {
                if !self.rest.is_empty() && !self.rest.starts_with(' ') {
                    return None;
                }
                (want, self.rest) =
                    (want.trim_start_matches(' '), self.rest.trim_start_matches(' '));
            } else {
                self.rest = self.rest.strip_prefix(first)?;
                want = &want[first.len_utf8()..];
            }
        }
        Some(())
    }

    /// A point and digits, so many as said; without a number any, or nothing at all.
    fn fraction(&mut self, digits: Option<usize>) -> Option<()> {
        let after = self.rest.strip_prefix(['.', ',']);
        let count = after.map_or(0, |after| after.bytes().take_while(u8::is_ascii_digit).count());
        match (after, digits) {
            (Some(after), wanted) if count > 0 && wanted.is_none_or(|wanted| wanted == count) => {
                let nanos = format!("{:0<9}", &after[..count.min(9)]);
                self.nanosecond = nanos.parse().ok()?;
                self.rest = &after[count..];
                Some(())
            }
            (_, None) => Some(()),
            _ => None,
        }
    }

    /// A number of at least and at most so many digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u16> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits.parse().ok()
    }

    fn small(&mut self, least: usize, limit: u16) -> Option<u8> {
        let number = self.number(least, 2).filter(|number| *number < limit)?;
        u8::try_from(number).ok()
    }

    /// One of some names, by its first so many letters; its place.
    fn name(&mut self, names: &[&str], letters: usize) -> Option<u8> {
        let at = names.iter().position(|name| {
            let name = &name[..name.len().min(letters)];
            self.rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })?;
        self.rest = &self.rest[names[at].len().min(letters)..];
        u8::try_from(at).ok()
    }

    fn field(&mut self, field: Field) -> Option<()> {
        match field {
            Field::YearLong => self.year = Some(self.number(4, 4)?.into()),
            Field::YearShort => {
                let year = i32::from(self.number(2, 2)?);
                self.year = Some(if year >= 69 { 1900 + year } else { 2000 + year });
            }
            Field::MonthName => self.month = Some(self.name(&MONTHS, 9)? + 1),
            Field::MonthShort => self.month = Some(self.name(&MONTHS, 3)? + 1),
            Field::MonthTwo => self.month = Some(self.small(2, 13)?),
            Field::Month => self.month = Some(self.small(1, 13)?),
            Field::WeekdayName => drop(self.name(&WEEKDAYS, 9)?),
            Field::WeekdayShort => drop(self.name(&WEEKDAYS, 3)?),
            Field::DayTwo => self.day = Some(self.small(2, 32)?),
            Field::DaySpace | Field::Day => {
                self.rest = self.rest.strip_prefix(' ').unwrap_or(self.rest);
                self.day = Some(self.small(1, 32)?);
            }
            Field::DayOfYear => self.day_of_year = Some(self.number(3, 3)?),
            Field::Hour => self.hour = self.small(1, 24)?,
            Field::HourTwelveTwo => self.hour = self.small(2, 13)?,
            Field::HourTwelve => self.hour = self.small(1, 13)?,
            Field::MinuteTwo => self.minute = self.small(2, 60)?,
            Field::Minute => self.minute = self.small(1, 60)?,
            Field::SecondTwo => self.second = self.small(2, 60)?,
            Field::Second => self.second = self.small(1, 60)?,
            Field::UpperPm => self.afternoon = Some(self.name(&["AM", "PM"], 2)? == 1),
            Field::LowerPm => self.afternoon = Some(self.name(&["am", "pm"], 2)? == 1),
            Field::ZoneName => {
                let count = self.rest.bytes().take_while(u8::is_ascii_uppercase).count();
                if !(3..=5).contains(&count) {
                    return None;
                }
                self.rest = &self.rest[count..];
                self.offset = self.offset.or(Some(0));
            }
            Field::Zone(z, ..) if z && self.rest.starts_with('Z') => {
                self.rest = &self.rest[1..];
                self.offset = Some(0);
            }
            Field::Zone(_, colon, minutes) => {
                let sign = match self.rest.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                self.rest = &self.rest[1..];
                let hours = i32::from(self.small(2, 25)?);
                if colon {
                    self.rest = self.rest.strip_prefix(':')?;
                }
                let minutes = if minutes { i32::from(self.small(2, 60)?) } else { 0 };
                self.offset = Some(sign * (hours * 3600 + minutes * 60));
            }
        }
        Some(())
    }

    fn time(&self, local: impl Fn(PrimitiveDateTime) -> UtcOffset) -> Option<OffsetDateTime> {
        let year = self.year.unwrap_or(0);
        let date = match self.day_of_year {
            Some(day) => time::Date::from_ordinal_date(year, day).ok()?,
            None => {
                let month = time::Month::try_from(self.month.unwrap_or(1)).ok()?;
                time::Date::from_calendar_date(year, month, self.day.unwrap_or(1)).ok()?
            }
        };
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let time =
            time::Time::from_hms_nano(hour, self.minute, self.second, self.nanosecond).ok()?;
        let clock = PrimitiveDateTime::new(date, time);
        let offset = match self.offset {
            Some(seconds) => UtcOffset::from_whole_seconds(seconds).ok()?,
            None => local(clock),
        };
        Some(clock.assume_offset(offset))
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
    fn times_are_read_as_by_go() {
        for (layout, text, want) in [
            ("2006-01-02", "2024-02-29", Some(1_709_164_800)),
            ("2006-01-02", "2023-02-29", None),
            ("2006-01-02", "2023-2-9", None),
            (
                "Mon, 02 Jan 2006 15:04:05 -0700",
                "Thu, 05 May 2022 15:04:05 +0200",
                Some(1_651_755_845),
            ),
            ("2006-Jan-2 3:04PM", "2022-May-5 3:04PM", Some(1_651_763_040)),
            ("2006-01-02T15:04:05Z07:00", "2024-01-02T03:04:05.678Z", Some(1_704_164_645)),
            ("2006-01-02", "2024-01-02x", None),
            ("2006-01-02", "", None),
        ] {
            let found = Layout::parse(layout).read(text).ok().map(|time| time.unix_timestamp());
            assert_eq!(found, want, "{text}");
        }
    }

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
