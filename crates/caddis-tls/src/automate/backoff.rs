//! How long to wait after a failed attempt (T080, T081).

use crate::timestamp::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// After this time without success there is one attempt a day.
pub(super) const GIVE_UP_AFTER: Timestamp = 30 * 24 * HOUR;

/// Seconds to wait before the attempt after `failures` failures (from 1). `jitter`, from 0 to 1000,
/// makes it up to a tenth longer, so that names that failed together do not come together again.
pub(super) fn delay(failures: u32, jitter: u16) -> i64 {
    let base = base(failures);
    base + base * i64::from(jitter.min(1_000)) / 10_000
}

/// Seconds between attempts after [`GIVE_UP_AFTER`]; `jitter` as of [`delay`].
pub(super) fn stuck(jitter: u16) -> i64 {
    24 * HOUR + 24 * HOUR * i64::from(jitter.min(1_000)) / 10_000
}

fn base(failures: u32) -> i64 {
    match failures {
        0 => 0,
        1 => MINUTE,
        2 | 3 => 2 * MINUTE,
        4 => 5 * MINUTE,
        5..=7 => 10 * MINUTE,
        8..=11 => 20 * MINUTE,
        12..=17 => 30 * MINUTE,
        18..=20 => HOUR,
        21..=22 => 2 * HOUR,
        23..=24 => 3 * HOUR,
        _ => 6 * HOUR,
    }
}

#[cfg(test)]
mod tests {
    use super::delay;

    #[test]
    fn delays_grow() {
        let minutes: Vec<i64> = (1..=26).map(|failures| delay(failures, 0) / 60).collect();
        assert_eq!(minutes[..8], [1, 2, 2, 5, 10, 10, 10, 20]);
        assert_eq!(minutes[minutes.len() - 2..], [360, 360]);
        assert!(minutes.is_sorted());
        assert_eq!(minutes[..17].iter().sum::<i64>(), 300, "five hours until the hourly ones");
        assert_eq!((delay(1, 1_000), delay(1, 500), delay(30, u16::MAX)), (66, 63, 23_760));
    }
}
