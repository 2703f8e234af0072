//! Mutual TLS 1.3, with given authorities only: neither the system's roots nor a proxy are ever used.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};

/// A peer that does not answer by then is taken as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than a vault keeps an idle connection, so that a request never meets one that is just being closed.
const IDLE: Duration = Duration::from_secs(5);

/// Why a side of TLS could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// An authority's certificate is unusable.
    #[error("the authorities' certificates are unusable ({0}): give PEM certificates")]
    Authorities(String),
    /// The own certificate or key is unusable.
    #[error(
        "the own certificate or key is unusable ({0}): give a PEM certificate and the PEM key it was made for"
    )]
    Own(String),
    /// The client could not be built.
    #[error("the HTTPS client could not be set up: {0}")]
    Client(String),
}

/// What a client needs to reach a vault, all in PEM.
#[derive(Clone)]
pub struct Material {
    /// Authorities that the server's certificate must chain to.
    pub ca: String,
    /// The client's certificate.
    pub certificate: String,
    /// The client's key.
    pub key: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The server side: TLS 1.3 only, and no client without a certificate of `client_ca`.
pub fn server_config(certificate: &str, key: &str, client_ca: &str) -> Result<ServerConfig, TlsError> {
    let own = |error: &dyn fmt::Display| TlsError::Own(error.to_string());
    let (chain, key) = own_pair(certificate, key)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(client_ca)?), provider())
        .build()
        .map_err(|error| TlsError::Authorities(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| own(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| own(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether a server with these client authorities would take the certificate at `now`.
pub fn verify_client(certificate: &str, client_ca: &str, now: SystemTime) -> Result<(), TlsError> {
    let own = |error: &dyn fmt::Display| TlsError::Own(error.to_string());
    let chain = chain(certificate)?;
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(own(&"there is no certificate"));
    };
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(client_ca)?), provider())
        .build()
        .map_err(|error| TlsError::Authorities(error.to_string()))?
        .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since))
        .map_err(|error| own(&error))?;
    Ok(())
}

/// The client side: TLS 1.3 only.
pub fn client_config(material: &Material) -> Result<ClientConfig, TlsError> {
    let (chain, key) = own_pair(&material.certificate, &material.key)?;
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsError::Own(error.to_string()))?
        .with_root_certificates(authorities(&material.ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Own(error.to_string()))
}

/// A local port that leads to a server, which is known by its own name all the same.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Name of the server, as its certificate has it.
    pub host: String,
    /// Where it is reached.
    pub address: SocketAddr,
}

/// An HTTPS client for asynchronous code.
pub fn client(material: &Material) -> Result<reqwest::Client, TlsError> {
    client_through(material, None)
}

/// The same, through a local port.
pub fn client_through(material: &Material, forward: Option<&Forward>) -> Result<reqwest::Client, TlsError> {
    let builder = reqwest::Client::builder();
    let builder = match forward {
        Some(forward) => builder.resolve(&forward.host, forward.address),
        None => builder,
    };
    asynchronous(builder.https_only(true), client_config(material)?)
}

/// A client of a server that asks for no certificate, such as an object store: TLS 1.2 or 1.3 with `ca` alone, or, without it,
/// no TLS.
pub fn storage_client(ca: Option<&str>) -> Result<reqwest::Client, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Client(error.to_string()))?
        .with_root_certificates(ca.map_or_else(|| Ok(RootCertStore::empty()), authorities)?)
        .with_no_client_auth();
    asynchronous(reqwest::Client::builder().https_only(ca.is_some()), config)
}

fn asynchronous(builder: reqwest::ClientBuilder, config: ClientConfig) -> Result<reqwest::Client, TlsError> {
    builder
        .tls_backend_preconfigured(config)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(|error| TlsError::Client(error.to_string()))
}

/// An HTTPS client for blocking code. Each request sets its own time limit.
pub fn blocking_client(material: &Material) -> Result<reqwest::blocking::Client, TlsError> {
    blocking_client_through(material, None)
}

/// The same, through a local port.
pub fn blocking_client_through(
    material: &Material,
    forward: Option<&Forward>,
) -> Result<reqwest::blocking::Client, TlsError> {
    let builder = reqwest::blocking::Client::builder();
    let builder = match forward {
        Some(forward) => builder.resolve(&forward.host, forward.address),
        None => builder,
    };
    builder
        .tls_backend_preconfigured(client_config(material)?)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .timeout(None)
        .build()
        .map_err(|error| TlsError::Client(error.to_string()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn authorities(pem: &str) -> Result<RootCertStore, TlsError> {
    let unusable = |error: &dyn fmt::Display| TlsError::Authorities(error.to_string());
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        store.add(certificate).map_err(|error| unusable(&error))?;
    }
    if store.is_empty() {
        return Err(unusable(&"there is none"));
    }
    Ok(store)
}

type OwnPair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn own_pair(certificate: &str, key: &str) -> Result<OwnPair, TlsError> {
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| TlsError::Own(error.to_string()))?;
    Ok((chain(certificate)?, key))
}

fn chain(certificate: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Own(error.to_string()))?;
    if chain.is_empty() { Err(TlsError::Own("there is no certificate".to_owned())) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{certificates::Authority, identity::Role};

    fn material() -> (Authority, Material) {
        let authority = Authority::generate("luxembourg").unwrap();
        let issued = authority.issue_client("tallinn", Role::Operator).unwrap();
        let ca = authority.certificate_pem().to_owned();
        let key = issued.key_pem.to_string();
        (authority, Material { ca, certificate: issued.certificate_pem, key })
    }

    #[test]
    fn both_sides_are_built_from_what_an_authority_issues() {
        let (authority, material) = material();
        let server = authority.issue_server("luxembourg", &["127.0.0.1".to_owned()]).unwrap();
        server_config(&server.certificate_pem, &server.key_pem, &material.ca).unwrap();
        client(&material).unwrap();
        blocking_client(&material).unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_early() {
        let (_, good) = material();
        let (_, other) = material();
        let no_ca = Material { ca: String::new(), ..good.clone() };
        assert!(matches!(client_config(&no_ca), Err(TlsError::Authorities(_))));
        let no_key = Material { key: String::new(), ..good.clone() };
        assert!(matches!(client_config(&no_key), Err(TlsError::Own(_))));
        let mixed = Material { key: other.key, ..good.clone() };
        assert!(matches!(client_config(&mixed), Err(TlsError::Own(_))));
        assert!(matches!(server_config(&good.certificate, &good.key, "none"), Err(TlsError::Authorities(_))));
    }

    #[test]
    fn debug_output_holds_no_key() {
        assert!(!format!("{:?}", material().1).contains("PRIVATE KEY"));
    }
}
