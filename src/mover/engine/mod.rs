//! The backup engine: the only place that knows `rustic_core` and its repository format.

mod backend;
mod kept;
mod key;
mod runs;
mod store;
mod usable;
mod windows;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustic_core::{
    BackupOptions, BlobId, ConfigOptions, Credentials, Id, IndexedFullStatus, KeyOptions, OpenStatus,
    PackedId, ReadSource, Repository, RepositoryBackends, RepositoryOptions, RusticError, SnapshotOptions,
    repofile::{BlobType, Chunker, IndexFile, SnapshotFile, SnapshotId, Tree},
};
use sha2::{Digest, Sha256};

use self::backend::Backend;
pub use self::{
    key::new_key,
    store::{Store, StoreError},
};
use super::failure::Failure;

pub(super) use self::runs::{Stored, runs};
pub(super) use rustic_core::{
    DataId, ErrorKind, RusticResult, TreeId, jiff,
    repofile::{Metadata, Node, NodeType},
};
pub(super) use rustic_core::{
    ReadSource as Source, ReadSourceEntry as SourceEntry, ReadSourceOpen as SourceOpen,
    RusticError as SourceError,
};

/// Constant, so that the parent of a snapshot is found wherever the mover runs.
const HOST: &str = "data-embassy";
/// Level of zstd: an eighth less processor time than at 3, the default, for 3 % more bytes (`docs/adr/0014`).
const COMPRESSION: i32 = 2;
/// Size of packs: bounds memory, and what a broken connection costs.
const PACK: &str = "16MiB";

/// An open repository.
#[derive(Debug)]
pub struct Engine {
    repository: Repository<OpenStatus>,
    backend: Arc<Backend>,
}

/// What a backup wrote.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Id of the snapshot.
    pub snapshot: Id,
    /// Id of its tree.
    pub tree: TreeId,
}

impl Engine {
    /// Opens a repository.
    pub fn open(store: Arc<dyn Store>, key: &str) -> Result<Self, Failure> {
        let key = key::parse(key)?;
        let backend = Arc::new(Backend::new(store));
        let repository = prepare(&backend)?;
        if repository.config_id().map_err(|error| classify(&backend, &error))?.is_none() {
            return Err(Failure::Damaged("it does not exist".to_owned()));
        }
        let opened = repository.open(&Credentials::Masterkey(key));
        let repository = opened.map_err(|error| unopened(&backend, &error))?;
        Ok(Self { repository, backend })
    }

    /// Opens a repository, and creates it first where there is none.
    pub fn open_or_create(store: Arc<dyn Store>, key: &str) -> Result<Self, Failure> {
        let backend = Arc::new(Backend::new(store.clone()));
        backend.ask(|store| store.create())?;
        let repository = prepare(&backend)?;
        let exists = repository.config_id().map_err(|error| classify(&backend, &error))?.is_some();
        if exists {
            return Self::open(store, key);
        }
        let mut options = ConfigOptions::default();
        // Fixed sizes leak nothing about the content through chunk lengths, and cost half the time.
        options.set_chunker = Some(Chunker::FixedSize);
        options.set_compression = Some(COMPRESSION);
        options.set_datapack_size = PACK.parse().ok();
        options.set_datapack_growfactor = Some(0);
        options.set_treepack_growfactor = Some(0);
        let credentials = Credentials::Masterkey(key::parse(key)?);
        let created = repository.init(&credentials, &KeyOptions::default(), &options);
        let repository = created.map_err(|error| classify(&backend, &error))?;
        Ok(Self { repository, backend })
    }

    /// Treats these objects, such as `data/<sha256>`, as if they were not there: they are damaged, or of no concern.
    /// What is gone, though an index names it, counts for nothing from then on, too.
    #[must_use]
    pub fn without(self, objects: impl IntoIterator<Item = String>) -> Self {
        self.backend.hide(objects);
        self
    }

    /// The store, for what is beside the engine's own files.
    pub(super) fn ask<T>(&self, request: impl Fn(&dyn Store) -> Result<T, StoreError>) -> Result<T, Failure> {
        Ok(self.backend.ask(request)?)
    }

    /// Backs up a source, on the objects that the point before needs. No snapshot is written once `veto` answers.
    pub(super) fn backup<R>(
        self,
        source: &R,
        base: Option<&BTreeSet<String>>,
        veto: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Result<(Written, Reader, u64), Failure>
    where
        R: ReadSource + 'static,
        R::Open: Send,
        R::Iter: Send,
    {
        let Self { repository, backend } = self;
        backend.set_veto(Arc::new(veto));
        let fail = |error: Box<RusticError>| classify(&backend, &error);
        let snapshot = SnapshotOptions::default().host(HOST.to_owned()).to_snapshot().map_err(fail)?;
        usable::settle(&repository, &backend, base).map_err(fail)?;
        let repository = repository.to_indexed_ids().map_err(fail)?;
        let options = BackupOptions::default();
        let made = repository.archive(&options, source, snapshot, &[PathBuf::from("/")]).map_err(fail)?;
        let written = Written { snapshot: *made.id, tree: made.tree };
        let uploaded = backend.uploaded();
        // The index now also names what was just written.
        let repository = repository.drop_index().to_indexed().map_err(fail)?;
        Ok((written, Reader::new(repository, backend), uploaded))
    }

    /// Loads the index, for reading.
    pub(super) fn reader(self) -> Result<Reader, Failure> {
        let Self { repository, backend } = self;
        let repository = usable::load(repository, &backend).map_err(|error| classify(&backend, &error))?;
        Ok(Reader::new(repository, backend))
    }

    /// Wraps the key for a password, so that other tools can open a copy of the repository.
    pub fn add_password(&self, password: &str) -> Result<(), Failure> {
        let added = self.repository.add_key(password, &KeyOptions::default());
        added.map(|_| ()).map_err(|error| classify(&self.backend, &error))
    }
}

/// Reads snapshots, trees and file contents; everything is checked against its id.
pub(super) struct Reader {
    repository: Repository<IndexedFullStatus>,
    backend: Arc<Backend>,
    /// Packs of all that was asked for.
    used: Mutex<BTreeSet<Id>>,
}

impl Reader {
    fn new(repository: Repository<IndexedFullStatus>, backend: Arc<Backend>) -> Self {
        Self { repository, backend, used: Mutex::default() }
    }

    /// The store, for what is beside the engine's own files.
    pub(super) fn ask<T>(&self, request: impl Fn(&dyn Store) -> Result<T, StoreError>) -> Result<T, Failure> {
        Ok(self.backend.ask(request)?)
    }

    /// Names and sizes of the files of a kind that are not hidden.
    pub(super) fn visible(&self, kind: &str) -> Result<Vec<(String, u64)>, Failure> {
        Ok(self.backend.visible(kind)?)
    }

    /// Names of the packs that hold what was asked for so far.
    pub(super) fn used(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().map(|id| id.to_hex().to_string()).collect()
    }

    /// Every blob of every pack that the index names.
    pub(super) fn packs(&self) -> Result<Vec<Pack>, Failure> {
        let fail = |error: Box<RusticError>| classify(&self.backend, &error);
        let mut packs = vec![];
        for index in self.repository.stream_files::<IndexFile>().map_err(fail)? {
            for pack in index.map_err(fail)?.1.packs {
                let blobs = pack.blobs.iter().map(|blob| (blob.id, blob.tpe)).collect();
                packs.push(Pack { name: pack.id.to_hex().to_string(), blobs });
            }
        }
        Ok(packs)
    }

    /// Decrypts every blob of a pack and compares it with its id.
    pub(super) fn check(&self, pack: &Pack) -> Result<(), Failure> {
        pack.blobs.iter().try_for_each(|(id, kind)| self.checked(*id, *kind).map(drop))
    }

    /// The tree of a snapshot.
    pub(super) fn snapshot(&self, id: &str) -> Result<TreeId, Failure> {
        let id: Id = id.parse().map_err(|_| Failure::Mismatch(format!("{id} is no snapshot id")))?;
        let read = self.repository.get_file::<SnapshotFile>(&SnapshotId::from(id));
        Ok(read.map_err(|error| classify(&self.backend, &error))?.tree)
    }

    /// The nodes of a directory, sorted by name.
    pub(super) fn tree(&self, id: TreeId) -> Result<Vec<Node>, Failure> {
        self.locate(&id)?;
        let content = self.checked(BlobId::from(id), BlobType::Tree)?;
        let tree: Tree = serde_json::from_slice(&content)
            .map_err(|error| Failure::Damaged(format!("directory {id} is unreadable: {error}")))?;
        Ok(tree.nodes)
    }

    /// Reads what is between two offsets of a pack with one request at most, ahead of the chunks in it.
    pub(super) fn ahead(&self, pack: &Id, from: u32, to: u32) -> Result<(), Failure> {
        let read = self.backend.part(pack, from, to - from, false);
        read.map(drop).map_err(|error| classify(&self.backend, &error))
    }

    /// A chunk of a file.
    pub(super) fn chunk(&self, id: DataId) -> Result<bytes::Bytes, Failure> {
        self.checked(BlobId::from(id), BlobType::Data)
    }

    /// Length of a chunk.
    pub(super) fn length(&self, id: DataId) -> Result<u64, Failure> {
        Ok(self.locate(&id)?.length)
    }

    /// Where a blob is stored; its pack counts as used.
    pub(super) fn locate<T: PackedId>(&self, id: &T) -> Result<Stored, Failure> {
        let found = self.repository.get_index_entry(id).map_err(|error| classify(&self.backend, &error))?;
        let (pack, from) = (*found.pack, found.location.offset);
        let ends_nowhere = || Failure::Damaged(format!("the index says too much of pack {pack}"));
        let to = from.checked_add(found.location.length).ok_or_else(ends_nowhere)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(pack);
        Ok(Stored { pack, from, to, length: found.location.data_length().into() })
    }

    fn checked(&self, id: BlobId, kind: BlobType) -> Result<bytes::Bytes, Failure> {
        let read = self.repository.get_blob_cached(&id, kind);
        let content = read.map_err(|error| classify(&self.backend, &error))?;
        if is_chunk(&id, &content) {
            Ok(content)
        } else {
            Err(Failure::Damaged(format!("the content of blob {id} does not match its id")))
        }
    }
}

/// A pack and what is in it.
#[derive(Debug)]
pub(super) struct Pack {
    /// SHA-256 of its content, in hex.
    pub(super) name: String,
    blobs: Vec<(BlobId, BlobType)>,
}

/// Whether this content has this id.
pub(super) fn is_chunk(id: &Id, content: &[u8]) -> bool {
    Id::new(Sha256::digest(content).into()) == *id
}

fn prepare(backend: &Arc<Backend>) -> Result<Repository<()>, Failure> {
    let mut options = RepositoryOptions::default();
    options.no_cache = true;
    let backends = RepositoryBackends::new(backend.clone(), None);
    Repository::new(&options, &backends).map_err(|error| classify(backend, &error))
}

/// The store's own fault says more than what the engine makes of it.
fn classify(backend: &Backend, error: &RusticError) -> Failure {
    backend.take_fault().map_or_else(|| Failure::Damaged(error.display_log()), Failure::Store)
}

/// Opening fails without a fault of the store only where the key does not decrypt the configuration.
fn unopened(backend: &Backend, error: &RusticError) -> Failure {
    backend.take_fault().map_or_else(|| Failure::Key(error.display_log()), Failure::Store)
}
