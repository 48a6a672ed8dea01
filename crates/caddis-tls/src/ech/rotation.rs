//! When ECH keys are made, replaced and deleted: decisions alone, without a clock and without I/O.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};

/// The age at which a key is replaced (spec T157).
const REPLACE_AT: Duration = Duration::days(30);
/// The age at which a key that has been replaced is deleted (spec T157).
const DELETE_AT: Duration = Duration::days(90);

/// A key as far as decisions go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Which one it is.
    pub(super) folder: &'a str,
    pub(super) public_name: &'a str,
    /// When it was made.
    pub(super) created: OffsetDateTime,
    /// Another one took its place.
    pub(super) is_replaced: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is no key for this public name.
    Make(String),
    /// The key in this folder is old: another one takes its place, and it is kept.
    Replace(String),
    /// The key in this folder is old, and has a successor already: somebody was interrupted.
    Retire(String),
    /// Nobody uses the key in this folder any more.
    Delete(String),
}

/// What is to be done now about all keys in the storage, given the public names that there are to be
/// keys for.
///
/// A key is deleted only after it has been replaced, however old it is, and never in the same go. One
/// that was made by a clock ahead of this one is young: replacing it would have two servers whose
/// clocks differ replace each other's keys for ever.
pub(super) fn steps(keys: &[Known<'_>], wanted: &[String], now: OffsetDateTime) -> Vec<Step> {
    let current: BTreeSet<&str> =
        keys.iter().filter(|key| !key.is_replaced).map(|key| key.public_name).collect();
    let mut missing: BTreeSet<&str> = BTreeSet::new();
    let missing = wanted
        .iter()
        .filter(|name| !current.contains(name.as_str()) && missing.insert(name.as_str()))
        .map(|name| Step::Make(name.clone()));
    let is_old = |key: &Known<'_>| now - key.created >= REPLACE_AT;
    let young: BTreeSet<&str> = keys
        .iter()
        .filter(|key| !key.is_replaced && !is_old(key))
        .map(|key| key.public_name)
        .collect();
    let due = keys.iter().filter_map(|key| {
        let folder = key.folder.to_owned();
        match key.is_replaced {
            false if !is_old(key) => None,
            false if young.contains(key.public_name) => Some(Step::Retire(folder)),
            false => Some(Step::Replace(folder)),
            true => (now - key.created >= DELETE_AT).then_some(Step::Delete(folder)),
        }
    });
    missing.chain(due).collect()
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime, macros::datetime};

    use super::{Known, Step, steps};

    const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);

    fn known(folder: &str, age: Duration, is_replaced: bool) -> Known<'_> {
        Known { folder, public_name: "a.test", created: NOW - age, is_replaced }
    }

    fn of_one(age: Duration, is_replaced: bool) -> Option<Step> {
        let all = steps(&[known("1", age, is_replaced)], &[], NOW);
        assert!(all.len() <= 1, "{all:?}");
        all.into_iter().next()
    }

    #[test]
    fn age_decides() {
        let (replace, delete) = (Some(Step::Replace("1".into())), Some(Step::Delete("1".into())));
        let moment = Duration::nanoseconds(1);
        for (age, fresh, replaced) in [
            (Duration::ZERO, &None, &None),
            (Duration::days(30) - moment, &None, &None),
            (Duration::days(30), &replace, &None),
            (Duration::days(90) - moment, &replace, &None),
            (Duration::days(90), &replace, &delete),
            (Duration::days(700_000), &replace, &delete),
            // Made by a clock that was ahead.
            (-moment, &None, &None),
            (-Duration::days(30), &None, &None),
            (-Duration::days(700_000), &None, &None),
        ] {
            assert_eq!(of_one(age, false), *fresh, "{age}");
            assert_eq!(of_one(age, true), *replaced, "{age}");
        }
    }

    #[test]
    fn any_clock_will_do() {
        let ends = [datetime!(0000-01-01 0:00 UTC), datetime!(9999-12-31 23:59:59 UTC)];
        for now in ends {
            for created in ends {
                for is_replaced in [false, true] {
                    let key = Known { folder: "1", public_name: "a.test", created, is_replaced };
                    assert!(steps(&[key], &["a.test".to_owned()], now).len() <= 2);
                }
            }
        }
    }

    #[test]
    fn each_wanted_name_has_a_key_that_is_told() {
        let make = |name: &str| Step::Make(name.to_owned());
        let wanted = ["a.test", "b.test", "b.test"].map(str::to_owned);
        assert_eq!(steps(&[], &wanted, NOW), [make("a.test"), make("b.test")]);
        let one = known("1", Duration::days(1), false);
        assert_eq!(steps(&[one], &wanted, NOW), [make("b.test")]);
        // One that has been replaced is told to nobody.
        let old = known("1", Duration::days(40), true);
        assert_eq!(steps(&[old], &wanted[..1], NOW), [make("a.test")]);
        // One that is to be replaced gets its successor by that alone.
        let due = known("1", Duration::days(31), false);
        assert_eq!(steps(&[due], &wanted[..1], NOW), [Step::Replace("1".to_owned())]);
        let both = [due, Known { folder: "2", ..known("2", Duration::days(1), false) }];
        assert_eq!(steps(&both, &wanted[..1], NOW), [Step::Retire("1".to_owned())]);
        // Of names that are wanted no longer keys are looked after as well.
        let all = [known("2", Duration::days(31), false), known("3", Duration::days(91), true)];
        assert_eq!(
            steps(&all, &[], NOW),
            [Step::Replace("2".to_owned()), Step::Delete("3".to_owned())]
        );
    }

    #[test]
    fn a_life_takes_ninety_days() {
        // Each hour of 200 days, as the hourly check goes.
        let mut keys: Vec<(String, OffsetDateTime, bool)> = Vec::new();
        let wanted = ["a.test".to_owned()];
        for hour in 0..200 * 24 {
            let now = NOW + Duration::hours(hour);
            let known: Vec<Known<'_>> = keys
                .iter()
                .map(|(folder, created, is_replaced)| Known {
                    folder,
                    public_name: "a.test",
                    created: *created,
                    is_replaced: *is_replaced,
                })
                .collect();
            for step in steps(&known, &wanted, now) {
                match step {
                    Step::Make(_) => keys.push((hour.to_string(), now, false)),
                    Step::Replace(folder) => {
                        keys.iter_mut().filter(|key| key.0 == folder).for_each(|key| key.2 = true);
                        keys.push((hour.to_string(), now, false));
                    }
                    Step::Retire(folder) => panic!("{folder} was replaced in one go"),
                    Step::Delete(folder) => keys.retain(|key| key.0 != folder),
                }
            }
            assert_eq!(keys.iter().filter(|key| !key.2).count(), 1, "{hour}");
            assert!(keys.len() <= 4, "{hour}");
            assert!(keys.iter().all(|key| now - key.1 <= Duration::days(90)), "{hour}");
        }
        let days: Vec<i64> = keys.iter().map(|key| (key.1 - NOW).whole_days()).collect();
        assert_eq!(days, [120, 150, 180]);
    }
}
