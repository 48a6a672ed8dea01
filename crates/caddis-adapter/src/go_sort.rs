//! The stable sort that Caddy's orderings were made for.
//!
//! Some of its comparisons are no proper orders (`vars` negates one, so that equal lines come out
//! reversed; sites without a host are never less). What such a comparison does depends on the
//! algorithm, so this one works as Go's does: insertion sort on runs of 20, then merging.

/// Items that are sorted by insertion.
const RUN: usize = 20;

/// Sorts so that `less(a, b)` items come first.
pub(crate) fn sort_stable_by<T: Clone>(items: &mut [T], less: impl Fn(&T, &T) -> bool) {
    for run in items.chunks_mut(RUN) {
        for end in 1..run.len() {
            let mut at = end;
            while at > 0 && less(&run[at], &run[at - 1]) {
                run.swap(at, at - 1);
                at -= 1;
            }
        }
    }
    let mut width = RUN;
    while width < items.len() {
        for pair in items.chunks_mut(width * 2) {
            if pair.len() > width {
                merge(pair, width, &less);
            }
        }
        width *= 2;
    }
}

/// Merges the sorted parts before and after `middle`.
fn merge<T: Clone>(items: &mut [T], middle: usize, less: &impl Fn(&T, &T) -> bool) {
    let (left, right) = items.split_at(middle);
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut merged = Vec::with_capacity(items.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if less(b, a) { right.next() } else { left.next() };
        merged.extend(next.cloned());
    }
    merged.extend(left.cloned());
    merged.extend(right.cloned());
    items.clone_from_slice(&merged);
}

#[cfg(test)]
mod tests {
    use super::sort_stable_by;

    #[test]
    fn sorts_stably() {
        let mut items: Vec<(u32, usize)> = (0..100).map(|at| ((at as u32 * 7) % 10, at)).collect();
        sort_stable_by(&mut items, |a, b| a.0 < b.0);
        assert!(items.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_negated_comparison_reverses_equal_items() {
        let mut items = vec![1, 2, 3];
        sort_stable_by(&mut items, |_, _| true);
        assert_eq!(items, [3, 2, 1]);
        let mut many: Vec<u32> = (0..50).collect();
        sort_stable_by(&mut many, |_, _| true);
        assert_eq!(many.len(), 50);
    }
}
