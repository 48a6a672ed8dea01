//! `sampling`: of entries with the same level and message, the first of an interval are kept, then
//! one in so many.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use caddis_config::LogSampling;

use crate::Level;

/// Entries are counted by hash; a collision makes two messages share a count.
const SLOTS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SamplingPlan {
    interval: Duration,
    first: u64,
    thereafter: u64,
}

impl SamplingPlan {
    pub(crate) fn new(config: &LogSampling) -> Self {
        let count = |number: i64| match u64::try_from(number) {
            Ok(0) | Err(_) => 100,
            Ok(number) => number,
        };
        Self {
            interval: config.interval.positive().unwrap_or(Duration::from_secs(1)),
            first: count(config.first),
            thereafter: count(config.thereafter),
        }
    }
}

pub(crate) struct Sampler {
    plan: SamplingPlan,
    start: Instant,
    slots: Box<[Slot]>,
}

/// The entries of an interval, which begins with the first of them.
#[derive(Default)]
struct Slot {
    /// When the interval is over, in nanoseconds from the start.
    end: AtomicU64,
    count: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(plan: SamplingPlan) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
        Self { plan, start: Instant::now(), slots }
    }

    pub(crate) fn keeps(&self, level: Level, message: &str) -> bool {
        self.keeps_at(self.start.elapsed(), level, message)
    }

    fn keeps_at(&self, now: Duration, level: Level, message: &str) -> bool {
        let slot = &self.slots[hash(level, message) % SLOTS];
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, end) = (nanos(now), slot.end.load(Ordering::Relaxed));
        let next = now.saturating_add(nanos(self.plan.interval));
        // Of those who see that the interval is over, one begins the next.
        let begins = end <= now
            && slot.end.compare_exchange(end, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let number = if begins {
            slot.count.store(1, Ordering::Relaxed);
            1
        } else {
            slot.count.fetch_add(1, Ordering::Relaxed) + 1
        };
        let SamplingPlan { first, thereafter, .. } = self.plan;
        number <= first || (number - first).is_multiple_of(thereafter)
    }
}

fn hash(level: Level, message: &str) -> usize {
    let seed = 0x811c_9dc5_u32 ^ u32::from(level.priority());
    let hash =
        message.bytes().fold(seed, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Sampler, SamplingPlan};
    use crate::Level;

    #[test]
    fn the_first_then_one_in_so_many() {
        let plan = SamplingPlan { interval: Duration::from_secs(1), first: 2, thereafter: 3 };
        let sampler = Sampler::new(plan);
        let at = |millis| Duration::from_millis(millis);
        let kept: Vec<bool> =
            (0..8).map(|n| sampler.keeps_at(at(900 + n), Level::Info, "a")).collect();
        assert_eq!(kept, [true, true, false, false, true, false, false, true]);
        assert!(sampler.keeps_at(at(900), Level::Info, "other"));
        // The interval began with the first entry.
        assert!(!sampler.keeps_at(at(1899), Level::Info, "a"));
        assert!(sampler.keeps_at(at(1900), Level::Info, "a"));
    }
}
