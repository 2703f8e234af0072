//! `rustic_core`'s backend over a [`Store`]: retries, checks names against contents, keeps the first fault.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use sha2::{Digest, Sha256};

use super::{
    kept::Kept,
    store::{Store, StoreError},
    windows::Windows,
};

/// Waits between tries, beyond the store's own quick ones: a vault that moves to another node is back by then.
const WAITS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// Asked before a snapshot is written; an answer is why it must not be.
pub(super) type Veto = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The backend. Nothing is ever removed through it: an index file that the engine replaces is not seen any more by this process.
pub(super) struct Backend {
    store: Arc<dyn Store>,
    fault: Mutex<Option<StoreError>>,
    veto: OnceLock<Veto>,
    /// Objects such as `data/<sha256>` that are treated as if they were not there.
    hidden: Mutex<HashSet<String>>,
    uploaded: AtomicU64,
    /// Of all packs, from the first look at one on.
    sizes: Mutex<Option<HashMap<Id, u32>>>,
    windows: Windows,
    indexes: Kept,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl Backend {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            fault: Mutex::new(None),
            veto: OnceLock::new(),
            hidden: Mutex::default(),
            uploaded: AtomicU64::new(0),
            sizes: Mutex::default(),
            windows: Windows::default(),
            indexes: Kept::default(),
        }
    }

    /// The first fault of the store that retries did not cure, once.
    pub(super) fn take_fault(&self) -> Option<StoreError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has every snapshot asked for before it is written.
    pub(super) fn set_veto(&self, veto: Veto) {
        // Set once by the one backup of a process.
        let _ = self.veto.set(veto);
    }

    /// Packs that the vault is about to free, such as `data/<sha256>`.
    pub(super) fn condemned(&self) -> RusticResult<Vec<String>> {
        let names = self.ask(|store| store.condemned()).map_err(failed)?;
        Ok(names.iter().map(|name| format!("{}/{name}", FileType::Pack.dirname())).collect())
    }

    /// Treats these objects, such as `data/<sha256>`, as if they were not there.
    pub(super) fn hide(&self, objects: impl IntoIterator<Item = String>) {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).extend(objects);
    }

    /// Names and sizes of the files of a kind that are not hidden.
    pub(super) fn visible(&self, kind: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut held = self.ask(|store| store.list(kind))?;
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if !hidden.is_empty() {
            held.retain(|(name, _)| !hidden.contains(&format!("{kind}/{name}")));
        }
        Ok(held)
    }

    /// Bytes written so far.
    pub(super) fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Runs a request until it is answered, at most for some minutes.
    pub(super) fn ask<T>(
        &self,
        request: impl Fn(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut waits = WAITS.iter();
        loop {
            match request(&*self.store) {
                Err(StoreError::Unreachable(why)) => match waits.next() {
                    Some(wait) => {
                        tracing::warn!(why, "the vault does not answer; trying again");
                        thread::sleep(*wait);
                    }
                    None => return Err(self.keep(StoreError::Unreachable(why))),
                },
                Err(refused) => return Err(self.keep(refused)),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    fn keep(&self, error: StoreError) -> StoreError {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert_with(|| error.clone());
        error
    }

    fn size(&self, id: &Id) -> RusticResult<Option<u32>> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *sizes {
            Some(known) => known,
            unknown => unknown.insert(self.list_with_size(FileType::Pack)?.into_iter().collect()),
        };
        Ok(known.get(id).copied())
    }

    /// A part of a pack; what is read is kept for its neighbours.
    pub(super) fn part(&self, id: &Id, offset: u32, length: u32, listing: bool) -> RusticResult<Bytes> {
        if let Some(held) = self.windows.get(id, offset, length) {
            return Ok(held);
        }
        let Some(size) = self.size(id)? else { return self.range(id, offset, length) };
        let (from, to) = Windows::span(offset, length, size, listing);
        let window = self.range(id, from, to - from)?;
        let part = window.slice((offset - from) as usize..(offset - from + length) as usize);
        self.windows.put(*id, from, window);
        Ok(part)
    }

    /// Without it, what a copy just wrote would be read back a listing at a time.
    fn learn(&self, id: Id, length: usize) -> RusticResult<()> {
        let size = u32::try_from(length).map_err(|_| damaged("a pack is too large"))?;
        if let Some(known) = &mut *self.sizes.lock().unwrap_or_else(PoisonError::into_inner) {
            known.insert(id, size);
        }
        Ok(())
    }

    fn range(&self, id: &Id, offset: u32, length: u32) -> RusticResult<Bytes> {
        let name = id.to_hex();
        let kind = FileType::Pack.dirname();
        let read = self.ask(|store| store.read_range(kind, &name, offset, length)).map_err(failed)?;
        if read.len() == length as usize { Ok(read) } else { Err(damaged("the vault sent a part too short")) }
    }
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        "vault".to_owned()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let held = self.visible(kind.dirname()).map_err(failed)?;
        if kind == FileType::Config {
            return Ok(held.first().map(|_| (Id::default(), 0)).into_iter().collect());
        }
        held.iter()
            .map(|(name, size)| {
                let size = u32::try_from(*size).map_err(|_| damaged("a file of the vault is too large"))?;
                Ok((name.parse()?, size))
            })
            .collect()
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        if let Some(held) = self.indexes.get(id).filter(|_| kind == FileType::Index) {
            return Ok(held);
        }
        let name = file_name(kind, id);
        let content = self.ask(|store| store.read(kind.dirname(), &name)).map_err(failed)?;
        // A vault could serve one valid file under the name of another.
        let named_by_content = matches!(kind, FileType::Index | FileType::Snapshot | FileType::Pack);
        if named_by_content && Id::new(Sha256::digest(&content).into()) != *id {
            return Err(damaged("a file's content does not match its name"));
        }
        if kind == FileType::Index {
            self.indexes.put(*id, content.clone());
        }
        Ok(content)
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if kind != FileType::Pack {
            let all = self.read_full(kind, id)?;
            let (from, to) = (offset as usize, offset as usize + length as usize);
            return if to <= all.len() {
                Ok(all.slice(from..to))
            } else {
                Err(damaged("a file is too short"))
            };
        }
        self.part(id, offset, length, cacheable)
    }

    fn warmup_path(&self, _: FileType, id: &Id) -> String {
        id.to_hex().to_string()
    }
}

impl WriteBackend for Backend {
    fn create(&self) -> RusticResult<()> {
        self.ask(|store| store.create()).map_err(failed)
    }

    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let veto = self.veto.get().filter(|_| kind == FileType::Snapshot).and_then(|veto| veto());
        if let Some(why) = veto {
            return Err(RusticError::new(ErrorKind::InputOutput, why));
        }
        let content: Bytes = content.into_vec().concat().into();
        let name = file_name(kind, id);
        self.ask(|store| store.write(kind.dirname(), &name, content.clone())).map_err(failed)?;
        if kind == FileType::Pack {
            self.learn(*id, content.len())?;
        }
        self.uploaded.fetch_add(content.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        if kind == FileType::Index {
            self.hide([object(kind, id)]);
            return Ok(());
        }
        Err(RusticError::new(ErrorKind::AppendOnly, "The mover never removes files of a repository."))
    }
}

/// As inventories name it, such as `data/<sha256>`.
pub(super) fn object(kind: FileType, id: &Id) -> String {
    format!("{}/{}", kind.dirname(), id.to_hex().as_str())
}

fn file_name(kind: FileType, id: &Id) -> String {
    if kind == FileType::Config { "config".to_owned() } else { id.to_hex().to_string() }
}

fn failed(error: StoreError) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, "The vault failed a request.", error)
}

fn damaged(what: &str) -> Box<RusticError> {
    RusticError::new(ErrorKind::Verification, what)
}
