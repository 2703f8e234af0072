//! The signed documents of one author in their order: what is missing, altered, replaced or taken back. Pure.

use crate::plan::verification::Wrong;
use crate::trust::{chain::ChainHead, envelope::digest};

/// Documents that are wrong in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Sequence of the first.
    pub(super) from: i64,
    /// Sequence of the last.
    pub(super) to: i64,
    /// How they are wrong.
    pub(super) wrong: Wrong,
}

/// A chain as far as it was read.
#[derive(Debug)]
pub(super) struct Chain {
    /// How far it went when it was last verified.
    seen: Option<ChainHead>,
    head: ChainHead,
    /// Whether sequences rise by one; those of points may leave some out, and each names the one before it.
    gapless: bool,
    /// Whether the document at the head was genuine, so that the next one can be compared with it.
    genuine: bool,
    faults: Vec<Fault>,
}

impl Chain {
    /// From its beginning.
    pub(super) fn new(gapless: bool, seen: Option<ChainHead>) -> Self {
        Self { seen, head: ChainHead::default(), gapless, genuine: true, faults: vec![] }
    }

    /// The next document that is there. `previous` is the digest that it names, if it is genuine.
    pub(super) fn take(&mut self, sequence: i64, text: &str, previous: Option<&str>) {
        let skips = sequence > self.head.sequence.saturating_add(1);
        let follows = self.genuine && previous.is_some_and(|previous| previous == self.head.digest);
        let passes_seen = self
            .seen
            .as_ref()
            .is_some_and(|seen| (self.head.sequence + 1..sequence).contains(&seen.sequence));
        let unknown = !self.genuine || previous.is_none();
        if self.gapless || passes_seen || (skips && !follows && !unknown) {
            self.miss_until(sequence);
        }
        let digest = digest(text);
        let replaced =
            self.seen.as_ref().is_some_and(|seen| seen.sequence == sequence && seen.digest != digest);
        let wrong = match previous {
            None => Some(Wrong::NotGenuine),
            Some(previous) if self.genuine && previous != self.head.digest => Some(Wrong::OutOfLine),
            Some(_) if replaced => Some(Wrong::RolledBack),
            Some(_) => None,
        };
        self.faults.extend(wrong.map(|wrong| Fault { from: sequence, to: sequence, wrong }));
        self.genuine = previous.is_some();
        self.head = ChainHead { sequence, digest };
    }

    /// The documents before `sequence` that did not come are missing.
    pub(super) fn miss_until(&mut self, sequence: i64) {
        let from = self.head.sequence + 1;
        if from < sequence {
            self.faults.push(Fault { from, to: sequence - 1, wrong: Wrong::Missing });
            self.head.sequence = sequence - 1;
            self.genuine = false;
        }
    }

    /// Sequence of the last document.
    pub(super) fn last(&self) -> i64 {
        self.head.sequence
    }

    /// What is wrong, and how far the chain goes if nothing is.
    pub(super) fn end(mut self) -> (Vec<Fault>, Option<ChainHead>) {
        if let Some(seen) = self.seen.as_ref().map(|seen| seen.sequence) {
            self.miss_until(seen.saturating_add(1));
        }
        let whole = self.faults.is_empty() && self.head.sequence > 0;
        let head = whole.then_some(self.head);
        (self.faults, head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of a chain, each naming the digest of the one before.
    fn texts() -> Vec<(String, String)> {
        let mut previous = String::new();
        ["a", "b", "c", "d"]
            .map(|text| (text.to_owned(), std::mem::replace(&mut previous, digest(text))))
            .to_vec()
    }

    fn head(sequence: i64, text: &str) -> ChainHead {
        ChainHead { sequence, digest: digest(text) }
    }

    /// Reads those with a sequence; `None` in place of a text is one that is not genuine.
    fn read(
        seen: Option<ChainHead>,
        which: &[(i64, Option<&str>)],
    ) -> (Vec<(i64, i64, Wrong)>, Option<ChainHead>) {
        let all = texts();
        let mut chain = Chain::new(true, seen);
        for (sequence, text) in which {
            let found = text.and_then(|text| all.iter().find(|(known, _)| known == text));
            chain.take(*sequence, text.unwrap_or("noise"), found.map(|(_, previous)| previous.as_str()));
        }
        let (faults, head) = chain.end();
        (faults.into_iter().map(|fault| (fault.from, fault.to, fault.wrong)).collect(), head)
    }

    const ALL: [(i64, Option<&str>); 4] = [(1, Some("a")), (2, Some("b")), (3, Some("c")), (4, Some("d"))];

    #[test]
    fn a_whole_chain_is_sound_and_says_how_far_it_goes() {
        assert_eq!(read(None, &ALL), (vec![], Some(head(4, "d"))));
        assert_eq!(read(Some(head(2, "b")), &ALL), (vec![], Some(head(4, "d"))));
        assert_eq!(read(None, &[]), (vec![], None));
    }

    #[test]
    fn a_damaged_document_is_named_alone() {
        let found = read(None, &[ALL[0], (2, None), ALL[2], ALL[3]]);
        assert_eq!(found, (vec![(2, 2, Wrong::NotGenuine)], None));
    }

    #[test]
    fn missing_ones_are_named() {
        assert_eq!(read(None, &[ALL[0], ALL[3]]).0, [(2, 3, Wrong::Missing)]);
        assert_eq!(read(None, &ALL[1..]).0, [(1, 1, Wrong::Missing)]);
    }

    #[test]
    fn an_end_that_was_seen_before_is_missed() {
        assert_eq!(read(Some(head(4, "d")), &ALL[..2]).0, [(3, 4, Wrong::Missing)]);
        assert_eq!(read(Some(head(4, "d")), &[]).0, [(1, 4, Wrong::Missing)]);
        assert_eq!(read(None, &ALL[..2]).0, [], "what was never seen cannot be missed");
    }

    #[test]
    fn another_one_in_the_place_of_a_seen_one_is_named() {
        assert_eq!(read(Some(head(4, "x")), &ALL).0, [(4, 4, Wrong::RolledBack)]);
    }

    #[test]
    fn a_genuine_one_of_another_place_does_not_fit() {
        assert_eq!(read(None, &[ALL[0], (2, Some("c")), ALL[2]]).0[0], (2, 2, Wrong::OutOfLine));
    }

    #[test]
    fn sequences_that_another_vault_has_are_not_missed() {
        let gaps = |seen: Option<ChainHead>, which: &[(i64, &str)]| {
            let all = texts();
            let mut chain = Chain::new(false, seen);
            for (sequence, text) in which {
                let previous =
                    all.iter().find(|(known, _)| known == text).map(|(_, previous)| previous.as_str());
                chain.take(*sequence, text, previous);
            }
            chain.end().0
        };
        let all = [(2, "a"), (3, "b"), (7, "c"), (9, "d")];
        assert_eq!(gaps(Some(head(7, "c")), &all), []);
        let missing = |from, to| Fault { from, to, wrong: Wrong::Missing };
        assert_eq!(
            gaps(None, &[all[0], all[1], all[3]]),
            [missing(4, 8)],
            "the one that 9 names is not there"
        );
        assert_eq!(gaps(None, &all[1..]), [missing(1, 2)]);
        assert_eq!(gaps(Some(head(9, "d")), &all[..3]), [missing(8, 9)]);
        // Signed anew without it.
        assert_eq!(gaps(Some(head(5, "x")), &all), [missing(4, 6)]);
    }

    #[test]
    fn a_vault_that_claims_a_vast_chain_costs_nothing() {
        assert_eq!(read(None, &[(i64::MAX, Some("a"))]).0[0], (1, i64::MAX - 1, Wrong::Missing));
    }
}
