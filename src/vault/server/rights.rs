//! Who may do what. Pure: decided from the peer's identity, the owner and the owner's policy.

use crate::trust::identity::{PeerIdentity, Role};
use crate::vault::protocol::Policy;

use super::refusal::Refusal;

/// A full quota must not silence a site: manifests and mail may go this far beyond it.
const RESERVE: u64 = 64 << 20;

/// The parts of an embassy's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Repositories.
    Repository,
    /// Manifests.
    Points,
    /// Letters.
    Mail,
    /// Orders to give recovery points up.
    Thinnings,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To see what is stored.
    Read,
    /// To store more.
    Write,
}

/// Who asks, and where.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The peer, proved by its certificate.
    pub peer: &'a PeerIdentity,
    /// The site that the vault belongs to.
    pub local: &'a str,
    /// The policy of the peer's site.
    pub policy: Option<&'a Policy>,
}

impl Caller<'_> {
    /// Refuses what no embassy would grant: movers outside of `/repo`, sites that are not hosted. A mover of the local site
    /// may read the signed documents: it verifies them.
    pub fn enter(&self, area: Area, access: Access) -> Result<(), Refusal> {
        let verifies = self.is_local() && access == Access::Read;
        if self.peer.role == Role::Mover && area != Area::Repository && !verifies {
            return Err(Refusal::NotForMovers);
        }
        if !self.is_local() && self.policy.is_none() {
            return Err(Refusal::NoPolicy(self.peer.site.clone()));
        }
        Ok(())
    }

    /// The owner of an embassy that is not stored yet; `hosted` are the sites that its namespace is hosted for.
    pub fn owner_to_be(&self, namespace: &str, hosted: &[String]) -> Result<String, Refusal> {
        if !self.is_local() {
            self.hosted(namespace)?;
            return Ok(self.peer.site.clone());
        }
        // The local site may come first with its report on a register that is not its own.
        match hosted {
            [] => Ok(self.local.to_owned()),
            [owner] => Ok(owner.clone()),
            _ => Err(Refusal::OwnerUnknown(namespace.to_owned())),
        }
    }

    /// Reading is for the owner and the local site, also when the namespace is no longer hosted.
    pub fn read(&self, owner: &str) -> Result<(), Refusal> {
        if self.is_local() || self.peer.site == owner {
            Ok(())
        } else {
            Err(Refusal::NotOwner(self.peer.site.clone()))
        }
    }

    /// Writing is under the own name only, and for a foreign site while the namespace is hosted.
    pub fn write(&self, owner: &str, author: &str, namespace: &str) -> Result<(), Refusal> {
        self.read(owner)?;
        if author != self.peer.site {
            return Err(Refusal::NotAuthor { site: self.peer.site.clone(), author: author.to_owned() });
        }
        if self.is_local() { Ok(()) } else { self.hosted(namespace) }
    }

    /// Bytes that the embassy may take. None binds the local site: the disk is its own, and a takeover must not fail on it.
    #[must_use]
    pub fn limit(&self, area: Area) -> Option<u64> {
        if self.is_local() {
            return None;
        }
        let quota = self.policy.map_or(0, |policy| u64::try_from(policy.quota_bytes).unwrap_or(0));
        Some(if area == Area::Repository { quota } else { quota.saturating_add(RESERVE) })
    }

    /// Policies are set by the operator of the vault's own site.
    pub fn set_policy(&self) -> Result<(), Refusal> {
        if self.is_local() && self.peer.role == Role::Operator {
            Ok(())
        } else {
            Err(Refusal::NotLocalOperator)
        }
    }

    fn is_local(&self) -> bool {
        self.peer.site == self.local
    }

    fn hosted(&self, namespace: &str) -> Result<(), Refusal> {
        if self.policy.is_some_and(|policy| policy.namespaces.iter().any(|n| n == namespace)) {
            return Ok(());
        }
        let (site, namespace) = (self.peer.site.clone(), namespace.to_owned());
        Err(Refusal::NamespaceNotHosted { site, namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(site: &str, role: Role) -> PeerIdentity {
        PeerIdentity { site: site.to_owned(), role }
    }

    fn policy() -> Policy {
        Policy { namespaces: vec!["ns".to_owned()], quota_bytes: 100, public_key: None }
    }

    fn check<T>(site: &str, role: Role, policy: Option<&Policy>, what: impl Fn(Caller<'_>) -> T) -> T {
        what(Caller { peer: &peer(site, role), local: "luxembourg", policy })
    }

    fn reason<T>(result: Result<T, Refusal>) -> &'static str {
        result.map_or_else(|refusal| refusal.reason(), |_| "granted")
    }

    #[test]
    fn movers_stay_in_repositories_but_for_reading_documents_at_home() {
        for area in [Area::Repository, Area::Points, Area::Mail, Area::Thinnings] {
            for (site, access) in [
                ("luxembourg", Access::Read),
                ("luxembourg", Access::Write),
                ("tallinn", Access::Read),
                ("tallinn", Access::Write),
            ] {
                let granted = area == Area::Repository || (site, access) == ("luxembourg", Access::Read);
                let result = check(site, Role::Mover, Some(&policy()), |caller| caller.enter(area, access));
                let expected = if granted { "granted" } else { "NotForMovers" };
                assert_eq!(reason(result), expected, "{site} {area:?} {access:?}");
            }
        }
    }

    #[test]
    fn a_foreign_site_needs_a_policy_and_the_local_one_does_not() {
        let enter = |caller: Caller<'_>| reason(caller.enter(Area::Mail, Access::Read));
        assert_eq!(check("tallinn", Role::Operator, None, enter), "NoPolicy");
        assert_eq!(check("tallinn", Role::Operator, Some(&policy()), enter), "granted");
        assert_eq!(check("luxembourg", Role::Operator, None, enter), "granted");
    }

    #[test]
    fn owners_and_the_local_site_read() {
        for (site, expected) in [("tallinn", "granted"), ("luxembourg", "granted"), ("riga", "NotOwner")] {
            let result = check(site, Role::Operator, Some(&policy()), |caller| caller.read("tallinn"));
            assert_eq!(reason(result), expected, "{site}");
        }
    }

    #[test]
    fn everybody_writes_under_the_own_name_only() {
        for (site, author, namespace, expected) in [
            ("tallinn", "tallinn", "ns", "granted"),
            ("tallinn", "luxembourg", "ns", "NotAuthor"),
            ("tallinn", "tallinn", "other", "NamespaceNotHosted"),
            ("luxembourg", "luxembourg", "other", "granted"),
            ("luxembourg", "tallinn", "ns", "NotAuthor"),
            ("riga", "riga", "ns", "NotOwner"),
        ] {
            let write = |caller: Caller<'_>| reason(caller.write("tallinn", author, namespace));
            let result = check(site, Role::Operator, Some(&policy()), write);
            assert_eq!(result, expected, "{site} as {author} in {namespace}");
        }
    }

    #[test]
    fn the_owner_is_whose_namespace_it_is() {
        let owner = |site: &str, hosted: &[&str]| {
            let hosted: Vec<String> = hosted.iter().map(|site| (*site).to_owned()).collect();
            check(site, Role::Operator, Some(&policy()), |caller| {
                caller.owner_to_be("ns", &hosted).unwrap_or_else(|refusal| refusal.reason().to_owned())
            })
        };
        assert_eq!(owner("tallinn", &["riga", "tallinn"]), "tallinn");
        assert_eq!(owner("luxembourg", &[]), "luxembourg");
        assert_eq!(owner("luxembourg", &["tallinn"]), "tallinn");
        assert_eq!(owner("luxembourg", &["riga", "tallinn"]), "OwnerUnknown");
    }

    #[test]
    fn a_full_quota_leaves_room_for_mail() {
        let limit = |area| check("tallinn", Role::Operator, Some(&policy()), |caller| caller.limit(area));
        assert_eq!(limit(Area::Repository), Some(100));
        assert_eq!(limit(Area::Mail), Some(100 + RESERVE));
        let local = check("luxembourg", Role::Operator, None, |caller| caller.limit(Area::Repository));
        assert_eq!(local, None);
    }

    #[test]
    fn policies_are_set_by_the_local_operator() {
        let set = |caller: Caller<'_>| reason(caller.set_policy());
        assert_eq!(check("luxembourg", Role::Operator, None, set), "granted");
        assert_eq!(check("luxembourg", Role::Mover, None, set), "NotLocalOperator");
        assert_eq!(check("tallinn", Role::Operator, Some(&policy()), set), "NotLocalOperator");
    }
}
