//! What is fetched with one request: chunks that are near each other in a pack.

use std::collections::HashMap;

use rustic_core::Id;

/// A request costs as much as reading this on.
const GAP: u32 = 128 * 1024;
/// The most that is fetched at once: what all threads fetch is held in memory.
const MOST: u32 = 4 * 1024 * 1024;
/// The least that is worth a request of its own while others could share the work.
const LEAST: u32 = 512 * 1024;

/// The part of a pack that holds a blob.
#[derive(Debug, Clone, Copy)]
pub(in crate::mover) struct Stored {
    pub(in crate::mover) pack: Id,
    /// Where it begins in the pack.
    pub(in crate::mover) from: u32,
    /// Where it ends.
    pub(in crate::mover) to: u32,
    /// Bytes of what it says, decrypted.
    pub(in crate::mover) length: u64,
}

/// A part of a pack, and the chunks in it, in the order of the pack.
#[derive(Debug)]
pub(in crate::mover) struct Run<T> {
    pub(in crate::mover) pack: Id,
    pub(in crate::mover) from: u32,
    pub(in crate::mover) to: u32,
    pub(in crate::mover) chunks: Vec<T>,
}

impl<T> Run<T> {
    fn takes(&self, chunk: &Stored, most: u32) -> bool {
        let to = self.to.max(chunk.to);
        self.pack == chunk.pack
            && chunk.from <= self.to.saturating_add(GAP)
            && (to == self.to || to - self.from <= most)
    }
}

/// All chunks, pack by pack in the order in which those are needed first; `threads` fetch them.
pub(in crate::mover) fn runs<T>(
    mut chunks: Vec<T>,
    stored: fn(&T) -> &Stored,
    threads: usize,
) -> Vec<Run<T>> {
    let mut turns = HashMap::new();
    for chunk in &chunks {
        let next = turns.len();
        turns.entry(stored(chunk).pack).or_insert(next);
    }
    chunks.sort_by_key(|chunk| (turns.get(&stored(chunk).pack).copied(), stored(chunk).from));
    let total: u64 = chunks.iter().map(stored).map(|part| u64::from(part.to - part.from)).sum();
    let share = u32::try_from(total / threads as u64).unwrap_or(MOST).clamp(LEAST, MOST);
    let mut runs: Vec<Run<T>> = vec![];
    for chunk in chunks {
        let Stored { pack, from, to, .. } = *stored(&chunk);
        match runs.last_mut().filter(|run| run.takes(stored(&chunk), share)) {
            Some(run) => {
                run.to = run.to.max(to);
                run.chunks.push(chunk);
            }
            None => runs.push(Run { pack, from, to, chunks: vec![chunk] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1024 * 1024;

    fn chunk(pack: u8, from: u32, to: u32) -> Stored {
        Stored { pack: Id::new([pack; 32]), from, to, length: 0 }
    }

    fn spans(chunks: Vec<Stored>) -> Vec<(u8, u32, u32, usize)> {
        let runs = runs(chunks, |chunk| chunk, 8);
        let pack = |run: &Run<Stored>| if run.pack == Id::new([1; 32]) { 1 } else { 2 };
        runs.iter().map(|run| (pack(run), run.from, run.to, run.chunks.len())).collect()
    }

    #[test]
    fn neighbours_come_together_in_the_order_of_their_packs() {
        let chunks = vec![chunk(2, 900, 1000), chunk(1, 0, 10), chunk(2, 0, 900), chunk(2, 900, 1000)];
        assert_eq!(spans(chunks), [(2, 0, 1000, 3), (1, 0, 10, 1)]);
    }

    #[test]
    fn what_lies_far_apart_does_not() {
        let far = 10 + GAP + 1;
        assert_eq!(
            spans(vec![chunk(1, far, far + 5), chunk(1, 0, 10)]),
            [(1, 0, 10, 1), (1, far, far + 5, 1)]
        );
        let near = 10 + GAP;
        assert_eq!(spans(vec![chunk(1, 0, 10), chunk(1, near, near + 5)]), [(1, 0, near + 5, 2)]);
    }

    #[test]
    fn much_is_fetched_in_parts_and_little_is_shared_out() {
        let whole = |count: u32| (0..count).map(|n| chunk(1, n * MIB, (n + 1) * MIB)).collect::<Vec<_>>();
        let sizes =
            |chunks| spans(chunks).iter().map(|(_, from, to, _)| (to - from) / MIB).collect::<Vec<_>>();
        assert_eq!(sizes(whole(64)), [4; 16]);
        assert_eq!(sizes(whole(16)), [2; 8]);
        assert_eq!(sizes(whole(3)), [1; 3]);
    }

    #[test]
    fn one_chunk_in_many_places_is_fetched_once() {
        assert_eq!(spans(vec![chunk(1, 0, 8 * MIB); 3]), [(1, 0, 8 * MIB, 3)]);
    }
}
