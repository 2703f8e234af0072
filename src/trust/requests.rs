//! Certificates for keys that never leave their site: what is asked, what is issued for it, and whether that fits.

use std::time::SystemTime;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{
    certificates::{Authority, CertificateError, LEAF_LIFE, first_certificate, issue, parse},
    identity::{PeerIdentity, Role},
    tls::verify_client,
};

/// Bytes of an uncompressed point on P-256.
const P256_POINT: usize = 65;

/// A private key and the request for a certificate of it.
pub struct Request {
    /// PKCS#10. It names nobody: for whom the certificate is, the site that issues it knows by who signed the letter.
    pub request_pem: String,
    /// PKCS#8. It never leaves its site.
    pub key_pem: Zeroizing<String>,
}

impl Request {
    /// With a new key.
    pub fn generate() -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(issue)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(issue)?;
        Ok(Self { request_pem, key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

impl Authority {
    /// A certificate for the key of a request: with it, `site` is known here as `role`. Nothing but the key, which the request
    /// proves to be held by its author, is taken from the request.
    pub fn answer(&self, request_pem: &str, site: &str, role: Role) -> Result<String, CertificateError> {
        let refused = |error: rcgen::Error| CertificateError::Request(error.to_string());
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).map_err(refused)?;
        let key = &request.public_key;
        if PublicKeyData::algorithm(key) != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT {
            return Err(CertificateError::Request("its key is not one of ECDSA on P-256".to_owned()));
        }
        request.params = self.client(site, role, LEAF_LIFE)?.0;
        let leaf = request.signed_by(&self.issuer()?).map_err(issue)?.pem();
        Ok(format!("{leaf}{}", self.certificate_pem()))
    }
}

/// Refuses a client certificate that is not for this key and this identity, or that a vault with these authorities would refuse
/// at `now`.
pub fn check_client(
    certificate_pem: &str,
    key_pem: &str,
    authorities_pem: &str,
    identity: &PeerIdentity,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let key = KeyPair::from_pem(key_pem).map_err(|error| CertificateError::Key(error.to_string()))?;
    let der = first_certificate(certificate_pem)?;
    if parse(&der)?.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(CertificateError::Mismatch);
    }
    match PeerIdentity::from_der(&der) {
        Ok(found) if found == *identity => {}
        found => {
            let found = found.map_or_else(|error| error.to_string(), |found| found.to_string());
            return Err(CertificateError::OtherIdentity { expected: identity.clone(), found });
        }
    }
    Ok(verify_client(certificate_pem, authorities_pem, now)?)
}

/// Whether the last certificate of a chain is one of `authorities_pem`.
#[must_use]
pub fn ends_in(chain_pem: &str, authorities_pem: &str) -> bool {
    let all = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().ok();
    match (all(chain_pem), all(authorities_pem)) {
        (Some(chain), Some(authorities)) => chain.last().is_some_and(|last| authorities.contains(last)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine, engine::general_purpose::STANDARD};
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn tallinn(role: Role) -> PeerIdentity {
        PeerIdentity { site: "tallinn".to_owned(), role }
    }

    #[test]
    fn an_answer_takes_the_key_and_nothing_else_from_the_request() {
        let authority = Authority::generate("luxembourg").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["vault.example.org".to_owned()]).unwrap();
        let riga = PeerIdentity { site: "riga".to_owned(), role: Role::Operator }.to_uri();
        greedy.subject_alt_names.push(SanType::URI(riga.try_into().unwrap()));
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = greedy.serialize_request(&key).unwrap().pem().unwrap();
        let answer = authority.answer(&request, "tallinn", Role::Mover).unwrap();
        let der = first_certificate(&answer).unwrap();
        let certificate = parse(&der).unwrap();
        assert_eq!(PeerIdentity::from_der(&der).unwrap(), tallinn(Role::Mover));
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(!certificate.is_ca());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let trusted = authority.certificate_pem();
        check_client(&answer, &key.serialize_pem(), trusted, &tallinn(Role::Mover), SystemTime::now())
            .unwrap();
    }

    #[test]
    fn a_request_that_proves_nothing_is_refused() {
        let authority = Authority::generate("luxembourg").unwrap();
        let request = Request::generate().unwrap().request_pem;
        // One bit of its signature is wrong.
        let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap();
        let mut forged = der.to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let forged = STANDARD.encode(forged);
        let forged =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{forged}\n-----END CERTIFICATE REQUEST-----\n");
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let ed25519 = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
        for bad in ["", "no request", authority.certificate_pem(), &ed25519, &forged] {
            let refused = authority.answer(bad, "tallinn", Role::Operator);
            assert!(matches!(refused, Err(CertificateError::Request(_))), "{bad}");
        }
        assert!(authority.answer(&request, "No Site", Role::Operator).is_err());
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let authority = Authority::generate("luxembourg").unwrap();
        let stranger = Authority::generate("luxembourg").unwrap();
        let (mine, other) = (Request::generate().unwrap(), Request::generate().unwrap());
        let now = SystemTime::now();
        let check = |certificate: &str, authority: &Authority, now| {
            let identity = tallinn(Role::Operator);
            check_client(certificate, &mine.key_pem, authority.certificate_pem(), &identity, now)
        };
        let good = authority.answer(&mine.request_pem, "tallinn", Role::Operator).unwrap();
        check(&good, &authority, now).unwrap();
        assert!(matches!(check(&good, &stranger, now), Err(CertificateError::Untrusted(_))));
        assert!(matches!(check(&good, &authority, now + 91 * DAY), Err(CertificateError::Untrusted(_))));
        let key = authority.answer(&other.request_pem, "tallinn", Role::Operator).unwrap();
        assert!(matches!(check(&key, &authority, now), Err(CertificateError::Mismatch)));
        for (site, role) in [("riga", Role::Operator), ("tallinn", Role::Mover)] {
            let identity = authority.answer(&mine.request_pem, site, role).unwrap();
            assert!(matches!(check(&identity, &authority, now), Err(CertificateError::OtherIdentity { .. })));
        }
        assert!(check("none", &authority, now).is_err());
    }

    #[test]
    fn a_chain_ends_in_its_own_authority_only() {
        let (authority, stranger) =
            (Authority::generate("luxembourg").unwrap(), Authority::generate("luxembourg").unwrap());
        let chain = authority.issue_client("tallinn", Role::Operator).unwrap().certificate_pem;
        let both = format!("{}{}", stranger.certificate_pem(), authority.certificate_pem());
        assert!(ends_in(&chain, authority.certificate_pem()) && ends_in(&chain, &both));
        assert!(!ends_in(&chain, stranger.certificate_pem()));
        assert!(!ends_in("", &both) && !ends_in(&chain, ""));
    }
}
