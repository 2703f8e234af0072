//! What only a diverged site holds: which two points tell it, and how people are told before they decide.

use super::{failover::volumes, manifest::Manifest};
use crate::api::{
    epoch::PointRef,
    failover_record::{FailoverRecordSpec, Role},
    recovery_point::Difference,
    size,
};

/// The point that a diverged site keeps its bytes as.
#[must_use]
pub fn kept(record: &FailoverRecordSpec) -> Option<&PointRef> {
    let at = volumes::clean_at(&record.volumes).filter(|_| record.role == Role::Diverged)?;
    Some(&at.point)
}

/// The last point of the same epoch on which the ruling site's line was built: both lie in one repository, so that the
/// files can be told apart. None if the lines part in another epoch.
#[must_use]
pub fn base(kept: &PointRef, ruling: &Manifest) -> Option<PointRef> {
    let line = ruling.ancestry.iter().rev().map(|at| &at.point);
    line.into_iter().find(|point| point.epoch == kept.epoch && point.sequence < kept.sequence).cloned()
}

/// What differs, in a sentence.
#[must_use]
pub fn in_words(difference: &Difference) -> String {
    let Difference { base, added, changed, removed, bytes, .. } = difference;
    let files = added + changed;
    let size = size::format(*bytes);
    let written = match (&difference.first_written, &difference.last_written) {
        (Some(first), Some(last)) => format!("; written from {} to {}", first.0, last.0),
        _ => String::new(),
    };
    format!(
        "since recovery point {base} it wrote {size} in {files} files ({changed} changed, {added} new) and removed \
         {removed}{written}"
    )
}

/// What is known without looking into the files: how much there is on either side, and of when.
#[must_use]
pub fn counts(kept: &Manifest, ruling: Option<&Manifest>) -> String {
    let told = |manifest: &Manifest| {
        let contents = &manifest.contents;
        let size = size::format(contents.bytes);
        format!("{size} in {} files as of {}", contents.files, manifest.cut_time.0)
    };
    let theirs = ruling.map_or_else(String::new, |ruling| {
        format!("; {} has {} (recovery point {})", ruling.point.epoch.site, told(ruling), ruling.point)
    });
    format!(
        "it has {}{theirs}. The two lines part in an earlier epoch: which files differ is not known",
        told(kept)
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::api::failover_record::DataPoint;
    use crate::plan::manifest::of_nothing;

    fn manifest(point: &str, ancestry: &[&str]) -> Manifest {
        let at = |point: &&str| DataPoint { point: point.parse().unwrap(), digest: String::new() };
        let mut manifest = of_nothing(point);
        manifest.contents.bytes = 2048;
        manifest.contents.files = 7;
        manifest.ancestry = ancestry.iter().map(at).collect();
        manifest
    }

    #[test]
    fn the_base_is_the_last_point_of_the_same_epoch_on_the_ruling_line() {
        let kept = "3/tallinn/9".parse().unwrap();
        let ruling = manifest("5/luxembourg/2", &["1/tallinn/4", "2/luxembourg/6", "3/tallinn/8"]);
        assert_eq!(base(&kept, &ruling), Some("3/tallinn/8".parse().unwrap()));
        let elsewhere = manifest("5/luxembourg/2", &["1/tallinn/4", "2/luxembourg/6"]);
        assert_eq!(base(&kept, &elsewhere), None, "the lines part in another repository");
    }

    #[test]
    fn people_read_what_and_when() {
        let at = |second| Some(Time(Timestamp::from_second(second).unwrap()));
        let difference = Difference {
            base: "1/tallinn/8".to_owned(),
            added: 1,
            changed: 3,
            removed: 2,
            bytes: 1536,
            first_written: at(0),
            last_written: at(60),
            examples: vec![],
        };
        let wanted = "since recovery point 1/tallinn/8 it wrote 1.5 KiB in 4 files (3 changed, 1 new) and removed 2; \
                      written from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z";
        assert_eq!(in_words(&difference), wanted);
    }

    #[test]
    fn without_files_people_read_counts_and_that_no_more_is_known() {
        let text = counts(&manifest("3/tallinn/1", &[]), Some(&manifest("4/luxembourg/1", &[])));
        assert!(text.contains("2 KiB in 7 files") && text.contains("luxembourg has"), "{text}");
        assert!(text.contains("which files differ is not known"), "{text}");
    }
}
