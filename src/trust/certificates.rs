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

use super::{
    identity::{PeerIdentity, Role, is_site_name},
    tls::TlsError,
};

/// An authority lives ten years.
const AUTHORITY_LIFE: Duration = Duration::from_hours(3653 * 24);
/// A leaf lives ninety days, if nothing else is asked for.
pub const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);
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
    /// A request that is not answered.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// A certificate that the vault would not take.
    #[error("the certificate would not be taken: {0}")]
    Untrusted(#[from] TlsError),
    /// A certificate for somebody else.
    #[error("the certificate is for '{found}' where one for the {expected} was asked for")]
    OtherIdentity {
        /// Whom it should name.
        expected: PeerIdentity,
        /// Whom it names, or why nobody.
        found: String,
    },
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

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl Validity {
    /// Of the first certificate in `pem`.
    pub fn of(pem: &str) -> Result<Self, CertificateError> {
        Self::of_der(&first_certificate(pem)?)
    }

    /// Of the certificate in `pem` that is valid the longest.
    pub fn longest(pem: &str) -> Result<Self, CertificateError> {
        let mut all = vec![];
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            all.push(Self::of_der(&der.map_err(|error| CertificateError::Unreadable(error.to_string()))?)?);
        }
        let longest = all.into_iter().max_by_key(|validity| validity.until);
        longest.ok_or_else(|| CertificateError::Unreadable("there is none".to_owned()))
    }

    /// Whether less than a third is left.
    #[must_use]
    pub fn is_due(&self, now: SystemTime) -> bool {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.until.duration_since(now).unwrap_or_default() < life / 3
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.until <= now
    }

    /// Whether a certificate is of use at `now`.
    #[must_use]
    pub fn holds(&self, now: SystemTime) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether it is to be used rather than `other`: it began later (or in the same second and ends later), or the other is of
    /// no use. One that has not begun, issued while the clock ran ahead, replaces nothing.
    #[must_use]
    pub fn replaces(&self, other: &Self, now: SystemTime) -> bool {
        self.holds(now) && (!other.holds(now) || (self.from, self.until) > (other.from, other.until))
    }

    fn of_der(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let time = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let validity = certificate.validity();
        Ok(Self { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) })
    }
}

/// A site's certificate authority. Its key is never changed: a new authority takes its place.
pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority of `site`.
    pub fn generate(site: &str) -> Result<Self, CertificateError> {
        Self::generate_at(site, SystemTime::now())
    }

    /// A new authority of `site`, whose life begins at `now`.
    pub fn generate_at(site: &str, now: SystemTime) -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = named(&format!("data-embassy {}", checked(site)?), now - SKEW, now + AUTHORITY_LIFE);
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
        let (params, until) = self.leaf(&common, names, ExtendedKeyUsagePurpose::ServerAuth, LEAF_LIFE)?;
        self.issue(&params, until)
    }

    /// A certificate with which `site` is known here as `role`.
    pub fn issue_client(&self, site: &str, role: Role) -> Result<Issued, CertificateError> {
        self.issue_client_for(site, role, LEAF_LIFE)
    }

    /// The same for `life`.
    pub fn issue_client_for(
        &self,
        site: &str,
        role: Role,
        life: Duration,
    ) -> Result<Issued, CertificateError> {
        let (params, until) = self.client(site, role, life)?;
        self.issue(&params, until)
    }

    /// What a client certificate says, and when it ends.
    pub(super) fn client(
        &self,
        site: &str,
        role: Role,
        life: Duration,
    ) -> Result<(CertificateParams, SystemTime), CertificateError> {
        let identity = PeerIdentity { site: checked(site)?.to_owned(), role };
        let uri = identity.to_uri().try_into().map_err(issue)?;
        let common = format!("data-embassy {role} {site}");
        self.leaf(&common, vec![SanType::URI(uri)], ExtendedKeyUsagePurpose::ClientAuth, life)
    }

    /// No leaf outlives its authority.
    fn leaf(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        life: Duration,
    ) -> Result<(CertificateParams, SystemTime), CertificateError> {
        let now = SystemTime::now();
        let until = (now + life).min(Validity::of(&self.certificate_pem)?.until);
        let mut params = named(common_name, now - SKEW, until);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok((params, until))
    }

    fn issue(&self, params: &CertificateParams, not_after: SystemTime) -> Result<Issued, CertificateError> {
        let key = KeyPair::generate().map_err(issue)?;
        let leaf = params.signed_by(&key, &self.issuer()?).map_err(issue)?.pem();
        Ok(Issued {
            certificate_pem: format!("{leaf}{}", self.certificate_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
            not_after,
        })
    }

    /// Signs with the authority's key.
    pub(super) fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, CertificateError> {
        Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key).map_err(issue)
    }
}

/// Whether less than a third of the first certificate's life is left at `now`, or that life has not begun: it was issued while the
/// clock ran ahead, and nobody would take it.
pub fn needs_renewal(pem: &str, now: SystemTime) -> Result<bool, CertificateError> {
    let validity = Validity::of(pem)?;
    Ok(now < validity.from || validity.is_due(now))
}

fn named(common_name: &str, from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = from.into();
    params.not_after = until.into();
    params
}

fn checked(site: &str) -> Result<&str, CertificateError> {
    if is_site_name(site) { Ok(site) } else { Err(CertificateError::SiteName(site.to_owned())) }
}

pub(super) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| CertificateError::Unreadable(error.to_string()))
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| CertificateError::Unreadable(error.to_string()))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(super) fn issue(error: rcgen::Error) -> CertificateError {
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
        let back = now - 365 * DAY;
        assert!(
            needs_renewal(&issued.certificate_pem, back).unwrap(),
            "issued while the clock was a year ahead"
        );
    }

    #[test]
    fn no_leaf_outlives_its_authority() {
        let begun = SystemTime::now() - AUTHORITY_LIFE + 10 * DAY;
        let authority = Authority::generate_at("luxembourg", begun).unwrap();
        let end = Validity::of(authority.certificate_pem()).unwrap().until;
        let issued = authority.issue_client("tallinn", Role::Operator).unwrap();
        assert_eq!(Validity::of(&issued.certificate_pem).unwrap().until, end);
    }

    #[test]
    fn the_longest_of_several_counts() {
        let (old, new) = (
            Authority::generate_at("luxembourg", SystemTime::now() - 3000 * DAY).unwrap(),
            Authority::generate("luxembourg").unwrap(),
        );
        let both = format!("{}{}", old.certificate_pem(), new.certificate_pem());
        let longest = Validity::longest(&both).unwrap();
        assert_eq!(longest, Validity::of(new.certificate_pem()).unwrap());
        assert!(Validity::longest("").is_err());
    }

    #[test]
    fn a_later_certificate_replaces_an_earlier_one_if_it_is_of_use() {
        let now = SystemTime::now();
        let days = |from: u32, until: u32| Validity { from: now + from * DAY, until: now + until * DAY };
        let (early, late) = (days(0, 90), days(60, 150));
        for (at, replaced) in [(59, false), (60, true), (100, true), (149, true), (150, false)] {
            assert_eq!(late.replaces(&early, now + at * DAY), replaced, "after {at} days");
        }
        assert!(early.replaces(&late, now + 30 * DAY), "the late one was issued by a clock that ran ahead");
        assert!(!early.replaces(&early, now + DAY) && !early.replaces(&late, now + 61 * DAY));
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
