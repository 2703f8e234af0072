//! Index files, which each step of a backup reads: kept after the first time, within bounded memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use rustic_core::Id;

/// All kept files together, in bytes.
const BUDGET: usize = 32 * 1024 * 1024;

/// The files read first, as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<Id, Bytes>>);

impl Kept {
    /// A file, if it was kept.
    pub(super) fn get(&self, id: &Id) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Keeps a file while there is room.
    pub(super) fn put(&self, id: Id, content: Bytes) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().map(Bytes::len).sum::<usize>() + content.len() <= BUDGET {
            held.insert(id, content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let kept = Kept::default();
        kept.put(Id::new([1; 32]), Bytes::from(vec![0; BUDGET]));
        kept.put(Id::new([2; 32]), Bytes::from_static(b"one more"));
        assert!(kept.get(&Id::new([1; 32])).is_some());
        assert!(kept.get(&Id::new([2; 32])).is_none());
    }
}
