//! The vault's own time: seconds that it ran, over all its starts. Nobody's wall clock makes anything older.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::disk::Workshop;

/// The time, kept on disk; at a stop, what ran since it was last written is lost.
pub struct Clock {
    file: PathBuf,
    kept: Mutex<(Kept, Instant)>,
}

/// What the disk says, in seconds.
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
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let kept = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let text = format!(
                    "{} is damaged ({error}): write {{\"ran\":0,\"swept\":0}} into it, and everything counts as young",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, kept: Mutex::new((kept, Instant::now())) })
    }

    /// Seconds so far.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.read().ran
    }

    /// Seconds since the last round began.
    #[must_use]
    pub fn since_sweep(&self) -> i64 {
        let kept = self.read();
        kept.ran.saturating_sub(kept.swept)
    }

    /// Writes the time down. Blocking.
    pub fn keep(&self, workshop: &Workshop) -> io::Result<()> {
        workshop.replace(&self.file, &serde_json::to_vec(&self.read())?)
    }

    /// A round begins now.
    pub fn begin_sweep(&self) {
        let ran = self.read().ran;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.swept = ran;
    }

    fn read(&self) -> Kept {
        let (kept, start) = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let ran = kept.ran.saturating_add(i64::try_from(start.elapsed().as_secs()).unwrap_or(i64::MAX));
        Kept { ran, ..kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_where_it_was_written_down() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(root.path().join("tmp")).unwrap();
        let file = root.path().join("clock");
        assert_eq!(Clock::open(file.clone()).unwrap().now(), 0);
        fs::write(&file, r#"{"ran":86400,"swept":400}"#).unwrap();
        let clock = Clock::open(file.clone()).unwrap();
        assert!((86_400..86_460).contains(&clock.now()) && clock.since_sweep() >= 86_000);
        clock.begin_sweep();
        clock.keep(&workshop).unwrap();
        let clock = Clock::open(file.clone()).unwrap();
        assert!(clock.now() >= 86_400 && clock.since_sweep() < 60);
        fs::write(&file, "long ago").unwrap();
        assert!(Clock::open(file).is_err());
    }
}
