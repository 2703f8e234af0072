//! A real vault on 127.0.0.1 with real certificates, on a runtime of its own so that blocking code can use it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    thread::JoinHandle,
};

use data_embassy::{
    trust::{
        certificates::Authority,
        identity::Role,
        tls::{Material, blocking_client},
    },
    vault::{
        client::{RepositoryClient, VaultClient},
        protocol::Policy,
        server::{Arguments, Server, VaultError},
    },
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A vault of site `luxembourg`. Stops when dropped.
pub struct TestVault {
    /// Its store and its certificates.
    pub folder: TempDir,
    /// Who issues certificates for it and its clients.
    pub authority: Authority,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub health: SocketAddr,
    arguments: Arguments,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), VaultError>>,
}

impl TestVault {
    /// With the usual limits.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With limits changed by `change`.
    pub fn start_with(change: impl FnOnce(&mut Arguments)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::generate("luxembourg").unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut arguments = Arguments {
            site: "luxembourg".to_owned(),
            root: folder.path().join("store"),
            tls: folder.path().join("tls"),
            listen: any,
            health_listen: any,
            max_connections: 64,
            max_object_bytes: 64 << 20,
        };
        change(&mut arguments);
        fs::create_dir(&arguments.tls).unwrap();
        let mut vault = Self { folder, authority, address: any, health: any, arguments, running: None };
        vault.renew();
        fs::write(vault.arguments.tls.join("ca.crt"), vault.authority.certificate_pem()).unwrap();
        vault.run();
        vault
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
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            running.thread.join().unwrap().unwrap();
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
        self.running = Some(Running { stop, thread });
        while !self.health("/readyz").starts_with("HTTP/1.1 200") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The whole answer of the health port.
    pub fn health(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.health).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A second vault with the same arguments, to its end.
    pub fn second(&self) -> Result<(), VaultError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(data_embassy::vault::server::serve(self.arguments.clone(), std::future::pending()))
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
        client.with_pause(std::time::Duration::from_millis(10))
    }

    /// A client for requests that our own clients never send.
    pub fn raw(&self, site: &str, role: Role) -> Raw {
        Raw { client: blocking_client(&self.material(site, role)).unwrap(), url: self.url() }
    }

    /// Lets `site` store `quota_bytes` in each embassy of `namespace`.
    pub fn host(&self, site: &str, namespace: &str, quota_bytes: i64) {
        let policy = Policy { namespaces: vec![namespace.to_owned()], quota_bytes };
        let text = serde_json::to_string(&policy).unwrap();
        let answer = self.raw("luxembourg", Role::Operator).send("PUT", &format!("/policy/{site}"), text);
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// A folder of the store.
    pub fn store(&self, path: &str) -> PathBuf {
        self.arguments.root.join(path)
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
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        let answer = request.body(body).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
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
