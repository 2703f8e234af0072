//! What must hold of every write and before every start, asserted in release builds: a defect stops this embassy with a
//! clear condition instead of doing harm.

use crate::api::failover_record::{FailoverRecordSpec, Role};

/// A step that the protocol does not allow; this is a defect of the operator, and nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} (a defect: nothing was done; please report it with the FailoverRecord)")]
pub struct Violation(String);

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

/// Checks a change of the record.
pub fn check_write(old: &FailoverRecordSpec, new: &FailoverRecordSpec) -> Result<(), Violation> {
    ensure(new.epoch >= old.epoch, || {
        format!("I3: the epoch would go back from {} to {}", old.epoch, new.epoch)
    })?;
    let takes = new.role.rules() && (!old.role.rules() || new.epoch != old.epoch);
    ensure(!takes || new.epoch > old.epoch || old.role.rules(), || {
        format!("I3: {} would rule in an epoch that it already had, {}", new.site, new.epoch)
    })?;
    ensure(!new.role.rules() || new.epoch.site == new.site, || {
        format!("I4: {} would rule in {}, which is not its own", new.site, new.epoch)
    })?;
    ensure(new.site == old.site, || "the record would change its site".to_owned())?;
    let gives_up = new.reclone && !old.reclone;
    ensure(!gives_up || old.role == Role::Diverged, || {
        "I8: bytes would be given up that no approval names".to_owned()
    })
}

/// Checks that the register may run at this site.
pub fn check_start(record: &FailoverRecordSpec) -> Result<(), Violation> {
    ensure(record.role.rules(), || format!("I4: a {} site would start the register", record.role.as_str()))?;
    ensure(record.epoch.site == record.site, || format!("I4: it would run in {}", record.epoch))?;
    ensure(!record.held(), || "I5: a held site would start the register".to_owned())
}

/// Checks that a restore may overwrite the volumes of this site; where it rules, only those that are known not to be whole.
pub fn check_restore(record: &FailoverRecordSpec, discard: bool) -> Result<(), Violation> {
    use crate::api::failover_record::VolumeCondition::{Live, Restoring};
    ensure(!record.role.rules() || record.volumes.condition == Restoring, || {
        format!("I8: a {} site would overwrite its volumes", record.role.as_str())
    })?;
    ensure(record.volumes.condition != Live || (discard && record.reclone), || {
        "I8: bytes would be overwritten that no recovery point holds".to_owned()
    })
}
