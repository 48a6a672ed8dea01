//! Header maps that are done with, kept for the next message of the same thread: building one
//! costs more than filling it.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that a thread keeps.
const KEPT: usize = 128;
/// Fields that a kept map may have room for.
const LARGEST: usize = 64;
/// Fields that a new map has room for.
const USUAL: usize = 12;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for some fields, one that was recycled where there is one.
pub fn header_map(fields: usize) -> HeaderMap {
    take(fields)
}

/// An empty map.
pub(crate) fn take(fields: usize) -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| HeaderMap::with_capacity(fields.clamp(USUAL, LARGEST)))
}

/// Gives a map back whose fields nobody needs any more.
pub fn recycle(mut headers: HeaderMap) {
    // A small one would have to grow for an answer's fields, which costs more than a new map.
    if !(USUAL..=LARGEST).contains(&headers.capacity()) {
        return;
    }
    headers.clear();
    MAPS.with_borrow_mut(|maps| {
        if maps.len() < KEPT {
            maps.push(headers);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_map_comes_back_empty() {
        let mut map = take(3);
        map.append(header::ACCEPT, HeaderValue::from_static("a"));
        map.append(header::ACCEPT, HeaderValue::from_static("b"));
        recycle(map);
        let map = take(3);
        assert!(map.is_empty() && map.get(header::ACCEPT).is_none());
    }
}
