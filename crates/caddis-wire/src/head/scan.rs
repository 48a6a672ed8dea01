//! Searches in heads, eight bytes at a time: a head is short, and a call for each of its lines
//! costs more than the search.

use std::slice::Iter;

const WORD: usize = 8;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// Where control characters are (below a blank, and DEL), in order.
pub(super) struct Controls<'a> {
    words: Iter<'a, [u8; WORD]>,
    /// What is left after the whole words.
    tail: &'a [u8],
    /// Where the word of `marks` begins.
    at: usize,
    /// The high bit of each byte of the word that is one and was not told yet.
    marks: u64,
    /// One past the word of `marks`.
    next: usize,
}

impl<'a> Controls<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<WORD>();
        Self { words: words.iter(), tail, at: 0, marks: 0, next: 0 }
    }
}

impl Iterator for Controls<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.marks == 0 {
            self.at = self.next;
            match self.words.next() {
                Some(word) => {
                    self.marks = controls(u64::from_le_bytes(*word));
                    self.next += WORD;
                }
                None if self.tail.is_empty() => return None,
                None => {
                    let mut word = [b' '; WORD];
                    for (to, from) in word.iter_mut().zip(self.tail) {
                        *to = *from;
                    }
                    self.marks = controls(u64::from_le_bytes(word));
                    self.next += self.tail.len();
                    self.tail = &[];
                }
            }
        }
        let at = self.at + self.marks.trailing_zeros() as usize / 8;
        self.marks &= self.marks - 1;
        Some(at)
    }
}

/// The high bit of each byte that is a control character.
#[inline]
fn controls(word: u64) -> u64 {
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
            assert!(Controls::of(&bytes).eq(plain), "{bytes:?}");
            let plain = bytes.iter().position(|&b| b == b':');
            assert_eq!(colon(&bytes), plain, "{bytes:?}");
        }
    }
}
