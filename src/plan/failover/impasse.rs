//! Where the table waits for ever and only a person's order leads on. It needs three sites: one lets pass an epoch that
//! another asked back, and that other one is overruled before it enters it. Whoever rules then stands below an epoch in which
//! nobody will ever rule (found by the model; see ADR 3).

use std::fmt;

use super::view::View;
use crate::api::{epoch::Epoch, failover_record::Role};

/// An impasse, and the order that leads out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Impasse {
    /// The site to which the role was given will not take it.
    HandoverIsPassed {
        /// That site.
        target: String,
        /// The epoch that it knows.
        known: Epoch,
        /// Where the role is to be ordered back to, and the least number.
        back: Epoch,
    },
    /// A site that rules, or is to rule again, is not confirmed.
    RulesBelow {
        /// Who is above.
        peer: String,
        /// The epoch that it knows.
        known: Epoch,
        /// What the site that rules takes by order.
        resume: Epoch,
    },
    /// What was given up cannot be copied anew.
    CopyNeverComes {
        /// The epoch whose copy is waited for.
        known: Epoch,
        /// What the site that rules takes by order.
        resume: Epoch,
    },
}

impl fmt::Display for Impasse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandoverIsPassed { target, known, back } => write!(
                f,
                "{target} knows epoch {known}, in which nobody rules, and takes no handover of an earlier one. Take the \
                 role back: kubectl embassy abort here, or a Planned order to {} with epoch {}; then switch again",
                back.site, back.number
            ),
            Self::RulesBelow { peer, known, resume } => write!(
                f,
                "{peer} knows epoch {known}, in which nobody rules, and confirms no earlier one. Fence every other site \
                 (kubectl embassy fence), then kubectl embassy resume here, or a Forced order to {} with epoch {}",
                resume.site, resume.number
            ),
            Self::CopyNeverComes { known, resume } => write!(
                f,
                "this site waits for a recovery point of epoch {known}, in which nobody rules. Fence every site but {} \
                 (kubectl embassy fence), then kubectl embassy resume in {}, or a Forced order to it with epoch {}",
                resume.site, resume.site, resume.number
            ),
        }
    }
}

/// The impasse in which this site is, as far as it can know.
#[must_use]
pub fn of(view: &View) -> Option<Impasse> {
    let record = &view.record;
    match record.role {
        Role::Demoted if record.abort.is_none() => {
            let target = &record.intent.as_ref()?.site;
            let known = &view.document(target)?.epoch;
            (*known > record.epoch && nobody_enters(view, known)).then(|| Impasse::HandoverIsPassed {
                target: target.clone(),
                known: known.clone(),
                back: above(known, 1, &record.site),
            })
        }
        Role::Active | Role::Promoting if record.cold_fence || record.lifting => {
            let higher = view.documents().filter(|(_, document)| document.epoch > *record.top());
            let (peer, document) = higher.max_by_key(|(_, document)| &document.epoch)?;
            nobody_enters(view, &document.epoch).then(|| Impasse::RulesBelow {
                peer: peer.to_owned(),
                known: document.epoch.clone(),
                resume: above(&document.epoch, 2, &record.site),
            })
        }
        Role::Diverged if view.approved.is_some() && nobody_enters(view, &record.epoch) => {
            let ruling = view.documents().find(|(_, document)| document.role.rules())?.0;
            Some(Impasse::CopyNeverComes {
                known: record.epoch.clone(),
                resume: above(&record.epoch, 2, ruling),
            })
        }
        _ => None,
    }
}

fn above(epoch: &Epoch, by: i64, site: &str) -> Epoch {
    Epoch::new(epoch.number.saturating_add(by), site)
}

/// Whether the site that owns the epoch is neither in it nor asks for it, by its own newest word.
fn nobody_enters(view: &View, epoch: &Epoch) -> bool {
    let record = &view.record;
    if view.mine(epoch) {
        return record.epoch != *epoch && record.abort.as_ref() != Some(epoch);
    }
    view.document(&epoch.site)
        .is_some_and(|document| document.epoch != *epoch && document.abort.as_ref() != Some(epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{data_embassy::ApproveDiscard, failover_record::FailoverRecordSpec};
    use crate::plan::failover::{document::document, first_record::first_day, view::quiet};

    fn record(site: &str, role: Role, epoch: &str) -> FailoverRecordSpec {
        let mut record = first_day(site, if site == "tallinn" { "luxembourg" } else { "tallinn" });
        record.role = role;
        record.epoch = epoch.parse().unwrap();
        record
    }

    /// Luxembourg rules in 5; riga asked 6 back from tallinn, which let it pass, and was overruled by luxembourg before it heard of that.
    fn view(own: FailoverRecordSpec, others: Vec<FailoverRecordSpec>) -> View {
        let say = |other: FailoverRecordSpec| (other.site.clone(), document(&other, other.role.rules()));
        quiet(own, others.into_iter().map(say))
    }

    fn overruled() -> FailoverRecordSpec {
        let mut riga = record("riga", Role::Fenced, "4/riga");
        riga.intent = Some("5/luxembourg".parse().unwrap());
        riga
    }

    fn giving() -> FailoverRecordSpec {
        let mut luxembourg = record("luxembourg", Role::Demoted, "5/luxembourg");
        luxembourg.intent = Some("7/tallinn".parse().unwrap());
        luxembourg
    }

    #[test]
    fn a_handover_below_an_epoch_let_pass_is_ordered_back_above_it() {
        let stuck = view(giving(), vec![record("tallinn", Role::Standby, "6/riga"), overruled()]);
        let Some(Impasse::HandoverIsPassed { target, back, .. }) = of(&stuck) else { panic!("an impasse") };
        assert_eq!((target.as_str(), back.to_string().as_str()), ("tallinn", "7/luxembourg"));
    }

    #[test]
    fn a_switch_that_is_only_slow_is_none() {
        let slow = view(giving(), vec![record("tallinn", Role::Standby, "5/luxembourg"), overruled()]);
        assert_eq!(of(&slow), None);
        let mut asking = record("riga", Role::Demoted, "4/riga");
        asking.abort = Some("6/riga".parse().unwrap());
        asking.intent = Some("5/tallinn".parse().unwrap());
        let still_asked = view(giving(), vec![record("tallinn", Role::Standby, "6/riga"), asking]);
        assert_eq!(of(&still_asked), None, "riga may enter it yet");
        let unknown = view(giving(), vec![record("tallinn", Role::Standby, "6/riga")]);
        assert_eq!(of(&unknown), None, "riga's word is not known");
    }

    #[test]
    fn who_rules_below_it_and_was_cut_is_told_to_resume_above_it() {
        let mut luxembourg = record("luxembourg", Role::Active, "5/luxembourg");
        luxembourg.cold_fence = true;
        let others = vec![record("tallinn", Role::Standby, "6/riga"), overruled()];
        let cut = of(&view(luxembourg.clone(), others.clone()));
        let Some(Impasse::RulesBelow { resume, .. }) = cut else { panic!("an impasse") };
        assert_eq!(resume.to_string(), "8/luxembourg");
        luxembourg.cold_fence = false;
        assert_eq!(of(&view(luxembourg, others)), None, "it runs and needs no help");
    }

    #[test]
    fn who_waits_for_its_copy_says_who_must_resume() {
        let mut tallinn = record("tallinn", Role::Diverged, "6/riga");
        tallinn.diverged = Some("1/tallinn".parse().unwrap());
        let mut waiting =
            view(tallinn, vec![record("luxembourg", Role::Active, "5/luxembourg"), overruled()]);
        assert_eq!(of(&waiting), None, "nothing is given up yet");
        waiting.approved = Some(ApproveDiscard { number: 1, site: "tallinn".to_owned() });
        let Some(Impasse::CopyNeverComes { resume, .. }) = of(&waiting) else { panic!("an impasse") };
        assert_eq!(resume.to_string(), "8/luxembourg");
    }
}
