//! What a takeover would leave behind, as far as it is known where nobody can ask the other site.

use data_embassy::api::{RecoveryPoint, epoch::PointRef, size};

use super::{Failure, register::Register, status::age};

/// Prints how old the newest copy is, how much is in it, and how fast the register changed lately.
pub async fn show(register: &Register) -> Result<(), Failure> {
    let Some(newest) = register.status().last_recovery_point else {
        println!("There is NO recovery point: nothing can be taken over.");
        return Ok(());
    };
    println!(
        "Lost or left behind: all that was written after recovery point {}/{}, which is {} old.",
        newest.epoch,
        newest.sequence,
        age(newest.time.0)
    );
    let points = register.points().await?;
    let Some((at, last)) = points
        .iter()
        .rev()
        .find(|(point, _)| point.epoch.to_string() == newest.epoch && point.sequence == newest.sequence)
    else {
        return Ok(());
    };
    println!("It holds {}. What was written since cannot be counted from here.", told(last));
    let before = points.iter().rev().find(|(point, _)| point.epoch == at.epoch && point < at);
    if let Some((earlier, before)) = before {
        println!("{}", growth(earlier, before, last));
    }
    Ok(())
}

/// A point in numbers.
pub fn told(point: &RecoveryPoint) -> String {
    format!("{} in {} files", size::format(point.spec.bytes), point.spec.files)
}

/// For a sense of what a gap may hold: what the copy before had, and how long before that was.
fn growth(earlier: &PointRef, before: &RecoveryPoint, last: &RecoveryPoint) -> String {
    let between = last.spec.cut_time.0.duration_since(before.spec.cut_time.0).as_secs();
    format!("The copy before, {earlier}, was cut {between} s earlier and held {}.", told(before))
}
