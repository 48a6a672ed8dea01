//! What has something to hand over before the program ends.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Holds what is not written or sent yet.
pub trait Finish: Send + Sync + 'static {
    /// Hands it over, within a time limit of its own; blocks. Nothing comes after it.
    fn finish(&self);
}

/// All that have to finish; a [`State::single`](crate::State::single), so that the engine finds them
/// without knowing them.
#[derive(Default)]
pub struct Finishers(Mutex<Vec<Weak<dyn Finish>>>);

impl Finishers {
    /// Adds one, until it is dropped; one that is there stays once.
    pub fn add(&self, finish: &Arc<impl Finish>) {
        let weak: Weak<dyn Finish> = Arc::<_>::downgrade(finish) as Weak<dyn Finish>;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        if !all.iter().any(|one| Weak::ptr_eq(one, &weak)) {
            all.push(weak);
        }
    }

    /// Those that are there.
    pub fn live(&self) -> Vec<Arc<dyn Finish>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::{Finish, Finishers};

    #[derive(Default)]
    struct One(AtomicU32);

    impl Finish for One {
        fn finish(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn finds_those_that_are_left() {
        let all = Finishers::default();
        let (one, other) = (Arc::new(One::default()), Arc::new(One::default()));
        all.add(&one);
        all.add(&one);
        all.add(&other);
        drop(other);
        let live = all.live();
        assert_eq!(live.len(), 1);
        live[0].finish();
        assert_eq!(one.0.load(Ordering::Relaxed), 1);
    }
}
