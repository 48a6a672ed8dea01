//! Parts of times and durations.

use caddis_core::Result;
use jiff::tz::TimeZone;
use time::{OffsetDateTime, UtcOffset};

use crate::matchers::expression::{
    eval::{error, no_overload},
    node::Val::{self, Duration, Int, Str, Time},
};

/// A part of a time, in UTC or in the zone that is given as an offset.
pub(super) fn in_zone(args: &[Val], get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Time(at)] => Ok(Int(get(&at.to_offset(UtcOffset::UTC)))),
        [Time(at), Str(zone)] => {
            let offset = match zone.contains(':') {
                true => offset(zone),
                false => offset_of_place(zone, at),
            };
            let offset = offset.ok_or_else(|| error(format_args!("unknown time zone {zone}")))?;
            Ok(Int(get(&at.to_offset(offset))))
        }
        _ => Err(no_overload()),
    }
}

/// The offset that a zone such as `Europe/Berlin` has at a time, by the zones of the system or, where
/// it has none, by those in the program.
fn offset_of_place(zone: &str, at: &OffsetDateTime) -> Option<UtcOffset> {
    let zone = match zone {
        "" | "UTC" | "Z" => return Some(UtcOffset::UTC),
        "Local" => TimeZone::system(),
        zone => TimeZone::get(zone).ok()?,
    };
    let at = jiff::Timestamp::from_second(at.unix_timestamp()).ok()?;
    UtcOffset::from_whole_seconds(zone.to_offset(at).seconds()).ok()
}

fn offset(zone: &str) -> Option<UtcOffset> {
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// A part of a time, or how often a unit is in a duration.
pub(super) fn part(args: &[Val], unit: i64, get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Duration(nanoseconds)] => Ok(Int(nanoseconds / unit)),
        args => in_zone(args, get),
    }
}
