//! Whether the register can run from its copies: here, in a rehearsal, for readers.

use crate::api::{
    conditions::{ConditionType, Finding},
    failover_record::{Role, VolumeCondition},
};
use crate::plan::{custody, drill::serving, status::Facts};

pub(super) fn promotable(facts: &Facts) -> Finding {
    let record = &facts.view.record;
    let finding = |holds: bool, reason, message: String| {
        Finding::new(ConditionType::Promotable, holds, reason, message)
    };
    match (record.role, record.volumes.condition) {
        (Role::Active | Role::Promoting, _) => finding(true, "RunsHere", "the register runs here".to_owned()),
        (Role::Standby, _) if facts.newest_damaged => finding(
            false,
            "CopyDamaged",
            "the newest copy is damaged at the vault: see condition Verified for what and what to do"
                .to_owned(),
        ),
        (Role::Standby, _) if facts.view.sealed => custody::promotable(facts.newest),
        (Role::Standby, VolumeCondition::Clean | VolumeCondition::Restoring)
            if facts.rehearsed.lacking.is_some() =>
        {
            let why = facts.rehearsed.lacking.clone().unwrap_or_default();
            finding(false, "NotRehearsed", format!("{why}: {HOW_TO_REHEARSE}"))
        }
        (Role::Standby, VolumeCondition::Clean) if !record.reclone => {
            let at = record.volumes.at.as_ref().map_or_else(String::new, |at| at.point.to_string());
            finding(true, "CopyHere", format!("the volumes hold recovery point {at}, complete and checked"))
        }
        (Role::Standby, VolumeCondition::Restoring) => finding(
            true,
            "Refreshing",
            "the volumes are being refreshed; a takeover finishes that first, from the vault here".to_owned(),
        ),
        (Role::Standby, _) => finding(false, "NoCopy", "the volumes hold no complete copy yet".to_owned()),
        (role, _) => finding(false, "NotStandby", format!("this site is {}", role.as_str())),
    }
}

pub(super) fn serving(standing: &serving::Standing) -> Finding {
    let finding =
        |holds, reason, message: String| Finding::new(ConditionType::Serving, holds, reason, message);
    let served = standing.served.as_ref().map(|(point, since)| format!("{point} is served since {since}"));
    if let (Some(served), Some(why)) = (&served, &standing.unready) {
        return finding(false, "NotReady", format!("{served}, and not all of it is ready now: {why}"));
    }
    match (served, &standing.failed, &standing.doing) {
        (Some(served), None, _) => finding(true, "Published", served),
        (Some(served), Some(why), _) => {
            finding(true, "NotRefreshed", format!("{served}; a newer one could not be: {why}"))
        }
        (None, Some(why), _) => finding(
            false,
            "NotServed",
            format!(
                "{why}. Workloads see their volumes read-only; \
             spec.reading.serve.selector can name the ones that only read"
            ),
        ),
        (None, None, doing) => finding(
            false,
            "Beginning",
            doing.clone().unwrap_or_else(|| "waits for a recovery point".to_owned()),
        ),
    }
}

/// What to do for a drill.
const HOW_TO_REHEARSE: &str =
    "kubectl get drills says how the last one went; create a Drill here to rehearse now";

pub(super) fn rehearsed(facts: &Facts) -> Finding {
    let finding = |holds: Option<bool>, reason, message: String| {
        Finding::new(ConditionType::Rehearsed, holds, reason, message)
    };
    let standing = facts.rehearsed;
    if let Some(why) = &standing.unreadable {
        let message = format!("spec.drills.schedule cannot be read: {why}");
        return finding(Some(false), "InvalidSchedule", message);
    }
    match (&standing.lacking, &standing.last) {
        (_, Some(last)) if !last.passed => {
            finding(Some(false), "DrillFailed", format!("drill {} failed: {}", last.name, last.message))
        }
        (Some(why), _) => finding(Some(false), "NotRehearsed", format!("{why}: {HOW_TO_REHEARSE}")),
        (None, Some(last)) => {
            let point = last.recovery_point.as_ref().map_or_else(String::new, ToString::to_string);
            let took = last.time_to_ready.as_deref().unwrap_or("unknown time");
            let message = format!(
                "drill {} passed at {}: recovery point {point} was ready in {took}",
                last.name, last.time.0
            );
            finding(Some(true), "DrillPassed", message)
        }
        (None, None) => {
            let message = "no drill was held at this site: create a Drill to prove that a copy runs here";
            finding(None, "NoDrill", message.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::api::failover_record::Volumes;
    use crate::plan::drill::calendar::Standing;
    use crate::plan::failover::first_record::first_day;
    use crate::plan::failover::view::quiet;
    use crate::plan::failover::{Action, View};
    use crate::plan::mandate::tests::spec;

    /// A standby whose volumes are in that condition.
    fn standby(condition: VolumeCondition) -> View {
        let mut record = first_day("luxembourg", "tallinn");
        record.role = Role::Standby;
        record.volumes = Volumes { condition, ..Volumes::default() };
        quiet(record, [])
    }

    /// Whether the standby may take over, and why: with its newest copy damaged, or with what rehearsals lack.
    fn answer(view: &View, newest_damaged: bool, lacking: Option<&str>) -> (Option<bool>, &'static str) {
        let (spec, action) = (spec(), Action::Nothing);
        let rehearsed = Standing { lacking: lacking.map(str::to_owned), ..Standing::default() };
        let facts = Facts {
            spec: &spec,
            generation: 1,
            view,
            action: &action,
            newest: None,
            verified: None,
            checked: None,
            newest_damaged,
            identity: "land-register/land-register",
            verification_trouble: None,
            reported: BTreeMap::new(),
            trouble: None,
            distrust: None,
            isolated: true,
            fenced: true,
            left: &[],
            divergence: None,
            rehearsed: &rehearsed,
            serving: None,
            thinned: BTreeMap::new(),
            unkept: &[],
            drift: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        let found = promotable(&facts);
        (found.holds, found.reason)
    }

    #[test]
    fn a_standby_says_whether_it_could_take_over() {
        let clean = standby(VolumeCondition::Clean);
        let refreshing = standby(VolumeCondition::Restoring);
        let mut reclone = clean.clone();
        reclone.record.reclone = true;
        assert_eq!(answer(&clean, false, None), (Some(true), "CopyHere"));
        assert_eq!(answer(&refreshing, false, None), (Some(true), "Refreshing"));
        assert_eq!(answer(&standby(VolumeCondition::Empty), false, None), (Some(false), "NoCopy"));
        assert_eq!(answer(&reclone, false, None), (Some(false), "NoCopy"));
        for view in [&clean, &refreshing] {
            // A takeover would stand on the newest copy, whatever the volumes hold already.
            assert_eq!(answer(view, true, None), (Some(false), "CopyDamaged"));
            assert_eq!(answer(view, false, Some("no drill was held")), (Some(false), "NotRehearsed"));
        }
    }
}
