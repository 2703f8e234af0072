//! When each object was seen for the first time, by the vault's own time. What is on no list was never seen, so it is young.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::disk::{Published, Workshop, names_in};

/// The lists of one embassy. Each is written once.
pub struct Ledger {
    folder: PathBuf,
    last: i64,
    seen: HashMap<String, i64>,
}

impl Ledger {
    /// Reads all lists. Blocking.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut ledger = Self { folder: folder.to_owned(), last: 0, seen: HashMap::new() };
        let mut numbers: Vec<i64> =
            names_in(folder)?.iter().filter_map(|name| name.strip_suffix(".txt")?.parse().ok()).collect();
        numbers.sort_unstable();
        for number in numbers {
            let text = fs::read_to_string(ledger.file(number))?;
            let mut lines = text.lines();
            // A list whose time cannot be read makes nothing old.
            let time = lines.next().and_then(|line| line.parse().ok());
            for object in lines.filter(|_| time.is_some()) {
                ledger.seen.entry(object.to_owned()).or_insert(time.unwrap_or(i64::MAX));
            }
            ledger.last = number;
        }
        Ok(ledger)
    }

    /// Writes down what was not seen before.
    pub fn note(
        &mut self,
        objects: impl Iterator<Item = String>,
        now: i64,
        workshop: &Workshop,
    ) -> io::Result<()> {
        let new: Vec<String> = objects.filter(|object| !self.seen.contains_key(object)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let text = format!("{now}\n{}\n", new.join("\n"));
        if workshop.create(&self.file(self.last + 1), text.as_bytes())? == Published::Exists {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "two vaults write one list of what was seen",
            ));
        }
        self.last += 1;
        self.seen.extend(new.into_iter().map(|object| (object, now)));
        Ok(())
    }

    /// Seconds since it was seen first; none if it never was.
    #[must_use]
    pub fn age(&self, object: &str, now: i64) -> i64 {
        self.seen.get(object).map_or(0, |seen| now.saturating_sub(*seen).max(0))
    }

    fn file(&self, number: i64) -> PathBuf {
        self.folder.join(format!("{number}.txt"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(names: &[&str]) -> impl Iterator<Item = String> {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_first_sight_counts_and_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let folder = root.path().join("seen");
        let mut ledger = Ledger::read(&folder).unwrap();
        ledger.note(objects(&["a", "b"]), 100, &workshop).unwrap();
        ledger.note(objects(&["a", "b"]), 200, &workshop).unwrap();
        ledger.note(objects(&["a", "c"]), 300, &workshop).unwrap();
        let ledger = Ledger::read(&folder).unwrap();
        let ages = ["a", "b", "c", "d"].map(|object| ledger.age(object, 400));
        assert_eq!(ages, [300, 300, 100, 0]);
        assert_eq!(names_in(&folder).unwrap().len(), 2, "nothing new, no list");
    }

    #[test]
    fn a_spoiled_list_makes_nothing_old() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("1.txt"), "x\na\n").unwrap();
        assert_eq!(Ledger::read(root.path()).unwrap().age("a", 1_000_000), 0);
    }
}
