//! A real S3 object store on 127.0.0.1, with versions and Object Lock: the gateway of the test clusters' programs, on a folder.

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::Engine;
use data_embassy::vault::server::BucketArguments;
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::address::free_address;

/// Keys of the object store, which the vaults of the tests read from the environment.
pub fn keys() -> (String, String) {
    let key =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: use `make bucket`"));
    (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"))
}

/// Ends with its test, also if that is killed.
pub struct ObjectStore {
    folder: TempDir,
    address: SocketAddr,
    child: Child,
}

impl ObjectStore {
    /// Starts one that holds nothing.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["buckets", "versions"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let address = free_address();
        let programs = std::env::var("TESTBED_BIN").expect("TESTBED_BIN is not set: use `make bucket`");
        let (access, secret) = keys();
        // The shell ends the gateway when this process closes the pipe, whatever its end was.
        let script =
            "\"$0\" \"$@\" </dev/null >/dev/null 2>&1 & gateway=$!; read -r _; kill $gateway; wait $gateway";
        let child = Command::new("sh")
            .args(["-c", script, &format!("{programs}/versitygw"), "--quiet"])
            .args(["--access", &access, "--secret", &secret, "--port", &address.to_string()])
            .args(["posix", "--versioning-dir"])
            .args([folder.path().join("versions"), folder.path().join("buckets")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let store = Self { folder, address, child };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the object store did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        store
    }

    /// Makes a bucket without versions; with versions and this default retention, if any: a mode and days.
    pub fn bucket(&self, name: &str, retention: Option<(&str, u32)>) {
        match retention {
            None => self.make(name, &[]),
            Some(_) => self.versioned_bucket(name),
        }
        if let Some((mode, days)) = retention {
            let rule = format!(
                "<Rule><DefaultRetention><Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule>"
            );
            let body = format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
            );
            let set = self.send("PUT", &format!("/{name}?object-lock"), &[], body);
            assert_eq!(set.0, 200, "{}", set.1);
        }
    }

    /// Makes a bucket that could lock the versions of its objects, and does not.
    pub fn versioned_bucket(&self, name: &str) {
        self.make(name, &[("x-amz-bucket-object-lock-enabled", "true")]);
    }

    fn make(&self, name: &str, headers: &[(&str, &str)]) {
        let made = self.send("PUT", &format!("/{name}"), headers, String::new());
        assert_eq!(made.0, 200, "{}", made.1);
    }

    /// How a vault finds the bucket.
    pub fn arguments(&self, bucket: &str) -> BucketArguments {
        BucketArguments {
            bucket: Some(bucket.to_owned()),
            bucket_endpoint: Some(format!("http://{}", self.address)),
            bucket_region: "us-east-1".to_owned(),
            ..BucketArguments::default()
        }
    }

    /// Versions of the objects whose name ends so: their keys and versions.
    pub fn versions(&self, bucket: &str, end: &str) -> Vec<(String, String)> {
        let listed = self.send("GET", &format!("/{bucket}?versions="), &[], String::new());
        assert_eq!(listed.0, 200, "{}", listed.1);
        let value = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
            rest.split_once(&format!("</{name}>")).unwrap().0.to_owned()
        };
        let entries = listed.1.split("<Version>").skip(1);
        let found = entries.map(|entry| (value(entry, "Key"), value(entry, "VersionId")));
        found.filter(|(key, _)| key.ends_with(end)).collect()
    }

    /// Where the objects of the bucket lie.
    pub fn folder(&self, bucket: &str) -> PathBuf {
        self.folder.path().join("buckets").join(bucket)
    }

    /// A request as whoever has the keys: status and body of the answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> (u16, String) {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let digest = Sha256::digest(body.as_bytes());
        request = request.header("x-amz-checksum-sha256", base64::prelude::BASE64_STANDARD.encode(digest));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let (access, secret) = keys();
            let credentials = StaticCredentialProvider::new(&access, &secret);
            let signer = Signer::new(Context::new(), credentials, RequestSigner::new("s3", "us-east-1"));
            signer.sign(&mut parts, None).await.unwrap();
            let request = reqwest::Request::try_from(http::Request::from_parts(parts, body)).unwrap();
            let client = data_embassy::trust::tls::storage_client(None).unwrap();
            let answer = client.execute(request).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
