//! The first copy, into a folder that is carried: the volumes are read here, and the folder is at the other end of this
//! process's standard input and output. It needs no network and leaves nothing behind.

use std::{
    io::{Stdin, Stdout, stdin, stdout},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{
    arguments::FirstCopyArguments,
    backup::{BackupParameters, backup},
    engine::{Engine, Store, StoreError},
    failure::Failure,
    outcome::Outcome,
};
use crate::carry::line::{Far, LineError};

/// The folder, as the engine sees it.
#[derive(Debug)]
struct Line(Mutex<Far<Stdin, Stdout>>);

impl Line {
    fn ask<T>(
        &self,
        request: impl FnOnce(&mut Far<Stdin, Stdout>) -> Result<T, LineError>,
    ) -> Result<T, StoreError> {
        let mut far = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(request(&mut far)?)
    }
}

impl From<LineError> for StoreError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::NotFound(what) => Self::Damaged(what),
            // Nobody comes back at the other end of a pipe.
            LineError::Broken(message) => Self::Refused { reason: "Disconnected".to_owned(), message },
        }
    }
}

impl Store for Line {
    fn create(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn list(&self, kind: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.ask(|far| far.list(kind))
    }

    fn condemned(&self) -> Result<Vec<String>, StoreError> {
        // A folder frees nothing.
        Ok(vec![])
    }

    fn read(&self, kind: &str, name: &str) -> Result<Bytes, StoreError> {
        self.ask(|far| far.read(kind, name).map(Bytes::from))
    }

    fn read_range(&self, kind: &str, name: &str, offset: u32, length: u32) -> Result<Bytes, StoreError> {
        self.ask(|far| far.range(kind, name, offset.into(), length.into()).map(Bytes::from))
    }

    fn write(&self, kind: &str, name: &str, content: Bytes) -> Result<(), StoreError> {
        self.ask(|far| far.write(kind, name, &content))
    }
}

/// Copies the volumes into the folder. The other end is told how it went, too.
pub(super) fn run(arguments: &FirstCopyArguments) -> Result<Outcome, Failure> {
    if arguments.wait {
        // Until the Pod is stopped.
        loop {
            std::thread::park();
        }
    }
    let (far, hello) = Far::begin(stdin(), stdout()).map_err(StoreError::from)?;
    let line = Arc::new(Line(Mutex::new(far)));
    let done = copy(arguments, line.clone(), &hello.key);
    let outcome = match &done {
        Ok(outcome) => outcome.clone(),
        Err(failure) => Outcome::failed(failure.reason(), &failure.to_string()),
    };
    let text = serde_json::to_string(&outcome).map_err(|error| Failure::Internal(error.to_string()))?;
    let told = line.ask(|far| far.finish(text));
    let outcome = done?;
    told?;
    Ok(outcome)
}

fn copy(arguments: &FirstCopyArguments, line: Arc<Line>, key: &str) -> Result<Outcome, Failure> {
    let parameters = BackupParameters {
        volumes: arguments.volumes.clone(),
        claims: arguments.claims.clone(),
        objects: None,
        object_count: 0,
        inventory_base: None,
    };
    Ok(Outcome::Backup(backup(Engine::open_or_create(line, key)?, &parameters)?))
}
