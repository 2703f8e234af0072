//! Where a vault keeps its objects, under names with '/': in a directory of its own, or in a bucket that several vaults share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

use super::{
    disk::{Published, Unfinished},
    refusal::Refusal,
};

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name below the folder that was listed.
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// The content of an object, as it comes.
pub type Parts = BoxStream<'static, io::Result<Bytes>>;

/// Durable objects. What is created is never overwritten. All but `stream` block.
pub trait Store: Send + Sync {
    /// A whole small object.
    fn read(&self, object: &str) -> io::Result<Vec<u8>>;

    /// Several of them, in their order.
    fn read_each(&self, objects: &[String]) -> io::Result<Vec<Vec<u8>>> {
        objects.iter().map(|object| self.read(object)).collect()
    }

    /// Bytes of an object; nothing if there is none.
    fn size(&self, object: &str) -> io::Result<Option<u64>>;

    /// `count` bytes of an object, beginning at `from`.
    fn stream(&self, object: &str, from: u64, count: u64) -> BoxFuture<'static, io::Result<Parts>>;

    /// All objects below a folder; none if it does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<Listed>>;

    /// Names of the folders that lie directly in a folder.
    fn folders(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes a folder: from now on it is there, though it holds nothing.
    fn make(&self, folder: &str) -> io::Result<()>;

    /// Whether the folder was made.
    fn is_made(&self, folder: &str) -> io::Result<bool>;

    /// Writes a whole small object, if there is none.
    fn create(&self, object: &str, content: &[u8]) -> io::Result<Published>;

    /// Writes a whole small object, whatever was there.
    fn replace(&self, object: &str, content: &[u8]) -> io::Result<()>;

    /// Writes a whole small object if `before` is still what is there; false if it is not.
    fn exchange(&self, object: &str, before: Option<&[u8]>, content: &[u8]) -> io::Result<bool>;

    /// A new local file for an upload.
    fn begin(&self) -> io::Result<(Unfinished, File)>;

    /// Gives an upload its name, if that is free.
    fn publish(&self, upload: Unfinished, object: &str) -> io::Result<Published>;

    /// Puts an upload in the place of a damaged object, which is kept under a free name that begins with `aside`.
    fn replace_damaged(&self, upload: Unfinished, object: &str, aside: &str) -> io::Result<()>;

    /// Returns when an object that another request published is durable.
    fn settle(&self, object: &str) -> io::Result<()>;

    /// Removes an object and gives its bytes back; one that is gone already frees nothing.
    fn remove(&self, object: &str) -> io::Result<u64>;

    /// Whether other vaults work on the same objects at the same time.
    fn is_shared(&self) -> bool;

    /// Whether what is stored is still kept as it was promised when the store was opened; why not, if not.
    fn keeps_its_promise(&self) -> Result<(), String>;
}

/// A document. What the disk damaged is served all the same: its reader checks the signature, and so can say which it was.
pub fn text_of(store: &dyn Store, object: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&store.read(object)?).into_owned())
}

/// A whole small object; nothing if there is none.
pub fn read_if_any(store: &dyn Store, object: &str) -> io::Result<Option<Vec<u8>>> {
    match store.read(object) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same document may come again, another one may not take its place.
pub fn same(store: &dyn Store, object: &str, text: &str) -> Result<Published, Refusal> {
    let stored = text_of(store, object)?;
    if stored == text { Ok(Published::Exists) } else { Err(Refusal::Different { text: stored }) }
}

/// Whether there is such an object.
pub fn exists(store: &dyn Store, object: &str) -> io::Result<bool> {
    Ok(store.size(object)?.is_some())
}

/// The numbers of documents such as `17.json`, in order.
pub fn numbers_in(store: &dyn Store, folder: &str) -> io::Result<Vec<i64>> {
    let listed = store.list(folder)?;
    let mut numbers: Vec<i64> = listed.iter().filter_map(|entry| number_of(&entry.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The same for each folder in a folder.
pub fn numbers_below(store: &dyn Store, folder: &str) -> io::Result<BTreeMap<String, BTreeSet<i64>>> {
    let mut found: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for entry in store.list(folder)? {
        let Some((name, file)) = entry.name.split_once('/') else { continue };
        if let Some(number) = number_of(file) {
            found.entry(name.to_owned()).or_default().insert(number);
        }
    }
    Ok(found)
}

fn number_of(file: &str) -> Option<i64> {
    file.strip_suffix(".json")?.parse().ok()
}
