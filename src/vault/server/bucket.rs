//! The store in a bucket of an S3 object store: any number of vaults at a time, none of which keeps anything itself. Blocks on the
//! runtime that it was opened in, so it must not be used where blocking is not allowed.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use opendal_core::{EntryMode, ErrorKind, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use opendal_layer_retry::RetryLayer;
use opendal_layer_timeout::TimeoutLayer;
use opendal_service_s3::S3;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::trust::tls::storage_client;

use super::{
    VaultError,
    disk::{Published, Unfinished, Workshop},
    protection::{Promise, Unprotected},
    store::{Listed, Parts, Store},
};

/// Bytes of one request of a large upload, the fewest that S3 takes. What is smaller goes in one.
const PART: usize = 5 << 20;
/// Requests of one upload at a time.
const CONCURRENT: usize = 2;
/// Uploads at a time: each holds three parts in memory. More wait on disk.
const UPLOADS: usize = 3;
/// Documents that are read at a time.
const READS: usize = 16;
/// An object store that does not answer a request by then is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for a part of a large upload.
const PATIENCE_FOR_BYTES: Duration = Duration::from_mins(2);
/// Marks a folder that was made.
const MADE: &str = "made";

/// Where the bucket is.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct BucketArguments {
    /// Keep the store in this bucket of an S3 object store instead of in `--root`, which then holds uploads under way only. Any number of
    /// vaults may use it at a time. The keys come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from a web identity.
    #[arg(long, env = "BUCKET", requires = "bucket_endpoint")]
    pub bucket: Option<String>,
    /// Address of the object store: `https://s3.example.com`.
    #[arg(long, env = "BUCKET_ENDPOINT")]
    pub bucket_endpoint: Option<String>,
    /// Region that the bucket's requests are signed for.
    #[arg(long, env = "BUCKET_REGION", default_value = "us-east-1")]
    pub bucket_region: String,
    /// Folder within the bucket. Its root without.
    #[arg(long, env = "BUCKET_FOLDER", default_value = "")]
    pub bucket_folder: String,
    /// File with the certificates of the authorities that the object store's certificate must chain to; needed for `https`.
    #[arg(long, env = "BUCKET_CA")]
    pub bucket_ca: Option<PathBuf>,
    /// Use the bucket though whoever has its keys can delete from it.
    #[arg(long, env = "ACCEPT_UNLOCKED_BUCKET")]
    pub accept_unlocked_bucket: bool,
}

/// A bucket.
pub struct Bucket {
    operator: Operator,
    runtime: Handle,
    workshop: Workshop,
    uploads: Semaphore,
    promise: Promise,
}

impl Bucket {
    /// Opens the bucket, if it keeps what it is given for `immutable_for`. Must be called within a runtime.
    pub fn open(
        bucket: &str,
        arguments: &BucketArguments,
        immutable_for: Duration,
        scratch: &Path,
    ) -> Result<Self, VaultError> {
        let unusable = |source| VaultError::Store { root: scratch.to_owned(), source };
        let endpoint = arguments.bucket_endpoint.clone().unwrap_or_default();
        let ca = authorities(&endpoint, arguments.bucket_ca.as_deref())?;
        let client = storage_client(ca.as_deref()).map_err(|error| VaultError::Bucket(error.to_string()))?;
        let service = S3::default()
            .bucket(bucket)
            .endpoint(&endpoint)
            .region(&arguments.bucket_region)
            .root(&format!("/{}", arguments.bucket_folder.trim_matches('/')))
            // Object Lock wants a digest with everything that is stored.
            .checksum_algorithm("crc32c")
            .disable_ec2_metadata();
        let transport = HttpTransporter::new(ReqwestTransport::new(client.clone()));
        let operator = Operator::new(service)
            .map_err(|error| VaultError::Bucket(error.to_string()))?
            .with_context(OperationContext::new().with_http_transport(transport))
            .layer(TimeoutLayer::new().with_timeout(PATIENCE).with_io_timeout(PATIENCE_FOR_BYTES))
            .layer(RetryLayer::new().with_jitter().with_max_times(4));
        let runtime = Handle::current();
        let name = bucket.to_owned();
        let promise = Promise {
            client,
            endpoint,
            bucket: name.clone(),
            region: arguments.bucket_region.clone(),
            immutable_for,
            accepts_less: arguments.accept_unlocked_bucket,
        };
        if promise.accepts_less {
            tracing::warn!(
                bucket,
                "whoever has the keys of the bucket can delete from it, as it was accepted"
            );
        }
        runtime.block_on(promise.check()).map_err(|error| match error {
            Unprotected::Open(why) => VaultError::Unlocked { bucket: name, why },
            Unprotected::Unknown(why) => VaultError::Bucket(why),
        })?;
        std::fs::create_dir_all(scratch).map_err(unusable)?;
        let workshop = Workshop::open(scratch.join("tmp")).map_err(unusable)?;
        Ok(Self { operator, runtime, workshop, uploads: Semaphore::new(UPLOADS), promise })
    }

    fn wait<T>(&self, asked: impl Future<Output = opendal_core::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(asked).map_err(|error| failed(&error))
    }

    /// Uploads a file; only where there is nothing yet, if `create`.
    async fn upload(&self, file: &Unfinished, object: &str, create: bool) -> io::Result<Published> {
        let _turn = self.uploads.acquire().await.map_err(io::Error::other)?;
        let mut source = File::open(file.path())?;
        let writer = self.operator.writer_with(object).chunk(PART).concurrent(CONCURRENT);
        let mut writer = writer.if_not_exists(create).await.map_err(|error| failed(&error))?;
        loop {
            let mut part = Vec::with_capacity(PART);
            if source.by_ref().take(PART as u64).read_to_end(&mut part)? == 0 {
                break;
            }
            if let Err(error) = writer.write(Bytes::from(part)).await {
                let _ = writer.abort().await;
                return Err(failed(&error));
            }
        }
        match writer.close().await {
            Ok(_) => Ok(Published::New),
            Err(error) => {
                // What was sent is of no use to anybody; a rule of the bucket removes it if this fails.
                let _ = writer.abort().await;
                published(Err(error))
            }
        }
    }

    fn holds_anything(&self, folder: &str) -> io::Result<bool> {
        let folder = format!("{folder}/");
        let first = self.wait(async {
            let mut entries = self.operator.lister_with(&folder).recursive(true).limit(1).await?;
            entries.try_next().await
        })?;
        Ok(first.is_some())
    }

    /// Removes every version of the object, the one that is seen last: an older one must not come to light.
    async fn remove_versions(&self, object: &str) -> opendal_core::Result<u64> {
        let versions = self.operator.list_with(object).versions(true).deleted(true).await?;
        let mut versions: Vec<_> = versions.into_iter().filter(|entry| entry.path() == object).collect();
        versions.sort_by_key(|entry| entry.metadata().is_current().unwrap_or(false));
        let mut bytes = 0;
        for entry in versions {
            let found = entry.metadata();
            let deletion = self.operator.delete_with(object);
            match found.version() {
                Some(version) => deletion.version(version).await?,
                None => deletion.await?,
            }
            if found.is_current().unwrap_or(true) && !found.is_deleted() {
                bytes = found.content_length();
            }
        }
        Ok(bytes)
    }
}

impl Store for Bucket {
    fn read(&self, object: &str) -> io::Result<Vec<u8>> {
        Ok(self.wait(self.operator.read(object))?.to_vec())
    }

    fn read_each(&self, objects: &[String]) -> io::Result<Vec<Vec<u8>>> {
        let read = |object: &String| {
            let (operator, object) = (self.operator.clone(), object.clone());
            async move { Ok(operator.read(&object).await?.to_vec()) }
        };
        self.wait(futures::stream::iter(objects.iter().map(read)).buffered(READS).try_collect())
    }

    fn size(&self, object: &str) -> io::Result<Option<u64>> {
        match self.runtime.block_on(self.operator.stat(object)) {
            Ok(found) => Ok(Some(found.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    fn stream(&self, object: &str, from: u64, count: u64) -> BoxFuture<'static, io::Result<Parts>> {
        let (operator, object) = (self.operator.clone(), object.to_owned());
        async move {
            let reader = operator.reader(&object).await.map_err(|error| failed(&error))?;
            let parts = match from.checked_add(count) {
                Some(end) if end < u64::MAX => reader.into_bytes_stream(from..end).await,
                _ => reader.into_bytes_stream(from..).await,
            };
            Ok(parts.map_err(|error| failed(&error))?.boxed())
        }
        .boxed()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Listed>> {
        let folder = format!("{folder}/");
        let found = self.wait(self.operator.list_with(&folder).recursive(true).into_future())?;
        let entries = found.into_iter().filter(|entry| entry.metadata().mode() == EntryMode::FILE);
        let listed = entries.filter_map(|entry| {
            let name = entry.path().strip_prefix(&folder)?.to_owned();
            Some(Listed { name, size: entry.metadata().content_length() })
        });
        Ok(listed.collect())
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let folder = format!("{folder}/");
        let found = self.wait(self.operator.list(&folder))?;
        let name = |entry: &opendal_core::Entry| {
            Some(entry.path().strip_prefix(&folder)?.strip_suffix('/')?.to_owned())
                .filter(|name| !name.is_empty())
        };
        Ok(found.iter().filter_map(name).collect())
    }

    fn make(&self, folder: &str) -> io::Result<()> {
        self.create(&format!("{folder}/{MADE}"), b"made").map(|_| ())
    }

    fn is_made(&self, folder: &str) -> io::Result<bool> {
        // What was brought here from a folder has no mark.
        Ok(self.size(&format!("{folder}/{MADE}"))?.is_some() || self.holds_anything(folder)?)
    }

    fn create(&self, object: &str, content: &[u8]) -> io::Result<Published> {
        let content = Bytes::copy_from_slice(content);
        let written = self.operator.write_with(object, content).if_not_exists(true);
        published(self.runtime.block_on(written.into_future()).map(|_| ()))
    }

    fn replace(&self, object: &str, content: &[u8]) -> io::Result<()> {
        let content = Bytes::copy_from_slice(content);
        self.wait(self.operator.write(object, content)).map(|_| ())
    }

    fn exchange(&self, object: &str, before: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
        let Some(before) = before else { return Ok(self.create(object, content)? == Published::New) };
        let exchanged = self.runtime.block_on(async {
            let found = self.operator.stat(object).await?;
            let Some(tag) = found.etag() else { return Ok(false) };
            if self.operator.read_with(object).if_match(tag).await?.to_vec() != before {
                return Ok(false);
            }
            let content = Bytes::copy_from_slice(content);
            self.operator.write_with(object, content).if_match(tag).await.map(|_| true)
        });
        match exchanged {
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(false),
            exchanged => exchanged.map_err(|error| failed(&error)),
        }
    }

    fn begin(&self) -> io::Result<(Unfinished, File)> {
        self.workshop.begin()
    }

    fn publish(&self, upload: Unfinished, object: &str) -> io::Result<Published> {
        self.runtime.block_on(self.upload(&upload, object, true))
    }

    fn replace_damaged(&self, upload: Unfinished, object: &str, aside: &str) -> io::Result<()> {
        let mut number = 1_u64;
        // Asked for before, since not every object store copies on condition.
        while self.size(&format!("{aside}-{number}"))?.is_some() {
            number += 1;
        }
        let kept = format!("{aside}-{number}");
        self.wait(self.operator.copy_with(object, &kept).into_future())?;
        self.runtime.block_on(self.upload(&upload, object, false)).map(|_| ())
    }

    fn settle(&self, _object: &str) -> io::Result<()> {
        // What an object store shows is durable.
        Ok(())
    }

    fn remove(&self, object: &str) -> io::Result<u64> {
        self.wait(self.remove_versions(object))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn keeps_its_promise(&self) -> Result<(), String> {
        self.runtime.block_on(self.promise.check()).map_err(|error| error.to_string())
    }
}

/// The certificates in the file; none for plain HTTP.
fn authorities(endpoint: &str, file: Option<&Path>) -> Result<Option<String>, VaultError> {
    let refuse = |text: &str| Err(VaultError::Bucket(format!("--bucket-endpoint '{endpoint}' {text}")));
    match (endpoint.split_once("://").map(|(scheme, _)| scheme), file) {
        (Some("http"), _) => Ok(None),
        (Some("https"), None) => {
            refuse("needs --bucket-ca: the authorities of its certificate are never taken from the system")
        }
        (Some("https"), Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(source) => Err(VaultError::Certificate { path: path.to_owned(), source }),
        },
        _ => refuse("must begin with https:// or, within a cluster, http://"),
    }
}

/// What became of a write that must not overwrite.
fn published(written: opendal_core::Result<()>) -> io::Result<Published> {
    match written {
        Ok(()) => Ok(Published::New),
        Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Published::Exists),
        Err(error) => Err(failed(&error)),
    }
}

/// What happened, in a sentence that may leave the site; addresses of the object store stay in the log.
fn failed(error: &opendal_core::Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::NotFound => io::ErrorKind::NotFound,
        ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    if kind != io::ErrorKind::NotFound {
        tracing::warn!(%error, "the object store refused a request");
    }
    io::Error::new(kind, format!("the object store says {}: {}", error.kind(), error.message()))
}
