//! Marks of what a head is looked at for, sixteen bytes at a time: a head is short, and a call for
//! each of its lines costs more than the search.

use wide::u8x16;

const LANE: usize = 16;
const BLOCK: usize = 4 * LANE;

/// What stands in a block of bytes, a bit for each byte, the first in the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Control characters: those below a blank, and DEL.
    pub(super) controls: u64,
    /// Colons.
    pub(super) colons: u64,
}

/// Marks `bytes` block by block, with the offset at which each block begins.
#[inline]
pub(super) fn blocks(bytes: &[u8]) -> impl Iterator<Item = (usize, Marks)> {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    let mut whole = blocks.iter();
    let mut rest = (!tail.is_empty()).then_some(tail);
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut last;
        let block = match whole.next() {
            Some(block) => block,
            None => {
                let tail = rest.take()?;
                last = [b' '; BLOCK];
                last[..tail.len()].copy_from_slice(tail);
                &last
            }
        };
        at += BLOCK;
        Some((at - BLOCK, marks(block)))
    })
}

#[inline]
fn marks(block: &[u8; BLOCK]) -> Marks {
    let (blank, delete, colon) = (u8x16::splat(b' '), u8x16::splat(0x7f), u8x16::splat(b':'));
    let mut marks = Marks { controls: 0, colons: 0 };
    for (number, lane) in block.as_chunks::<LANE>().0.iter().enumerate() {
        let lane = u8x16::new(*lane);
        // A byte stays what it is as the greater one of itself and a blank, unless it is below.
        let printed = lane.max(blank).simd_eq(lane) & !lane.simd_eq(delete);
        let controls = !printed.to_bitmask() & 0xffff;
        let colons = lane.simd_eq(colon).to_bitmask();
        marks.controls |= u64::from(controls) << (number * LANE);
        marks.colons |= u64::from(colons) << (number * LANE);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_what_a_plain_loop_finds() {
        let mut random = crate::tests::Rng(7);
        let alphabet = b"az09 \t\r\n\0\x1f\x20\x7e\x7f\x80\xff::;";
        for _ in 0..20_000 {
            let (length, rare) = (random.below(200), random.below(2) == 0);
            let bytes: Vec<u8> = (0..length)
                .map(|_| match rare && random.below(10) > 0 {
                    true => b'x',
                    false => alphabet[random.below(alphabet.len())],
                })
                .collect();
            let (mut controls, mut colons) = (Vec::new(), Vec::new());
            for (at, marks) in blocks(&bytes) {
                let ones = |bits: u64| (0..BLOCK).filter(move |bit| bits >> bit & 1 == 1);
                controls.extend(ones(marks.controls).map(|bit| at + bit));
                colons.extend(ones(marks.colons).map(|bit| at + bit));
            }
            let plain = (0..length).filter(|at| bytes[*at] < b' ' || bytes[*at] == 0x7f);
            assert!(controls.iter().copied().eq(plain), "{bytes:?}");
            let plain = (0..length).filter(|at| bytes[*at] == b':');
            assert!(colons.iter().copied().eq(plain), "{bytes:?}");
        }
    }
}
