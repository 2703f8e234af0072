//! Read-ahead: small neighbouring blobs of a pack come with one request, within bounded memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use rustic_core::Id;

/// Blobs from this size on are worth a request of their own.
const LARGE: u32 = 512 * 1024;
/// What is read for a smaller one.
const WINDOW: u32 = 2 * 1024 * 1024;
/// Packs of directory listings up to this size are read whole: they are used in any order.
const WHOLE: u32 = 6 * 1024 * 1024;
/// All windows together.
const BUDGET: usize = 48 * 1024 * 1024;

#[derive(Debug)]
struct Window {
    pack: Id,
    from: u32,
    content: Bytes,
}

/// The windows read last.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<VecDeque<Window>>);

impl Windows {
    /// What to read to have a part: `(from, to)`.
    pub(super) fn span(offset: u32, length: u32, size: u32, listing: bool) -> (u32, u32) {
        let end = offset.saturating_add(length);
        if listing && size <= WHOLE && end <= size {
            (0, size)
        } else if length >= LARGE {
            (offset, end)
        } else {
            (offset, offset.saturating_add(WINDOW).min(size).max(end))
        }
    }

    /// A part, if a window holds it.
    pub(super) fn get(&self, pack: &Id, offset: u32, length: u32) -> Option<Bytes> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |w: &Window| {
            let end = u64::from(w.from) + w.content.len() as u64;
            w.pack == *pack && w.from <= offset && u64::from(offset) + u64::from(length) <= end
        };
        let at = held.iter().position(inside)?;
        let window = held.remove(at)?;
        let from = (offset - window.from) as usize;
        let part = window.content.slice(from..from + length as usize);
        held.push_back(window);
        Some(part)
    }

    /// Keeps a window, in place of those not used for longest.
    pub(super) fn put(&self, pack: Id, from: u32, content: Bytes) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push_back(Window { pack, from, content });
        let mut total: usize = held.iter().map(|w| w.content.len()).sum();
        while total > BUDGET {
            let Some(oldest) = held.pop_front() else { break };
            total -= oldest.content.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_its_pack() {
        assert_eq!(Windows::span(100, 10, 1000, false), (100, 1000));
        assert_eq!(Windows::span(100, 10, u32::MAX, false), (100, 100 + WINDOW));
        assert_eq!(Windows::span(100, LARGE, u32::MAX, false), (100, 100 + LARGE));
        assert_eq!(Windows::span(100, 10, 1000, true), (0, 1000));
        // A pack that is shorter than its index says is asked for what the index says, and found wrong.
        assert_eq!(Windows::span(995, 10, 1000, true), (995, 1005));
    }

    #[test]
    fn memory_is_bounded() {
        let windows = Windows::default();
        for offset in 0..64 {
            windows.put(Id::default(), offset * WINDOW, Bytes::from(vec![0; WINDOW as usize]));
        }
        let held = windows.0.lock().unwrap();
        assert!(held.iter().map(|w| w.content.len()).sum::<usize>() <= BUDGET);
    }

    #[test]
    fn parts_come_from_the_window_that_holds_them() {
        let windows = Windows::default();
        windows.put(Id::default(), 10, Bytes::from_static(b"abcdef"));
        assert_eq!(windows.get(&Id::default(), 12, 2).as_deref(), Some(&b"cd"[..]));
        assert_eq!(windows.get(&Id::default(), 14, 3), None);
    }
}
