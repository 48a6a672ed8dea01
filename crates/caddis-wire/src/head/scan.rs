//! Searches in heads, eight bytes at a time: a head is short, and a call for each of its lines
//! costs more than the search.

use std::ops::ControlFlow;

const WORD: usize = 8;
const BLOCK: usize = 4 * WORD;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Shows where control characters are (below a blank, and DEL), in order, until told to stop.
#[inline]
pub(super) fn controls<B>(
    bytes: &[u8],
    mut show: impl FnMut(usize) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    let mut last = [b' '; BLOCK];
    last[..tail.len()].copy_from_slice(tail);
    let (mut blocks, mut last) = (blocks.iter(), Some(&last));
    let mut at = 0;
    // One loop for both, since what is shown is looked at in place.
    while let Some(block) = blocks.next().or_else(|| last.take()) {
        let words = block.as_chunks::<WORD>().0;
        for word in words {
            let mut marks = marks(u64::from_le_bytes(*word));
            while marks != 0 {
                show(at + marks.trailing_zeros() as usize / 8)?;
                marks &= marks - 1;
            }
            at += WORD;
        }
    }
    ControlFlow::Continue(())
}

/// The high bit of each byte that is a control character.
#[inline]
fn marks(word: u64) -> u64 {
    // Nothing carries from one byte to the next: the largest sum is 0x7f + 0x60.
    let low = word & !HIGH;
    let below = !(low + 0x60 * ONES);
    let delete = low + ONES;
    (below | delete) & !word & HIGH
}

/// The first colon.
#[inline]
pub(super) fn colon(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let other = u64::from_le_bytes(*word) ^ (ONES * b':' as u64);
        // The lowest mark is right; those above it may be wrong.
        let found = other.wrapping_sub(ONES) & !other & HIGH;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| *byte == b':').map(|offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_loop_finds() {
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
            let plain = (0..length).filter(|at| bytes[*at] < b' ' || bytes[*at] == 0x7f);
            let mut found = Vec::new();
            let all = controls(&bytes, |at| {
                found.push(at);
                ControlFlow::<()>::Continue(())
            });
            assert!(all.is_continue() && found.iter().copied().eq(plain), "{bytes:?}");
            let plain = bytes.iter().position(|&b| b == b':');
            assert_eq!(colon(&bytes), plain, "{bytes:?}");
        }
    }
}
