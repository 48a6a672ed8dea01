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
    /// Per slot: the interval's number in the upper half, the count in the lower.
    slots: Box<[AtomicU64]>,
}

impl Sampler {
    pub(crate) fn new(plan: SamplingPlan) -> Self {
        let slots = std::iter::repeat_with(AtomicU64::default).take(SLOTS).collect();
        Self { plan, start: Instant::now(), slots }
    }

    pub(crate) fn keeps(&self, level: Level, message: &str) -> bool {
        let interval = self.start.elapsed().as_nanos() / self.plan.interval.as_nanos().max(1);
        self.keeps_in(u32::try_from(interval & 0xffff_ffff).unwrap_or(0), level, message)
    }

    fn keeps_in(&self, interval: u32, level: Level, message: &str) -> bool {
        let slot = &self.slots[hash(level, message) % SLOTS];
        let count = |old: u64| {
            let same = old >> 32 == u64::from(interval);
            let count = if same { (old & 0xffff_ffff).saturating_add(1) } else { 1 };
            (u64::from(interval) << 32) | count.min(0xffff_ffff)
        };
        let old = slot
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(count(old)))
            .unwrap_or_else(|old| old);
        let number = count(old) & 0xffff_ffff;
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
    use super::{Sampler, SamplingPlan};
    use crate::Level;

    #[test]
    fn the_first_then_one_in_so_many() {
        let plan =
            SamplingPlan { interval: std::time::Duration::from_secs(1), first: 2, thereafter: 3 };
        let sampler = Sampler::new(plan);
        let kept: Vec<bool> = (0..8).map(|_| sampler.keeps_in(0, Level::Info, "a")).collect();
        assert_eq!(kept, [true, true, false, false, true, false, false, true]);
        assert!(sampler.keeps_in(0, Level::Info, "other"));
        assert!(sampler.keeps_in(1, Level::Info, "a"));
    }
}
