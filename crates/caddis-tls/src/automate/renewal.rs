//! When a certificate is due (T086).

use crate::timestamp::Timestamp;

/// The share of the lifetime that is left when a certificate is renewed.
pub(super) const DEFAULT_RATIO: f64 = 1.0 / 3.0;

/// The moment from which a certificate is to be renewed.
pub(super) fn due_at(not_before: Timestamp, not_after: Timestamp, ratio: f64) -> Timestamp {
    let ratio = if ratio > 0.0 && ratio < 1.0 { ratio } else { DEFAULT_RATIO };
    let lifetime = not_after.saturating_sub(not_before).max(0);
    not_after.saturating_sub((lifetime as f64 * ratio) as i64)
}

#[cfg(test)]
mod tests {
    use super::due_at;

    #[test]
    fn the_last_third_is_for_renewal() {
        assert_eq!(due_at(1_000, 1_300, 0.0), 1_200);
        assert_eq!(due_at(1_000, 1_300, 0.5), 1_150);
        assert_eq!(due_at(1_000, 1_300, f64::NAN), 1_200);
        assert_eq!(due_at(1_300, 1_000, 0.5), 1_000, "a broken certificate is due at once");
    }
}
