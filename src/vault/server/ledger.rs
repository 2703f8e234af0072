//! When each object was seen for the first time, by the vault's own time. What is on no list was never seen, so it is young.

use std::{collections::HashMap, io};

use super::{disk::Published, store::Store};

/// The lists of one embassy. Each is written once.
pub struct Ledger {
    folder: String,
    last: i64,
    seen: HashMap<String, i64>,
}

impl Ledger {
    /// Reads all lists. Blocking.
    pub fn read(store: &dyn Store, folder: &str) -> io::Result<Self> {
        let mut ledger = Self { folder: folder.to_owned(), last: 0, seen: HashMap::new() };
        let listed = store.list(folder)?;
        let mut numbers: Vec<i64> =
            listed.iter().filter_map(|entry| entry.name.strip_suffix(".txt")?.parse().ok()).collect();
        numbers.sort_unstable();
        let objects: Vec<String> = numbers.iter().map(|number| ledger.object(*number)).collect();
        for (number, content) in numbers.into_iter().zip(store.read_each(&objects)?) {
            let text = String::from_utf8(content)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
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
        store: &dyn Store,
        objects: impl Iterator<Item = String>,
        now: i64,
    ) -> io::Result<()> {
        let new: Vec<String> = objects.filter(|object| !self.seen.contains_key(object)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let text = format!("{now}\n{}\n", new.join("\n"));
        if store.create(&self.object(self.last + 1), text.as_bytes())? == Published::Exists {
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

    fn object(&self, number: i64) -> String {
        format!("{}/{number}.txt", self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::server::directory::Directory;

    fn objects(names: &[&str]) -> impl Iterator<Item = String> {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_first_sight_counts_and_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        let mut ledger = Ledger::read(&store, "seen").unwrap();
        ledger.note(&store, objects(&["a", "b"]), 100).unwrap();
        ledger.note(&store, objects(&["a", "b"]), 200).unwrap();
        ledger.note(&store, objects(&["a", "c"]), 300).unwrap();
        let ledger = Ledger::read(&store, "seen").unwrap();
        let ages = ["a", "b", "c", "d"].map(|object| ledger.age(object, 400));
        assert_eq!(ages, [300, 300, 100, 0]);
        assert_eq!(store.list("seen").unwrap().len(), 2, "nothing new, no list");
    }

    #[test]
    fn a_spoiled_list_makes_nothing_old() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        store.create("seen/1.txt", b"x\na\n").unwrap();
        assert_eq!(Ledger::read(&store, "seen").unwrap().age("a", 1_000_000), 0);
    }
}
