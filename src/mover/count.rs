//! Counts what the volumes hold before anything is served from them. A disk that was replaced, or emptied by hand, is found by it; that
//! the bytes themselves are right was shown by the restore.

use std::{collections::HashSet, os::unix::fs::MetadataExt, path::Path};

use walkdir::WalkDir;

use super::failure::Failure;

/// Fails if the claims hold fewer files, or fewer bytes, than the manifest says.
pub(super) fn assert_whole(volumes: &Path, claims: &[String], files: u64, bytes: u64) -> Result<(), Failure> {
    let (expected_files, expected_bytes) = (files, bytes);
    let (mut files, mut bytes) = (0, 0);
    for claim in claims {
        let root = volumes.join(claim);
        if !root.is_dir() {
            return Err(Failure::VolumeMissing(claim.clone()));
        }
        let mut linked = HashSet::new();
        for entry in WalkDir::new(&root) {
            let entry = entry.map_err(|error| unreadable(&root, error))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let found = entry.metadata().map_err(|error| unreadable(&root, error))?;
            files += 1;
            if found.nlink() == 1 || linked.insert(found.ino()) {
                bytes += found.len();
            }
        }
    }
    if files < expected_files || bytes < expected_bytes {
        return Err(Failure::Incomplete { files, bytes, expected_files, expected_bytes });
    }
    Ok(())
}

fn unreadable(root: &Path, error: walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(root).to_owned();
    Failure::reading(path, error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_missing_is_found_and_hard_links_count_as_a_backup_counts_them() {
        let volumes = tempfile::tempdir().unwrap();
        let root = volumes.path().join("data");
        fs::create_dir_all(root.join("base")).unwrap();
        fs::write(root.join("base/1"), [0; 100]).unwrap();
        fs::hard_link(root.join("base/1"), root.join("base/2")).unwrap();
        fs::write(root.join("version"), "17").unwrap();
        let claims = ["data".to_owned()];
        let whole = |files, bytes| assert_whole(volumes.path(), &claims, files, bytes);
        assert!(whole(3, 102).is_ok());
        assert!(matches!(whole(4, 102), Err(Failure::Incomplete { files: 3, bytes: 102, .. })));
        assert!(whole(3, 103).is_err());
        fs::remove_dir_all(root.join("base")).unwrap();
        assert!(matches!(whole(3, 102), Err(Failure::Incomplete { files: 1, bytes: 2, .. })));
        fs::remove_dir_all(root).unwrap();
        assert!(matches!(whole(0, 0), Err(Failure::VolumeMissing(_))), "a claim that is not there at all");
    }
}
