//! When a certificate is due (T086–T089): at a share of its lifetime, or when the authority wants it.

use crate::timestamp::Timestamp;

/// The share of the lifetime that is left when a certificate is renewed.
pub(super) const DEFAULT_RATIO: f64 = 1.0 / 3.0;
/// The authority's time is met from this long before it.
const AHEAD: i64 = 10 * 60;
/// With less than this share of the lifetime left the authority's time counts no more.
const EMERGENCY: i64 = 20;
/// With less than this share left a certificate is renewed whatever the configured share.
const IMMINENT: i64 = 50;
/// So many seconds before its end it is, too, where its lifetime has room for that.
const TOO_LATE: i64 = 5 * AHEAD;
/// Renewals of names that were issued together are spread over this share of the window.
const SPREAD: f64 = 0.02;
/// Shorter lifetimes are not spread.
const MIN_SPREAD: i64 = 24 * 60 * 60;

/// What the time depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Share of the lifetime left at which to renew; 0 for the default.
    pub(super) ratio: f64,
    /// The time chosen in the authority's window.
    pub(super) selected: Option<Timestamp>,
    /// From 0 to 1, the same for a name at all times.
    pub(super) spread: f64,
}

/// The moment from which a certificate is to be renewed. The authority may want it sooner than the
/// configured share of the lifetime says, and not later: Caddy looks at both, and either is enough.
pub(super) fn due_at(facts: &Facts) -> Timestamp {
    let Facts { not_before, not_after, ratio, selected, spread } = *facts;
    let lifetime = not_after.saturating_sub(not_before).max(0);
    let before_end = |left: i64| not_after.saturating_sub(left);
    let mut latest = before_end((lifetime / IMMINENT).max(TOO_LATE.min(lifetime / 3)));
    if let Some(selected) = selected {
        latest = latest.min(selected.saturating_sub(AHEAD)).min(before_end(lifetime / EMERGENCY));
    }
    let ratio = if ratio > 0.0 && ratio < 1.0 { ratio } else { DEFAULT_RATIO };
    let window = lifetime as f64 * ratio;
    let later = if lifetime >= MIN_SPREAD { window * SPREAD * spread.clamp(0.0, 1.0) } else { 0.0 };
    before_end((window - later) as i64).min(latest)
}

/// A number from 0 to 1 for a name.
pub(super) fn spread(name: &str) -> f64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(name.as_bytes());
    f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Facts, due_at, spread};

    const DAY: i64 = 86_400;

    fn due(not_before: i64, not_after: i64, ratio: f64, selected: Option<i64>) -> i64 {
        due_at(&Facts { not_before, not_after, ratio, selected, spread: 0.0 })
    }

    #[test]
    fn the_last_third_is_for_renewal() {
        assert_eq!(due(1_000, 1_300, 0.0, None), 1_200);
        assert_eq!(due(1_000, 1_300, 0.5, None), 1_150);
        assert_eq!(due(1_000, 1_300, f64::NAN, None), 1_200);
        assert_eq!(due(1_300, 1_000, 0.5, None), 1_000, "a broken certificate is due at once");
    }

    #[test]
    fn the_authority_may_want_it_sooner() {
        assert_eq!(due(0, 90 * DAY, 0.0, Some(50 * DAY)), 50 * DAY - 600);
        assert_eq!(due(0, 90 * DAY, 0.0, Some(80 * DAY)), 60 * DAY, "later than a third");
        assert_eq!(due(0, 90 * DAY, 0.5, Some(50 * DAY)), 45 * DAY, "as was configured");
        assert_eq!(due(0, 100 * DAY, 0.001, Some(400 * DAY)), 95 * DAY, "never too late");
        assert_eq!(due(0, 90 * DAY, 0.0, Some(-DAY)), -DAY - 600, "at once");
    }

    /// Whatever the configured share (spec T089).
    #[test]
    fn never_when_it_is_too_late() {
        assert_eq!(due(0, 100 * DAY, 0.001, None), 98 * DAY);
        assert_eq!(due(0, 12 * 3_600, 0.001, None), 12 * 3_600 - 3_000, "as five scans of Caddy");
        assert_eq!(due(0, 3_600, 0.001, None), 2_400, "short ones are not renewed all the time");
        assert_eq!(due(0, 3_600, 0.9, None), 360);
    }

    #[test]
    fn names_issued_together_are_renewed_apart() {
        let mut times: Vec<i64> = (0..500)
            .map(|at| {
                let spread = spread(&format!("n{at}.test"));
                let facts = Facts {
                    not_before: 0,
                    not_after: 90 * DAY,
                    ratio: 0.0,
                    selected: None,
                    spread,
                };
                due_at(&facts)
            })
            .collect();
        times.sort_unstable();
        assert!(times[0] >= 60 * DAY && times[499] <= 61 * DAY);
        let crowd = times.windows(50).map(|window| window[49] - window[0]).min().unwrap();
        assert!(crowd > 1_500, "fifty within {crowd} s");
        assert!((0.0..=1.0).contains(&spread("")));
    }
}
