//! A site's certificate authority, and the certificates of its vault and of the clients it admits.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::identity::{PeerIdentity, Role, is_site_name};

/// An authority lives ten years.
const AUTHORITY_LIFE: Duration = Duration::from_hours(3653 * 24);
/// A leaf lives ninety days.
const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);
/// A peer's clock may be this far behind.
const SKEW: Duration = Duration::from_hours(1);

/// Why a certificate was not made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A name that no certificate is made for.
    #[error("'{0}' is no site name: at most 40 characters of a-z, 0-9 and '-', beginning with a letter")]
    SiteName(String),
    /// A server without a name cannot be verified by anybody.
    #[error("there is no host to make the certificate for: give at least one name or address")]
    NoHost,
    /// The text is no certificate.
    #[error("the certificate cannot be read ({0}): restore it from its backup or have it issued again")]
    Unreadable(String),
    /// The text is no private key.
    #[error("the private key cannot be read ({0}): restore it from its backup or have it issued again")]
    Key(String),
    /// Certificate and key are not of one pair.
    #[error("the certificate was not made for this private key: restore both from the same backup")]
    Mismatch,
    /// The library refused.
    #[error("the certificate could not be made: {0}")]
    Issue(String),
}

/// A certificate and its key, ready for a Secret of type `kubernetes.io/tls`.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, then its authority's.
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: Zeroizing<String>,
    /// End of validity.
    pub not_after: SystemTime,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A site's certificate authority. It keeps its key for as long as it lives; only leaves are renewed.
pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority of `site`.
    pub fn generate(site: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = named(&format!("data-embassy {}", checked(site)?), AUTHORITY_LIFE).0;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(issue)?.pem();
        Ok(Self { certificate_pem, key })
    }

    /// Reads what `certificate_pem` and `key_pem` wrote.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| CertificateError::Key(error.to_string()))?;
        let der = first_certificate(certificate_pem)?;
        let certificate = parse(&der)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CertificateError::Mismatch);
        }
        Ok(Self { certificate_pem: certificate_pem.to_owned(), key })
    }

    /// What others verify with.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, to be kept in a Secret only.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// A certificate for the vault of `site`, reached as any of `hosts` (names or addresses).
    pub fn issue_server(&self, site: &str, hosts: &[String]) -> Result<Issued, CertificateError> {
        if hosts.is_empty() {
            return Err(CertificateError::NoHost);
        }
        let names = CertificateParams::new(hosts).map_err(issue)?.subject_alt_names;
        let common = format!("data-embassy vault {}", checked(site)?);
        self.issue(&common, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate with which `site` is known here as `role`.
    pub fn issue_client(&self, site: &str, role: Role) -> Result<Issued, CertificateError> {
        let identity = PeerIdentity { site: checked(site)?.to_owned(), role };
        let uri = identity.to_uri().try_into().map_err(issue)?;
        let common = format!("data-embassy {role} {site}");
        self.issue(&common, vec![SanType::URI(uri)], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, CertificateError> {
        let key = KeyPair::generate().map_err(issue)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key).map_err(issue)?;
        let (mut params, not_after) = named(common_name, LEAF_LIFE);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &issuer).map_err(issue)?.pem();
        Ok(Issued {
            certificate_pem: format!("{leaf}{}", self.certificate_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
            not_after,
        })
    }
}

/// Whether less than a third of the first certificate's life is left at `now`.
pub fn needs_renewal(pem: &str, now: SystemTime) -> Result<bool, CertificateError> {
    let der = first_certificate(pem)?;
    let certificate = parse(&der)?;
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = until - i64::try_from(now).unwrap_or(i64::MAX);
    Ok(left < (until - from) / 3)
}

fn named(common_name: &str, life: Duration) -> (CertificateParams, SystemTime) {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    (params, now + life)
}

fn checked(site: &str) -> Result<&str, CertificateError> {
    if is_site_name(site) { Ok(site) } else { Err(CertificateError::SiteName(site.to_owned())) }
}

fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| CertificateError::Unreadable(error.to_string()))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| CertificateError::Unreadable(error.to_string()))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn issue(error: rcgen::Error) -> CertificateError {
    CertificateError::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn hosts() -> Vec<String> {
        vec!["vault.example.org".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_client_certificate_carries_its_identity() {
        let authority = Authority::generate("luxembourg").unwrap();
        let issued = authority.issue_client("tallinn", Role::Mover).unwrap();
        let der = first_certificate(&issued.certificate_pem).unwrap();
        let identity = PeerIdentity::from_der(&der).unwrap();
        assert_eq!(identity, PeerIdentity { site: "tallinn".to_owned(), role: Role::Mover });
    }

    #[test]
    fn an_authority_survives_its_pem() {
        let authority = Authority::generate("luxembourg").unwrap();
        let read = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
        let issued = read.issue_server("luxembourg", &hosts()).unwrap();
        assert!(issued.certificate_pem.ends_with(authority.certificate_pem()));
    }

    #[test]
    fn renewal_is_due_in_the_last_third() {
        let authority = Authority::generate("luxembourg").unwrap();
        let issued = authority.issue_server("luxembourg", &hosts()).unwrap();
        let now = SystemTime::now();
        for (days, due) in [(0, false), (59, false), (61, true), (91, true)] {
            let at = now + days * DAY;
            assert_eq!(needs_renewal(&issued.certificate_pem, at).unwrap(), due, "after {days} days");
        }
        assert!(!needs_renewal(authority.certificate_pem(), now + 2400 * DAY).unwrap());
        assert!(needs_renewal("", now).is_err());
    }

    #[test]
    fn a_certificate_is_valid_for_a_peer_whose_clock_is_behind() {
        let authority = Authority::generate("luxembourg").unwrap();
        let issued = authority.issue_server("luxembourg", &hosts()).unwrap();
        let der = first_certificate(&issued.certificate_pem).unwrap();
        let before = parse(&der).unwrap().validity().not_before.timestamp();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(before <= i64::try_from(now).unwrap() - 3600);
    }

    #[test]
    fn wrong_input_is_refused() {
        let authority = Authority::generate("luxembourg").unwrap();
        let other = Authority::generate("luxembourg").unwrap();
        let mixed = Authority::from_pem(authority.certificate_pem(), &other.key_pem());
        assert!(matches!(mixed, Err(CertificateError::Mismatch)));
        assert!(matches!(Authority::generate("No Site"), Err(CertificateError::SiteName(_))));
        let site = authority.issue_client("a/role/operator", Role::Mover);
        assert!(matches!(site, Err(CertificateError::SiteName(_))));
        assert!(matches!(authority.issue_server("a", &[]), Err(CertificateError::NoHost)));
        let key = Authority::from_pem(authority.certificate_pem(), "no key");
        assert!(matches!(key, Err(CertificateError::Key(_))));
        let certificate = Authority::from_pem("none", &authority.key_pem());
        assert!(matches!(certificate, Err(CertificateError::Unreadable(_))));
    }
}
