//! The edge: who gets a connection at all, for how long, and what the outside sees.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use data_embassy::{
    trust::{
        certificates::Authority,
        identity::Role,
        tls::{Material, client_config},
    },
    vault::{
        client::{ClientError, RepositoryClient},
        server::VaultError,
    },
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::pem::PemObject,
};

use crate::{
    repository::{PATH, digest, prepared},
    support::vault::TestVault,
};

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(vault: &TestVault, config: ClientConfig) -> Connection {
    let stream = TcpStream::connect(vault.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// The status of an answer to a request for `path`, or the error of the connection.
fn get(connection: &mut Connection, path: &str) -> std::io::Result<String> {
    write!(connection, "GET {path} HTTP/1.1\r\nhost: vault\r\n\r\n")?;
    let mut answer = [0; 4096];
    let length = connection.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn roots(vault: &TestVault) -> RootCertStore {
    let pem = vault.authority.certificate_pem().as_bytes();
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    roots
}

#[test]
fn nobody_enters_without_a_certificate() {
    let vault = TestVault::start();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&vault))
        .with_no_client_auth();
    let answer = get(&mut connect(&vault, config), "/whoami");
    let refused = answer.unwrap_err();
    // The vault says why and closes; which of the two arrives first is not certain.
    let is_closed = matches!(refused.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    assert!(is_closed || refused.to_string().to_lowercase().contains("certificate"), "{refused}");
    assert!(vault.health("/metrics").contains("data_embassy_vault_failed_handshakes_total 1"));
}

#[test]
fn nobody_enters_with_a_certificate_of_another_authority_or_purpose() {
    let vault = TestVault::start();
    let stranger = Authority::generate("luxembourg").unwrap();
    let forged = stranger.issue_client("tallinn", Role::Operator).unwrap();
    let server = vault.authority.issue_server("luxembourg", &["127.0.0.1".to_owned()]).unwrap();
    for issued in [forged, server] {
        let material = Material {
            ca: vault.authority.certificate_pem().to_owned(),
            certificate: issued.certificate_pem,
            key: issued.key_pem.to_string(),
        };
        let answer = get(&mut connect(&vault, client_config(&material).unwrap()), "/whoami");
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(vault.health("/metrics").contains("data_embassy_vault_failed_handshakes_total 2"));
}

#[test]
fn an_older_tls_is_refused() {
    let vault = TestVault::start();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots(&vault))
        .with_no_client_auth();
    assert!(get(&mut connect(&vault, config), "/whoami").is_err());
}

#[test]
fn a_client_refuses_a_vault_of_another_authority() {
    let vault = TestVault::start();
    let mut material = vault.material("tallinn", Role::Mover);
    material.ca = Authority::generate("luxembourg").unwrap().certificate_pem().to_owned();
    let client = RepositoryClient::new(&vault.url(), PATH, &material).unwrap();
    let error = client.with_pause(Duration::from_millis(1)).list("data").unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let vault = TestVault::start();
    let seen = || {
        let material = vault.material("tallinn", Role::Operator);
        let mut connection = connect(&vault, client_config(&material).unwrap());
        assert!(get(&mut connection, "/whoami").unwrap().contains("200 OK"));
        connection.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let before = seen();
    // A key without its certificate, as in the middle of a change, is not taken.
    let certificate = std::fs::read(vault.tls("tls.crt")).unwrap();
    vault.renew();
    let renewed = std::fs::read(vault.tls("tls.crt")).unwrap();
    std::fs::write(vault.tls("tls.crt"), certificate).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(seen(), before);
    std::fs::write(vault.tls("tls.crt"), renewed).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_ne!(seen(), before);
}

#[test]
fn more_connections_than_allowed_wait() {
    let vault = TestVault::start_with(|arguments| arguments.max_connections = 2);
    let material = vault.material("tallinn", Role::Operator);
    let open = || connect(&vault, client_config(&material).unwrap());
    let (mut first, mut second) = (open(), open());
    assert!(get(&mut first, "/whoami").unwrap().contains("200 OK"));
    assert!(get(&mut second, "/whoami").unwrap().contains("200 OK"));
    let mut third = open();
    third.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(get(&mut third, "/whoami").is_err());
    drop(first);
    third.sock.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(get(&mut third, "/whoami").unwrap().contains("200 OK"));
}

#[test]
fn a_client_that_sends_nothing_is_let_go() {
    let vault = TestVault::start();
    let material = vault.material("tallinn", Role::Operator);
    let mut connection = connect(&vault, client_config(&material).unwrap());
    let started = Instant::now();
    connection.write_all(b"GET /whoami HTTP/1.1\r\n").unwrap();
    let mut rest = vec![];
    let _ = connection.read_to_end(&mut rest);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn headers_are_bounded() {
    let vault = TestVault::start();
    let material = vault.material("tallinn", Role::Operator);
    let mut connection = connect(&vault, client_config(&material).unwrap());
    let answer = get(&mut connection, &format!("/{}", "x".repeat(20 << 10)));
    assert!(answer.as_ref().is_ok_and(|answer| answer.contains(" 4")), "{answer:?}");
}

#[test]
fn no_path_leaves_the_store() {
    let vault = TestVault::start();
    let material = vault.material("luxembourg", Role::Operator);
    // Other clients tidy such paths up before they send them.
    for path in [
        "/../policies/x",
        "/repo/../register/1-a/config",
        "/repo/ns/../1-a/config",
        "/repo/%2e%2e/register/1-a/config",
        "/repo/ns/%2e%2e%2f/1-a/config",
        "/repo/ns/register/1-a/data/../../../../lock",
        "/mail/ns/register/../1",
        "//whoami",
    ] {
        let mut connection = connect(&vault, client_config(&material).unwrap());
        let answer = get(&mut connection, path).unwrap();
        assert!(answer.contains("BadName") || answer.contains("NoSuchPath"), "{path}: {answer}");
    }
}

#[test]
fn a_folder_has_one_vault() {
    let vault = TestVault::start();
    assert!(matches!(vault.second(), Err(VaultError::InUse(_))));
}

#[test]
fn metrics_count_what_happened() {
    let (vault, client) = prepared(1 << 20);
    client.write("data", &digest(b"pack"), Bytes::from_static(b"pack")).unwrap();
    client.read("data", &digest(b"pack")).unwrap();
    client.write("keys", &digest(b"pack"), Bytes::from_static(b"pack")).unwrap_err();
    let metrics = vault.health("/metrics");
    for line in [
        r#"data_embassy_vault_requests_total{route="repo",status="200"} 3"#,
        r#"data_embassy_vault_requests_total{route="repo",status="403"} 1"#,
        r#"data_embassy_vault_refused_total{reason="NoKeyFiles"} 1"#,
        r#"data_embassy_vault_stored_bytes{namespace="ns",embassy="register"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(vault.health("/livez").starts_with("HTTP/1.1 200"));
}
