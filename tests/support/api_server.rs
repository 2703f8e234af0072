//! A real kube-apiserver and etcd on loopback, without a node: enough for schemas, CEL rules and admission policies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{Client, Config, config::AuthInfo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::address::free_address;

/// A running API server; dropping it ends both processes and removes their files.
pub struct ApiServer {
    /// A client with every right.
    pub client: Client,
    url: String,
    authority: Vec<u8>,
    processes: Vec<Child>,
    folder: TempDir,
}

impl ApiServer {
    /// Starts both and waits until the API server is ready.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [etcd_port, peer_port, port] = std::array::from_fn(|_| free_address().port());
        let authority = write_certificates(folder.path());
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let etcd = spawn(
            folder.path(),
            "etcd",
            &[
                "--data-dir=etcd",
                "--unsafe-no-fsync",
                &format!("--listen-client-urls={etcd_url}"),
                &format!("--advertise-client-urls={etcd_url}"),
                &format!("--listen-peer-urls={peer_url}"),
                &format!("--initial-advertise-peer-urls={peer_url}"),
                &format!("--initial-cluster=default={peer_url}"),
            ],
        );
        fs::write(folder.path().join("tokens.csv"), "test-token,admin,admin,system:masters\n").unwrap();
        let server = spawn(
            folder.path(),
            "kube-apiserver",
            &[
                &format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                &format!("--secure-port={port}"),
                "--tls-cert-file=server.crt",
                "--tls-private-key-file=server.key",
                "--token-auth-file=tokens.csv",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-account-key-file=server.pub",
                "--service-account-signing-key-file=server.key",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--endpoint-reconciler-type=none",
            ],
        );
        let url = format!("https://127.0.0.1:{port}");
        let client = Client::try_from(connection(&url, authority.clone())).unwrap();
        let mut started = Self { client, url, authority, processes: vec![server, etcd], folder };
        started.wait_until_ready().await;
        started
    }

    /// A client that acts as somebody else.
    pub fn client_of(&self, user: &str) -> Client {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).unwrap()
    }

    /// Writes a kubeconfig with every right into a folder.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "insecure-skip-tls-verify": true}}],
            "users": [{"name": "test", "user": {"token": "test-token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(&path, text.to_string()).unwrap();
        path
    }

    fn config(&self) -> Config {
        connection(&self.url, self.authority.clone())
    }

    async fn wait_until_ready(&mut self) {
        for _ in 0..600 {
            let request = http::Request::get("/readyz").body(vec![]).unwrap();
            if self.client.request_text(request).await.is_ok() {
                return;
            }
            for process in &mut self.processes {
                let ended = process.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "a server process ended before it was ready:\n{}",
                    logs(self.folder.path())
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the API server was not ready after two minutes");
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// How to connect with every right.
fn connection(url: &str, authority: Vec<u8>) -> Config {
    let mut config = Config::new(url.parse().unwrap());
    config.root_cert = Some(vec![authority]);
    config.auth_info = AuthInfo { token: Some("test-token".to_owned().into()), ..AuthInfo::default() };
    config
}

/// The folder with the testbed's binaries; `make` builds them and names it.
fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("TESTBED_BIN").expect(
        "TESTBED_BIN must name the folder with kube-apiserver and etcd: run this suite with 'make admission'",
    );
    PathBuf::from(folder).join(name)
}

fn spawn(folder: &Path, name: &str, arguments: &[&str]) -> Child {
    let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    Command::new(binary(name))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {name}: {error}"))
}

/// The last lines that each process wrote.
fn logs(folder: &Path) -> String {
    let last_lines = |name: &str| {
        let text = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{name}: {}", lines[lines.len().saturating_sub(5)..].join("\n"))
    };
    format!("{}\n{}", last_lines("etcd"), last_lines("kube-apiserver"))
}

/// Writes the server's certificate and key; returns the authority's certificate as DER.
fn write_certificates(folder: &Path) -> Vec<u8> {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("server.crt"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("server.pub"), key.public_key_pem()).unwrap();
    authority_certificate.der().to_vec()
}
