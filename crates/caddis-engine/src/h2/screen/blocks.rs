//! Header blocks that are looked at again when the codec has ended a connection.

use caddis_wire::HeaderBlock;

use super::frame::{END_HEADERS, HEADERS, Head, fragment};
use crate::h1::{give_buffer, take_buffer};

/// Most bytes of [`Blocks`]; larger ones are not looked at.
const MAX_BLOCKS: usize = 64 * 1024;

/// Frames with header blocks, which the codec may not have decoded yet. It has, but for the last
/// one, when it asks for more.
///
/// It ends a connection for a block that cannot be decoded as for anything else, and does not say
/// why. Which of these it was then follows from the blocks: it stops at the first that is wrong.
/// What the dynamic table holds is not known here. So a reference to an entry that it could have,
/// but has not, is only told where there is nothing else that could be wrong.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) frames: Vec<u8>,
    /// Where in `frames` the last block begins.
    last: usize,
    /// There were frames of other kinds, blocks of streams that had one before, or more than is
    /// kept.
    pub(super) others: bool,
}

impl Blocks {
    pub(super) fn begin(&mut self) {
        if self.frames.capacity() == 0 {
            self.frames = take_buffer();
        }
        self.last = self.frames.len();
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if self.frames.len() + bytes.len() <= MAX_BLOCKS {
            self.frames.extend_from_slice(bytes);
        } else {
            self.others = true;
        }
    }

    /// The codec asks for more; whether the last block goes on.
    pub(super) fn forget(&mut self, goes_on: bool) {
        if goes_on {
            self.frames.drain(..self.last);
            self.last = 0;
        } else if !self.frames.is_empty() {
            give_buffer(std::mem::take(&mut self.frames));
            self.last = 0;
        }
        self.others &= goes_on;
    }

    /// Whether it was one of these, where the codec ended the connection with PROTOCOL_ERROR.
    pub(super) fn are_undecodable(&self) -> bool {
        let (mut rest, mut block, mut maybe) = (&self.frames[..], Vec::new(), false);
        while let Some((&head, after)) = rest.split_first_chunk() {
            let head = Head::parse(head);
            let Some((payload, after)) = after.split_at_checked(head.length) else { break };
            rest = after;
            if head.kind == HEADERS {
                let Some(fragment) = fragment(head, payload) else { return false };
                if head.stream.is_multiple_of(2) {
                    return false;
                }
                block.clear();
                block.extend_from_slice(fragment);
            } else {
                block.extend_from_slice(payload);
            }
            if head.has(END_HEADERS) {
                match HeaderBlock::examine(&block) {
                    HeaderBlock::Proper => {}
                    HeaderBlock::Dynamic => maybe = true,
                    HeaderBlock::Malformed => return false,
                    HeaderBlock::Undecodable => return true,
                }
            }
        }
        maybe && !self.others
    }
}
