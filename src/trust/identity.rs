//! Who a client certificate speaks for: one URI, `spiffe://dataembassy.io/site/<site>/role/<role>`.

use std::fmt;

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// What every identity begins with.
const PREFIX: &str = "spiffe://dataembassy.io/site/";
/// A longer name would not fit into epochs and repository paths.
const MAX_SITE: usize = 40;

/// What a program of a site may do at a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The operator: mail, manifests, repositories.
    Operator,
    /// A short-lived mover Job: repositories only.
    Mover,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Mover => "mover",
        })
    }
}

/// The site and role of a peer, proved by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// The site.
    pub site: String,
    /// What it may do.
    pub role: Role,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no certificate.
    #[error("the client certificate cannot be read ({0}): have the vault's site issue a new one")]
    Unreadable(String),
    /// None or several identities.
    #[error(
        "the client certificate names {0} identities instead of one \
         (a URI 'spiffe://dataembassy.io/site/<site>/role/<operator|mover>'): have the vault's site issue a new one"
    )]
    Count(usize),
    /// An identity of another shape.
    #[error(
        "the client certificate's identity '{0}' is not \
         'spiffe://dataembassy.io/site/<site>/role/<operator|mover>': have the vault's site issue a new one"
    )]
    Malformed(String),
}

impl PeerIdentity {
    /// Reads the identity of a certificate that was verified before.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |error: &dyn fmt::Display| IdentityError::Unreadable(error.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"there are bytes after its end"));
        }
        let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let uris: Vec<&str> = names.iter().filter_map(uri).collect();
        match uris.as_slice() {
            [uri] => Self::from_uri(uri),
            uris => Err(IdentityError::Count(uris.len())),
        }
    }

    /// The URI that a certificate carries.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{PREFIX}{}/role/{}", self.site, self.role)
    }

    fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed(uri.chars().take(120).collect());
        let rest = uri.strip_prefix(PREFIX).ok_or_else(malformed)?;
        let (site, role) = rest.split_once("/role/").ok_or_else(malformed)?;
        let role = match role {
            "operator" => Role::Operator,
            "mover" => Role::Mover,
            _ => return Err(malformed()),
        };
        if !is_site_name(site) {
            return Err(malformed());
        }
        Ok(Self { site: site.to_owned(), role })
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.role, self.site)
    }
}

/// Whether `name` may name a site: `^[a-z]([-a-z0-9]*[a-z0-9])?$`, at most 40 characters.
#[must_use]
pub fn is_site_name(name: &str) -> bool {
    name.len() <= MAX_SITE
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["example.org".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn reads_site_and_role() {
        for (role, text) in [(Role::Operator, "operator"), (Role::Mover, "mover")] {
            let uri = format!("spiffe://dataembassy.io/site/tallinn/role/{text}");
            let identity = PeerIdentity::from_der(&certificate(&[&uri])).unwrap();
            assert_eq!(identity, PeerIdentity { site: "tallinn".to_owned(), role });
            assert_eq!(identity.to_uri(), uri);
        }
    }

    #[test]
    fn none_or_two_are_refused() {
        let uri = "spiffe://dataembassy.io/site/tallinn/role/mover";
        assert_eq!(PeerIdentity::from_der(&certificate(&[])), Err(IdentityError::Count(0)));
        assert_eq!(PeerIdentity::from_der(&certificate(&[uri, uri])), Err(IdentityError::Count(2)));
        // A second URI of any kind could be what another program takes for the identity.
        let other = PeerIdentity::from_der(&certificate(&[uri, "https://example.org"]));
        assert_eq!(other, Err(IdentityError::Count(2)));
    }

    #[test]
    fn other_shapes_are_refused() {
        for uri in [
            "https://dataembassy.io/site/tallinn/role/mover",
            "spiffe://example.org/site/tallinn/role/mover",
            "spiffe://dataembassy.io/site/tallinn/role/root",
            "spiffe://dataembassy.io/site/tallinn/role/mover/",
            "spiffe://dataembassy.io/site/Tallinn/role/mover",
            "spiffe://dataembassy.io/site//role/mover",
            "spiffe://dataembassy.io/site/a/b/role/mover",
        ] {
            let error = PeerIdentity::from_der(&certificate(&[uri])).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed(_)), "{uri}: {error}");
        }
        assert!(matches!(PeerIdentity::from_der(b"no"), Err(IdentityError::Unreadable(_))));
    }

    #[test]
    fn site_names() {
        for good in ["a", "tallinn", "site-2", &"a".repeat(40)] {
            assert!(is_site_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "2a", "A", "a.b", "a/b", "ä", &"a".repeat(41)] {
            assert!(!is_site_name(bad), "{bad}");
        }
    }
}
