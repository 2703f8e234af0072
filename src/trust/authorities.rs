//! The authorities of a site's vault: the one that issues, and beside it the one that follows or the one before, so that no
//! peer is ever shown a certificate of an authority it could not have heard of.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use super::certificates::{Authority, CertificateError, LEAF_LIFE, Validity};

/// How long the next authority is made known before it issues anything. Whoever was invited has renewed by then, and with each
/// renewal hears of all authorities.
const KNOWN: Duration = Duration::from_hours(30 * 24).saturating_add(LEAF_LIFE);

/// All authorities of one site, as they are kept in one Secret.
pub struct Authorities {
    /// Issues every certificate.
    pub issuing: Authority,
    next: Option<Authority>,
    /// Trusted until its end; its key is gone.
    previous: Option<String>,
}

impl Authorities {
    /// The first one of `site`.
    pub fn generate(site: &str) -> Result<Self, CertificateError> {
        Ok(Self { issuing: Authority::generate(site)?, next: None, previous: None })
    }

    /// Reads what `fields` wrote; `field` finds the text of one.
    pub fn read(field: impl Fn(&str) -> Option<String>) -> Result<Self, CertificateError> {
        let pair = |certificate: &str, key: &str| {
            Authority::from_pem(&field(certificate).unwrap_or_default(), &field(key).unwrap_or_default())
        };
        let next = field("next.crt").map(|_| pair("next.crt", "next.key")).transpose()?;
        Ok(Self { issuing: pair("tls.crt", "tls.key")?, next, previous: field("previous.crt") })
    }

    /// What is kept.
    #[must_use]
    pub fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::from([
            ("tls.crt".to_owned(), self.issuing.certificate_pem().to_owned()),
            ("tls.key".to_owned(), self.issuing.key_pem().to_string()),
        ]);
        if let Some(next) = &self.next {
            fields.insert("next.crt".to_owned(), next.certificate_pem().to_owned());
            fields.insert("next.key".to_owned(), next.key_pem().to_string());
        }
        if let Some(previous) = &self.previous {
            fields.insert("previous.crt".to_owned(), previous.clone());
        }
        fields
    }

    /// Every certificate to be trusted, in PEM, the issuing one first.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(Authority::certificate_pem);
        [Some(self.issuing.certificate_pem()), next, self.previous.as_deref()].into_iter().flatten().collect()
    }

    /// When the next authority takes over, if there is one.
    pub fn takes_over(&self) -> Result<Option<SystemTime>, CertificateError> {
        let Some(next) = &self.next else { return Ok(None) };
        let known = Validity::of(next.certificate_pem())?.from + KNOWN;
        Ok(Some(known.min(Validity::of(self.issuing.certificate_pem())?.until)))
    }

    /// The next step, if one is due at `now`: the next authority is made in the last third of the issuing one's life, takes over
    /// once it is known, and the one before is trusted to its end.
    pub fn advance(
        self,
        site: &str,
        now: SystemTime,
    ) -> Result<(Self, Option<&'static str>), CertificateError> {
        let over = |pem: &String| Validity::of(pem).is_ok_and(|validity| validity.is_over(now));
        if self.previous.as_ref().is_some_and(over) {
            return Ok((
                Self { previous: None, ..self },
                Some("the authority before has ended and is trusted no more"),
            ));
        }
        match self.takes_over()? {
            Some(at) if at <= now => {
                let previous = Some(self.issuing.certificate_pem().to_owned());
                let issuing = self.next.unwrap_or(self.issuing);
                Ok((Self { issuing, next: None, previous }, Some("the next authority issues from now on")))
            }
            None if Validity::of(self.issuing.certificate_pem())?.is_due(now) => {
                let next = Some(Authority::generate_at(site, now)?);
                Ok((
                    Self { next, ..self },
                    Some("the next authority was made and is trusted beside this one"),
                ))
            }
            _ => Ok((self, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{
        certificates::needs_renewal,
        identity::{PeerIdentity, Role},
        requests::check_client,
    };

    const DAY: Duration = Duration::from_hours(24);

    fn stored(authorities: &Authorities) -> Authorities {
        let fields = authorities.fields();
        Authorities::read(|name| fields.get(name).cloned()).unwrap()
    }

    fn certificates(authorities: &Authorities) -> usize {
        authorities.bundle().matches("BEGIN CERTIFICATE").count()
    }

    #[test]
    fn the_next_is_known_long_before_it_issues_and_the_one_before_is_trusted_to_its_end() {
        let begun = SystemTime::now();
        let first = Authorities::generate("luxembourg").unwrap();
        let old = first.issuing.certificate_pem().to_owned();
        let (first, said) = first.advance("luxembourg", begun + 2400 * DAY).unwrap();
        assert!(said.is_none() && certificates(&first) == 1, "nothing happens in the first two thirds");

        let made = begun + 2440 * DAY;
        let (announced, said) = stored(&first).advance("luxembourg", made).unwrap();
        assert!(said.is_some() && certificates(&announced) == 2);
        assert_eq!(announced.issuing.certificate_pem(), old, "the old one goes on issuing");
        let (announced, said) = stored(&announced).advance("luxembourg", made + 119 * DAY).unwrap();
        assert!(said.is_none() && announced.issuing.certificate_pem() == old);

        let (taken, said) = stored(&announced).advance("luxembourg", made + 121 * DAY).unwrap();
        assert!(said.is_some() && taken.issuing.certificate_pem() != old);
        assert!(taken.bundle().ends_with(&old), "the old one stays trusted");
        assert!(!taken.fields().contains_key("next.key"));
        let (taken, said) = stored(&taken).advance("luxembourg", begun + 3600 * DAY).unwrap();
        assert!(said.is_none() && certificates(&taken) == 2);
        let (alone, said) = stored(&taken).advance("luxembourg", begun + 3654 * DAY).unwrap();
        assert!(said.is_some() && certificates(&alone) == 1 && !alone.bundle().contains(&old));
    }

    #[test]
    fn an_authority_that_ended_unseen_gives_way_at_once() {
        let first = Authorities::generate("luxembourg").unwrap();
        let old = first.issuing.certificate_pem().to_owned();
        let late = SystemTime::now() + 4000 * DAY;
        let (announced, _) = first.advance("luxembourg", late).unwrap();
        let (taken, _) = announced.advance("luxembourg", late).unwrap();
        assert_ne!(taken.issuing.certificate_pem(), old);
        let (alone, _) = taken.advance("luxembourg", late).unwrap();
        assert_eq!(certificates(&alone), 1);
    }

    #[test]
    fn clients_of_both_authorities_are_taken_while_they_overlap() {
        let made = SystemTime::now() + 2440 * DAY;
        let first = Authorities::generate("luxembourg").unwrap();
        let early = first.issuing.issue_client("tallinn", Role::Operator).unwrap();
        let (announced, _) = first.advance("luxembourg", made).unwrap();
        let (taken, _) = announced.advance("luxembourg", made + 121 * DAY).unwrap();
        let identity = PeerIdentity { site: "tallinn".to_owned(), role: Role::Operator };
        let now = SystemTime::now();
        check_client(&early.certificate_pem, &early.key_pem, &taken.bundle(), &identity, now).unwrap();
        assert!(!needs_renewal(taken.issuing.certificate_pem(), made + 121 * DAY).unwrap());
    }
}
