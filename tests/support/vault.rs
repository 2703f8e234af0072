//! A real vault on 127.0.0.1 with real certificates: on a runtime of its own so that blocking code can use it, or as the
//! program that it is, so that it can be killed.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use data_embassy::{
    api::duration,
    trust::{
        certificates::Authority,
        identity::Role,
        tls::{Material, blocking_client},
    },
    vault::{
        client::{RepositoryClient, VaultClient},
        protocol::Policy,
        server::{Arguments, BucketArguments, Server, VaultError},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{address::free_address, object_store::ObjectStore};

/// The bucket of a vault that keeps its store in one.
pub const BUCKET: &str = "vault";

/// A vault of site `luxembourg`, in a folder, or, if `VAULT_STORE` is `bucket`, in a bucket. Stops when dropped.
pub struct TestVault {
    /// Its store and its certificates.
    pub folder: TempDir,
    /// Who issues certificates for it and its clients.
    pub authority: Arc<Authority>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub health: SocketAddr,
    arguments: Arguments,
    running: Option<Running>,
    /// Where its bucket is; others on the same store hold it, too.
    pub objects: Option<Arc<ObjectStore>>,
}

enum Running {
    Here { stop: oneshot::Sender<()>, thread: JoinHandle<Result<(), VaultError>> },
    Program(Child),
}

/// Ends a program as its Pod would, unless it has ended: its number may be another's by then.
fn end(mut child: Child) {
    if child.try_wait().unwrap().is_none() {
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        child.wait().unwrap();
    }
}

/// The name of an object with that content.
pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Whether this run is about vaults in buckets.
pub fn is_in_bucket() -> bool {
    std::env::var("VAULT_STORE").is_ok_and(|store| store == "bucket")
}

impl TestVault {
    /// With the usual limits.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// As the program, at an address that stays its own.
    pub fn start_program() -> Self {
        Self::start_program_with(|_| {})
    }

    /// The same, with limits changed by `change`.
    pub fn start_program_with(change: impl FnOnce(&mut Arguments)) -> Self {
        let mut vault = Self::prepare(|arguments| {
            (arguments.listen, arguments.health_listen) = (free_address(), free_address());
            change(arguments);
        });
        assert!(vault.run_program(Command::new(Self::PROGRAM)), "the vault did not start");
        vault
    }

    /// With limits changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut Arguments)) -> Self {
        let mut vault = Self::prepare(change);
        vault.run();
        vault
    }

    fn prepare(change: impl FnOnce(&mut Arguments)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::generate("luxembourg").unwrap());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut arguments = Arguments {
            site: "luxembourg".to_owned(),
            root: folder.path().join("store"),
            bucket: BucketArguments::default(),
            tls: folder.path().join("tls"),
            listen: any,
            health_listen: any,
            max_connections: 64,
            max_object_bytes: 64 << 20,
            immutable_for: Duration::from_hours(1),
            sweep_every: Duration::from_hours(24),
        };
        change(&mut arguments);
        let objects = is_in_bucket().then(|| {
            let objects = ObjectStore::start();
            // Object Lock counts days: what is to go within a test needs a bucket without.
            let goes_soon = arguments.sweep_every < Duration::from_mins(1);
            if goes_soon {
                objects.versioned_bucket(BUCKET);
            } else {
                objects.bucket(BUCKET, Some(("COMPLIANCE", 30)));
            }
            arguments.bucket = objects.arguments(BUCKET);
            arguments.bucket.accept_unlocked_bucket = goes_soon;
            Arc::new(objects)
        });
        fs::create_dir(&arguments.tls).unwrap();
        let vault = Self { folder, authority, address: any, health: any, arguments, running: None, objects };
        vault.renew();
        fs::write(vault.arguments.tls.join("ca.crt"), vault.authority.certificate_pem()).unwrap();
        vault
    }

    /// Another vault on the same bucket, as the program, with the same certificates; nothing for a vault in a folder.
    pub fn beside(&self) -> Option<Self> {
        let objects = Some(Arc::clone(self.objects.as_ref()?));
        let folder = tempfile::tempdir().unwrap();
        let arguments = Arguments { root: folder.path().join("store"), ..self.arguments.clone() };
        let (authority, any) = (Arc::clone(&self.authority), self.address);
        let mut vault =
            Self { folder, authority, address: any, health: any, arguments, running: None, objects };
        (vault.arguments.listen, vault.arguments.health_listen) = (free_address(), free_address());
        assert!(vault.run_program(Command::new(Self::PROGRAM)), "the vault did not start");
        Some(vault)
    }

    /// Gives the vault a new certificate, in place.
    pub fn renew(&self) {
        let issued = self.authority.issue_server("luxembourg", &["127.0.0.1".to_owned()]).unwrap();
        fs::write(self.arguments.tls.join("tls.key"), issued.key_pem.as_bytes()).unwrap();
        fs::write(self.arguments.tls.join("tls.crt"), issued.certificate_pem).unwrap();
    }

    /// Starts it again on the same store. The address is another one.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Stops it; requests under way are finished.
    pub fn stop(&mut self) {
        match self.running.take() {
            Some(Running::Here { stop, thread }) => {
                let _ = stop.send(());
                thread.join().unwrap().unwrap();
            }
            Some(Running::Program(child)) => end(child),
            None => {}
        }
    }

    /// Where the program is.
    pub const PROGRAM: &str = env!("CARGO_BIN_EXE_data-embassy");

    /// Starts it again on the same store as `program`, which may be the program under a tracer; false if it died at once.
    pub fn run_program(&mut self, mut program: Command) -> bool {
        self.stop();
        let arguments = &self.arguments;
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        program.arg("vault").args([
            flag("site", &arguments.site),
            flag("root", &arguments.root.display()),
            flag("sweep-every", &duration::format(arguments.sweep_every)),
            flag("immutable-for", &duration::format(arguments.immutable_for)),
            flag("tls", &arguments.tls.display()),
            flag("listen", &arguments.listen),
            flag("health-listen", &arguments.health_listen),
        ]);
        if let (Some(bucket), Some(endpoint)) = (&arguments.bucket.bucket, &arguments.bucket.bucket_endpoint)
        {
            program.args([flag("bucket", bucket), flag("bucket-endpoint", endpoint)]);
            program.args(arguments.bucket.accept_unlocked_bucket.then_some("--accept-unlocked-bucket"));
        }
        (self.address, self.health) = (arguments.listen, arguments.health_listen);
        self.running = Some(Running::Program(program.env("RUST_LOG", "warn").spawn().unwrap()));
        while !self.try_health("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if self.has_died() {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        true
    }

    /// Number of the program's process.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Some(Running::Program(child)) => Some(child.id()),
            _ => None,
        }
    }

    /// Whether the program has ended by itself or was killed.
    pub fn has_died(&mut self) -> bool {
        match &mut self.running {
            Some(Running::Program(child)) => child.try_wait().unwrap().is_some(),
            Some(Running::Here { .. }) => false,
            None => true,
        }
    }

    /// Kills the program.
    pub fn kill(&mut self) {
        if let Some(Running::Program(child)) = &mut self.running {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn run(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let arguments = self.arguments.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::bind(arguments).await?;
                tell.send((server.address, server.health_address)).unwrap();
                server.run(async { drop(stopped.await) }).await
            })
        });
        (self.address, self.health) = told.recv().unwrap();
        self.running = Some(Running::Here { stop, thread });
        while !self.health("/readyz").starts_with("HTTP/1.1 200") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The whole answer of the health port.
    pub fn health(&self, path: &str) -> String {
        self.try_health(path).unwrap()
    }

    fn try_health(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.health)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A second vault with the same arguments, to its end.
    pub fn second(&self) -> Result<(), VaultError> {
        self.second_with(|_| {}, std::future::pending())
    }

    /// The same with arguments changed by `change`, until `shutdown`.
    pub fn second_with(
        &self,
        change: impl FnOnce(&mut Arguments),
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), VaultError> {
        let mut arguments = self.arguments.clone();
        change(&mut arguments);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(data_embassy::vault::server::serve(arguments, shutdown))
    }

    /// `https://...`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What a client of that site needs.
    pub fn material(&self, site: &str, role: Role) -> Material {
        let issued = self.authority.issue_client(site, role).unwrap();
        Material {
            ca: self.authority.certificate_pem().to_owned(),
            certificate: issued.certificate_pem,
            key: issued.key_pem.to_string(),
        }
    }

    /// An asynchronous client of that site's operator.
    pub fn operator(&self, site: &str) -> VaultClient {
        VaultClient::new(&self.url(), &self.material(site, Role::Operator)).unwrap()
    }

    /// A client of one repository, which does not pause long between tries.
    pub fn repository(&self, site: &str, role: Role, path: &str) -> RepositoryClient {
        let client = RepositoryClient::new(&self.url(), path, &self.material(site, role)).unwrap();
        client.with_pause(Duration::from_millis(10))
    }

    /// A client for requests that our own clients never send.
    pub fn raw(&self, site: &str, role: Role) -> Raw {
        Raw { client: blocking_client(&self.material(site, role)).unwrap(), url: self.url() }
    }

    /// Lets `site` store `quota_bytes` in each embassy of `namespace`.
    pub fn host(&self, site: &str, namespace: &str, quota_bytes: i64) {
        self.host_with_key(site, namespace, quota_bytes, None);
    }

    /// The same, with the site's signing key pinned.
    pub fn host_with_key(&self, site: &str, namespace: &str, quota_bytes: i64, public_key: Option<String>) {
        let policy = Policy { namespaces: vec![namespace.to_owned()], quota_bytes, public_key };
        let text = serde_json::to_string(&policy).unwrap();
        let answer = self.raw("luxembourg", Role::Operator).send("PUT", &format!("/policy/{site}"), text);
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// A folder of the store.
    pub fn store(&self, path: &str) -> PathBuf {
        let root = self.objects.as_ref().map(|objects| objects.folder(BUCKET));
        root.as_ref().unwrap_or(&self.arguments.root).join(path)
    }

    /// Where uploads under way lie.
    pub fn uploads(&self) -> PathBuf {
        self.arguments.root.join("tmp")
    }

    /// A file that the vault's certificates are read from.
    pub fn tls(&self, file: &str) -> PathBuf {
        self.arguments.tls.join(file)
    }
}

impl Drop for TestVault {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends anything.
pub struct Raw {
    client: reqwest::blocking::Client,
    url: String,
}

impl Raw {
    /// Status and body of the answer.
    pub fn send(&self, method: &str, path: &str, body: impl Into<reqwest::blocking::Body>) -> (u16, String) {
        self.try_send(method, path, body).unwrap()
    }

    /// Status and body of the answer, if there is one.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::blocking::Body>,
    ) -> reqwest::Result<(u16, String)> {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        let answer = request.body(body).send()?;
        Ok((answer.status().as_u16(), answer.text()?))
    }

    /// Status and reason of a refusal.
    pub fn refused(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::blocking::Body>,
    ) -> (u16, String) {
        let (status, body) = self.send(method, path, body);
        let problem: data_embassy::vault::protocol::Problem =
            serde_json::from_str(&body).unwrap_or_else(|error| {
                panic!("{method} {path}: {status} {body}: {error}");
            });
        assert!(!problem.message.is_empty());
        (status, problem.reason)
    }
}
