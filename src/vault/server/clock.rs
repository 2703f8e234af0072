//! The vault's own time: seconds that it ran, over all its starts. Nobody's wall clock makes anything older.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::store::{Store, read_if_any};

/// Where the time is kept.
const OBJECT: &str = "clock";

/// The time, kept in the store; at a stop, what ran since it was last written is lost. Of several vaults on one store one writes it
/// down and the others take it from there, so that it never goes faster than time.
pub struct Clock {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
}

/// What was read or written last.
struct Known {
    text: Option<Vec<u8>>,
    kept: Kept,
    since: Instant,
}

/// What the store says, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// That the vault ran.
    ran: i64,
    /// When the last round began that frees bytes.
    swept: i64,
}

impl Clock {
    /// Reads how long the vault ran before.
    pub fn open(store: Arc<dyn Store>) -> io::Result<Self> {
        let known = read(&*store)?;
        Ok(Self { store, known: Mutex::new(known) })
    }

    /// Seconds so far.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.known().now().ran
    }

    /// Seconds since the last round began.
    #[must_use]
    pub fn since_sweep(&self) -> i64 {
        let now = self.known().now();
        now.ran.saturating_sub(now.swept)
    }

    /// Writes the time down, and that a round begins now if it does; false if another vault has done so meanwhile, whose time holds
    /// then and whose round it is. Blocking.
    pub fn keep(&self, begins_sweep: bool) -> io::Result<bool> {
        let (text, mut kept, since) = {
            let known = self.known();
            let now = known.now();
            // The part of a second that has passed counts the next time.
            let counted = u64::try_from(now.ran - known.kept.ran).unwrap_or(0);
            (known.text.clone(), now, known.since + Duration::from_secs(counted))
        };
        if begins_sweep {
            kept.swept = kept.ran;
        }
        let written = serde_json::to_vec(&kept)?;
        let is_ours = self.store.exchange(OBJECT, text.as_deref(), &written)?;
        let next = if is_ours { Known { text: Some(written), kept, since } } else { read(&*self.store)? };
        *self.known() = next;
        Ok(is_ours)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn now(&self) -> Kept {
        let passed = i64::try_from(self.since.elapsed().as_secs()).unwrap_or(i64::MAX);
        Kept { ran: self.kept.ran.saturating_add(passed), ..self.kept }
    }
}

fn read(store: &dyn Store) -> io::Result<Known> {
    let text = read_if_any(store, OBJECT)?;
    let kept = text.as_deref().map_or_else(|| Ok(Kept::default()), serde_json::from_slice).map_err(|error| {
        let text = format!(
            "'{OBJECT}' in the store is damaged ({error}): write {{\"ran\":0,\"swept\":0}} into it, and everything counts as young"
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Known { text, kept, since: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::server::directory::Directory;

    fn store(root: &tempfile::TempDir) -> Arc<dyn Store> {
        Arc::new(Directory::open(root.path()).unwrap())
    }

    #[test]
    fn time_goes_on_where_it_was_written_down() {
        let root = tempfile::tempdir().unwrap();
        let store = store(&root);
        let open = || Clock::open(Arc::clone(&store));
        assert_eq!(open().unwrap().now(), 0);
        store.replace(OBJECT, br#"{"ran":86400,"swept":400}"#).unwrap();
        let clock = open().unwrap();
        assert!((86_400..86_460).contains(&clock.now()) && clock.since_sweep() >= 86_000);
        assert!(clock.keep(true).unwrap());
        let clock = open().unwrap();
        assert!(clock.now() >= 86_400 && clock.since_sweep() < 60);
        store.replace(OBJECT, b"long ago").unwrap();
        assert!(open().is_err());
    }

    #[test]
    fn one_of_two_vaults_writes_and_the_other_follows() {
        let root = tempfile::tempdir().unwrap();
        let store = store(&root);
        let [one, other] =
            [Clock::open(Arc::clone(&store)).unwrap(), Clock::open(Arc::clone(&store)).unwrap()];
        one.known().kept.ran = 1_000;
        assert!(one.keep(true).unwrap());
        assert!(!other.keep(true).unwrap(), "the round is the first one's");
        assert!((1_000..1_060).contains(&other.now()) && other.since_sweep() < 60);
        other.known().kept.ran += 1;
        assert!(other.keep(false).unwrap(), "the next time may be its own");
        assert!(!one.keep(false).unwrap());
    }
}
