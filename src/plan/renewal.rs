//! Client certificates that came with an invitation renew themselves: what is asked and answered in signed mail, and what is
//! next at the site that holds them.

use serde::{Deserialize, Serialize};

/// On a Secret that came with an invitation: the site that invited. Only such Secrets are ever renewed.
pub const INVITED_BY_LABEL: &str = "dataembassy.io/invited-by";

/// What a report says of client certificates: the site that dials asks, the site with the vault answers.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Renewal {
    /// Certificates are wanted.
    Request(Request),
    /// Certificates were issued.
    Answer(Answer),
}

/// Two certificate requests, PKCS#10 in PEM. The keys stay where they were made.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// For the operator.
    pub operator: String,
    /// For the movers.
    pub mover: String,
}

/// What a request led to.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// The request.
    pub request: Request,
    /// The operator's certificate and its authority's, in PEM.
    pub operator: String,
    /// The movers' certificate and its authority's, in PEM.
    pub mover: String,
    /// Every authority that the vault's own certificate may chain to, in PEM.
    pub authorities: String,
}

impl Renewal {
    /// What is wanted, if this is a request.
    #[must_use]
    pub const fn request(&self) -> Option<&Request> {
        match self {
            Self::Request(request) => Some(request),
            Self::Answer(_) => None,
        }
    }

    /// What was issued, if this is an answer.
    #[must_use]
    pub const fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Request(_) => None,
            Self::Answer(answer) => Some(answer),
        }
    }
}

/// How much of a certificate's life is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A third or more.
    Fresh,
    /// Less than a third.
    Due,
    /// Nothing.
    Over,
}

/// What a site holds for one vault that it dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Whether the Secret came with an invitation of that vault's site.
    pub invited: bool,
    /// How much of the certificate in use is left.
    pub life: Life,
    /// Whether new keys wait for their certificates.
    pub pending: bool,
    /// Whether the last renewal is younger than what is in use, and still valid.
    pub renewed_is_newer: bool,
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, or nothing that this site may do.
    Nothing,
    /// Put the last renewal into use.
    Use,
    /// Make new keys and keep them.
    Make,
    /// Ask for certificates of the keys that wait.
    Ask,
    /// Forget the keys that wait: a new invitation came first.
    Forget,
}

/// Decides.
#[must_use]
pub const fn next(holding: &Holding) -> Step {
    if !holding.invited {
        return Step::Nothing;
    }
    // Also after an old invitation was applied again, and when the operator ended before this write.
    if holding.renewed_is_newer {
        return Step::Use;
    }
    match (holding.life, holding.pending) {
        (Life::Due, true) => Step::Ask,
        (Life::Due, false) => Step::Make,
        (Life::Fresh, true) => Step::Forget,
        // The vault refuses what ran out: nothing can be asked with it any more.
        (Life::Fresh, false) | (Life::Over, _) => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Holding =
        Holding { invited: true, life: Life::Fresh, pending: false, renewed_is_newer: false };

    #[test]
    fn a_renewal_from_its_beginning_to_its_end() {
        let due = Holding { life: Life::Due, ..FRESH };
        assert_eq!(next(&FRESH), Step::Nothing);
        assert_eq!(next(&due), Step::Make);
        assert_eq!(next(&Holding { pending: true, ..due }), Step::Ask);
        assert_eq!(next(&Holding { renewed_is_newer: true, ..due }), Step::Use);
    }

    #[test]
    fn secrets_of_people_and_of_other_programs_are_never_touched() {
        for life in [Life::Fresh, Life::Due, Life::Over] {
            for (pending, renewed_is_newer) in [(false, false), (true, false), (false, true), (true, true)] {
                let holding = Holding { invited: false, life, pending, renewed_is_newer };
                assert_eq!(next(&holding), Step::Nothing, "{holding:?}");
            }
        }
    }

    #[test]
    fn an_old_invitation_that_is_applied_again_is_replaced_even_if_it_ran_out() {
        for life in [Life::Fresh, Life::Due, Life::Over] {
            for pending in [false, true] {
                let holding = Holding { life, pending, renewed_is_newer: true, ..FRESH };
                assert_eq!(next(&holding), Step::Use, "{holding:?}");
            }
        }
    }

    #[test]
    fn a_new_invitation_ends_a_renewal_under_way() {
        assert_eq!(next(&Holding { pending: true, ..FRESH }), Step::Forget);
    }

    #[test]
    fn what_ran_out_asks_for_nothing() {
        for pending in [false, true] {
            assert_eq!(next(&Holding { life: Life::Over, pending, ..FRESH }), Step::Nothing);
        }
    }

    #[test]
    fn a_report_with_an_unknown_word_is_refused() {
        let request = Request { operator: "a".to_owned(), mover: "b".to_owned() };
        let text = serde_json::to_string(&Renewal::Request(request.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Renewal>(&text).unwrap().request(), Some(&request));
        assert!(serde_json::from_str::<Renewal>(r#"{"order":{}}"#).is_err());
        assert!(
            serde_json::from_str::<Renewal>(r#"{"request":{"operator":"","mover":"","extra":""}}"#).is_err()
        );
    }
}
