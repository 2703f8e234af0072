//! What people are told where an embassy is sealed: what a takeover still needs, and which keys would be lost with home.

use super::manifest::Manifest;
use crate::api::{
    conditions::{ConditionType, Finding},
    epoch::Epoch,
};

/// What a sealed standby can promise: what lies in its vault, and that a person must bring the key.
pub(super) fn promotable(newest: Option<&Manifest>) -> Finding {
    let finding =
        |holds, reason, message: String| Finding::new(ConditionType::Promotable, holds, reason, message);
    match newest {
        Some(newest) => finding(
            true,
            "Sealed",
            format!(
                "recovery point {} is in the vault here, complete and encrypted; a takeover needs its key: kubectl \
                 embassy unseal",
                newest.point
            ),
        ),
        None => finding(false, "NoCopy", "the vault here holds no recovery point yet".to_owned()),
    }
}

/// Copies that nobody can open once home is gone protect nothing.
pub(super) fn unprotected(unkept: &[Epoch]) -> Option<Finding> {
    let epochs: Vec<String> = unkept.iter().map(ToString::to_string).collect();
    (!epochs.is_empty()).then(|| {
        let message = format!(
            "the key of epoch {} is in this cluster only, and the copies are lost with it: take it out with kubectl \
             embassy keys export, and prove that it opens with kubectl embassy keys check",
            epochs.join(", ")
        );
        Finding::new(ConditionType::Protected, false, "KeyNotExported", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::of_nothing;

    #[test]
    fn a_sealed_standby_says_what_a_takeover_still_needs() {
        let newest = of_nothing("1/tallinn/7");
        let found = promotable(Some(&newest));
        assert_eq!((found.holds, found.reason), (Some(true), "Sealed"));
        assert!(
            found.message.contains("1/tallinn/7") && found.message.contains("unseal"),
            "{}",
            found.message
        );
        assert_eq!(promotable(None).holds, Some(false));
    }

    #[test]
    fn a_key_in_one_place_protects_nothing() {
        assert_eq!(unprotected(&[]), None);
        let found = unprotected(&[Epoch::new(1, "tallinn"), Epoch::new(3, "tallinn")]).unwrap();
        assert_eq!((found.holds, found.reason), (Some(false), "KeyNotExported"));
        assert!(found.message.contains("1/tallinn, 3/tallinn"), "{}", found.message);
    }
}
