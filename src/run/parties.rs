//! Who takes part in a `DataEmbassy`, as one site sees it, and over which vaults it meets the others.

use crate::api::DataEmbassy;

/// The sites of an embassy.
#[derive(Debug, Clone)]
pub struct Parties {
    /// This site.
    pub me: String,
    /// The home of the register.
    pub home: String,
    /// Every other site: home first, then the embassies in their order of preference.
    pub others: Vec<String>,
}

impl Parties {
    /// Who is who; none if this site takes no part.
    #[must_use]
    pub fn of(embassy: &DataEmbassy, me: &str) -> Option<Self> {
        let home = embassy.spec.home.clone();
        let all: Vec<String> = std::iter::once(&home).chain(&embassy.spec.embassies).cloned().collect();
        let others: Vec<String> = all.iter().filter(|site| *site != me).cloned().collect();
        (others.len() < all.len()).then(|| Self { me: me.to_owned(), home, others })
    }

    /// Whether this site is home.
    #[must_use]
    pub fn at_home(&self) -> bool {
        self.me == self.home
    }

    /// The vaults that this site uses, by the name of their site: home dials each embassy's, an embassy has its own.
    #[must_use]
    pub fn vaults(&self) -> Vec<String> {
        if self.at_home() { self.others.clone() } else { vec![self.me.clone()] }
    }

    /// The site that this one meets at a vault.
    #[must_use]
    pub fn met_at(&self, vault: &str) -> String {
        if self.at_home() { vault.to_owned() } else { self.home.clone() }
    }

    /// The vault on the way to a site. Between two embassies it is this site's own, whose mail home passes on.
    #[must_use]
    pub fn vault_towards<'a>(&'a self, site: &'a str) -> &'a str {
        if self.at_home() { site } else { &self.me }
    }

    /// Whether this site and another one use one vault.
    #[must_use]
    pub fn share_vault(&self, site: &str) -> bool {
        self.at_home() || site == self.home
    }
}
