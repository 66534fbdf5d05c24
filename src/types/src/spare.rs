//! Room for bytes that goes from one connection to the next.
//!
//! An idle connection keeps no buffer: most are idle most of the time, and buffers would be most of
//! what they take. A busy one would then ask the allocator for kilobytes at each wake-up and give them
//! back at once. So each thread keeps a few buffers that nobody uses at the moment.

use std::cell::RefCell;

use bytes::BytesMut;

/// Buffers that one thread keeps.
const LEN_MAX: usize = 8;
/// What has less room than this is not worth keeping.
const BYTES_MIN: usize = 1024;
/// What has more would be held by somebody who needs little of it.
const BYTES_MAX: usize = 32 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, with room if a spare one is there. Who keeps it for longer than a moment takes
/// more memory than it needs: see [`fit`].
pub fn take() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back; what is in it is dropped.
pub fn give(mut buffer: BytesMut) {
    buffer.clear();
    // What was read from its front counts as room again.
    let is_roomy = buffer.try_reclaim(BYTES_MIN);
    if is_roomy && buffer.capacity() <= BYTES_MAX {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < LEN_MAX {
                spare.push(buffer);
            }
        });
    }
}

/// Leaves what is in a buffer in no more room than it needs, if it has far more.
pub fn fit(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        give(std::mem::take(buffer));
    } else if buffer.capacity() > BYTES_MIN && buffer.capacity() / 4 > buffer.len() {
        let fitting = BytesMut::from(&buffer[..]);
        give(std::mem::replace(buffer, fitting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare_len() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    // Each test has a thread of its own.
    #[test]
    fn what_is_given_comes_back_empty() {
        let mut buffer = take();
        assert_eq!((buffer.len(), buffer.capacity()), (0, 0));
        buffer.extend_from_slice(&[7; 5000]);
        // As if it was written to a socket: the room in front is not lost.
        bytes::Buf::advance(&mut buffer, 4990);
        give(buffer);
        let again = take();
        assert!(again.is_empty() && again.capacity() >= BYTES_MIN, "{}", again.capacity());
        assert_eq!(spare_len(), 0);
    }

    #[test]
    fn neither_crumbs_nor_giants_nor_many_are_kept() {
        give(BytesMut::from(&b"crumb"[..]));
        give(BytesMut::zeroed(BYTES_MAX + 1));
        // Somebody else still reads this one.
        let mut shared = BytesMut::zeroed(2 * BYTES_MIN);
        let _reader = shared.split().freeze();
        give(shared);
        assert_eq!(spare_len(), 0);
        for _ in 0..2 * LEN_MAX {
            give(BytesMut::with_capacity(BYTES_MIN));
        }
        assert_eq!(spare_len(), LEN_MAX);
    }

    #[test]
    fn who_waits_for_the_rest_keeps_no_more_than_what_came() {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        buffer.extend_from_slice(b"<a");
        fit(&mut buffer);
        assert_eq!(&buffer[..], b"<a");
        assert!(buffer.capacity() < 64, "{}", buffer.capacity());
        assert_eq!(spare_len(), 1);
        // One that is used well stays where it is.
        let mut used = BytesMut::with_capacity(2048);
        used.extend_from_slice(&[1; 1024]);
        let place = used.as_ptr();
        fit(&mut used);
        assert_eq!((used.as_ptr(), spare_len()), (place, 1));
        used.clear();
        fit(&mut used);
        assert_eq!((used.capacity(), spare_len()), (0, 2));
    }
}
