//! The URL space. Names are checked here, strictly, so that no path ever leaves its folder.

use crate::trust::identity::is_site_name;

use super::refusal::Refusal;

/// One embassy: the namespace and the name of its `DataEmbassy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The namespace at the owner's cluster.
    pub namespace: String,
    /// The name of the `DataEmbassy`.
    pub name: String,
}

/// An epoch in a path: `<number>-<site>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug {
    /// From 1.
    pub number: i64,
    /// The only site that may write in it.
    pub site: String,
}

impl Slug {
    /// As in the path.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}-{}", self.number, self.site)
    }

    /// Reads `<number>-<site>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, site) = text.split_once('-')?;
        let number = sequence(number).ok()?;
        is_site_name(site).then(|| Self { number, site: site.to_owned() })
    }
}

/// Types of objects in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Packs.
    Data,
    /// What is in which pack.
    Index,
    /// Never stored here.
    Keys,
    /// Never stored here.
    Locks,
    /// Snapshots.
    Snapshots,
    /// Which objects a recovery point needs; ours, restic ignores them.
    Inventories,
}

impl Kind {
    /// As in the path.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Index => "index",
            Self::Keys => "keys",
            Self::Locks => "locks",
            Self::Snapshots => "snapshots",
            Self::Inventories => "inventories",
        }
    }

    /// Where an object lies in a repository. Packs are spread by the first two digits, since there are many of them.
    #[must_use]
    pub fn object(self, repository: &str, name: &str) -> String {
        let kind = self.text();
        if self == Self::Data {
            format!("{repository}/{kind}/{}/{name}", &name[..2])
        } else {
            format!("{repository}/{kind}/{name}")
        }
    }

    /// Reads what is in the path.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        [Self::Data, Self::Index, Self::Keys, Self::Locks, Self::Snapshots, Self::Inventories]
            .into_iter()
            .find(|kind| kind.text() == text)
            .ok_or_else(|| bad(text, "type of object (data, index, keys, locks, snapshots, inventories)"))
    }
}

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/whoami`
    WhoAmI,
    /// `/keys`
    Keys,
    /// `/policy/{site}`
    Policy(String),
    /// `/embassies`
    Embassies,
    /// `/epochs/{namespace}/{name}`
    Epochs(Place),
    /// `/repo/{namespace}/{name}/{epoch}/`
    Repository(Place, Slug),
    /// `/repo/{namespace}/{name}/{epoch}/config`
    Config(Place, Slug),
    /// `/repo/{namespace}/{name}/{epoch}/{kind}/`
    Objects(Place, Slug, Kind),
    /// `/repo/{namespace}/{name}/{epoch}/{kind}/{sha256}`
    Object(Place, Slug, Kind, String),
    /// `/repo/{namespace}/{name}/{epoch}/condemned`
    Condemned(Place, Slug),
    /// `/thinnings/{namespace}/{name}`
    Thinnings(Place),
    /// `/thinnings/{namespace}/{name}/{sequence}`
    Thinning(Place, i64),
    /// `/points/{namespace}/{name}`
    Points(Place),
    /// `/points/{namespace}/{name}/{epoch}/{sequence}`
    Point(Place, Slug, i64),
    /// `/mail/{namespace}/{name}`
    Mailboxes(Place),
    /// `/mail/{namespace}/{name}/{site}`
    Letters(Place, String),
    /// `/mail/{namespace}/{name}/{site}/{sequence}`
    Letter(Place, String, i64),
}

impl Route {
    /// Reads a path. Nothing is unescaped: no name needs it, so an escape is a bad name.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        Ok(match parts.as_slice() {
            ["whoami"] => Self::WhoAmI,
            ["keys"] => Self::Keys,
            ["embassies"] => Self::Embassies,
            ["epochs", namespace, name] => Self::Epochs(place(namespace, name)?),
            ["policy", site] => Self::Policy(self::site(site)?),
            ["repo", namespace, name, epoch, rest @ ..] if !rest.is_empty() => {
                Self::repository(place(namespace, name)?, slug(epoch)?, rest, path)?
            }
            ["thinnings", namespace, name] => Self::Thinnings(place(namespace, name)?),
            ["thinnings", namespace, name, number] => {
                Self::Thinning(place(namespace, name)?, sequence(number)?)
            }
            ["points", namespace, name] => Self::Points(place(namespace, name)?),
            ["points", namespace, name, epoch, number] => {
                Self::Point(place(namespace, name)?, slug(epoch)?, sequence(number)?)
            }
            ["mail", namespace, name] => Self::Mailboxes(place(namespace, name)?),
            ["mail", namespace, name, author] => Self::Letters(place(namespace, name)?, site(author)?),
            ["mail", namespace, name, author, number] => {
                Self::Letter(place(namespace, name)?, site(author)?, sequence(number)?)
            }
            _ => return Err(no_such_path(path)),
        })
    }

    fn repository(place: Place, slug: Slug, rest: &[&str], path: &str) -> Result<Self, Refusal> {
        Ok(match rest {
            [""] => Self::Repository(place, slug),
            ["config"] => Self::Config(place, slug),
            ["condemned"] => Self::Condemned(place, slug),
            [kind, ""] => Self::Objects(place, slug, Kind::parse(kind)?),
            [kind, name] => Self::Object(place, slug, Kind::parse(kind)?, digest(name)?),
            _ => return Err(no_such_path(path)),
        })
    }

    /// For metrics: few values, none from the client.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::WhoAmI | Self::Keys | Self::Embassies => "about",
            Self::Policy(_) => "policy",
            Self::Repository(..)
            | Self::Config(..)
            | Self::Condemned(..)
            | Self::Objects(..)
            | Self::Object(..) => "repo",
            Self::Thinnings(_) | Self::Thinning(..) => "thinnings",
            Self::Epochs(_) | Self::Points(_) | Self::Point(..) => "points",
            Self::Mailboxes(_) | Self::Letters(..) | Self::Letter(..) => "mail",
        }
    }
}

/// Whether `text` is a DNS label, as every namespace and embassy is named.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a SHA-256 in lower-case hex.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A number from 1, in its only spelling.
pub fn sequence(text: &str) -> Result<i64, Refusal> {
    let canonical =
        (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical).ok_or_else(|| bad(text, "number from 1"))
}

fn place(namespace: &str, name: &str) -> Result<Place, Refusal> {
    if !is_label(namespace) {
        return Err(bad(namespace, "namespace"));
    }
    if !is_label(name) {
        return Err(bad(name, "name of a DataEmbassy"));
    }
    Ok(Place { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn slug(text: &str) -> Result<Slug, Refusal> {
    Slug::parse(text).ok_or_else(|| bad(text, "epoch such as 2-luxembourg"))
}

fn site(text: &str) -> Result<String, Refusal> {
    if is_site_name(text) { Ok(text.to_owned()) } else { Err(bad(text, "name of a site")) }
}

fn digest(text: &str) -> Result<String, Refusal> {
    if is_digest(text) { Ok(text.to_owned()) } else { Err(bad(text, "SHA-256 in hex")) }
}

fn bad(text: &str, expected: &'static str) -> Refusal {
    Refusal::BadName { text: text.chars().take(80).collect(), expected }
}

fn no_such_path(path: &str) -> Refusal {
    Refusal::NoSuchPath(path.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(path: &str) -> &'static str {
        Route::parse(path).unwrap_err().reason()
    }

    #[test]
    fn every_path_has_its_meaning() {
        let digest = "a".repeat(64);
        let place = || Place { namespace: "ns".to_owned(), name: "reg".to_owned() };
        let slug = || Slug { number: 2, site: "new-york".to_owned() };
        for (path, route) in [
            ("/whoami", Route::WhoAmI),
            ("/keys", Route::Keys),
            ("/embassies", Route::Embassies),
            ("/epochs/ns/reg", Route::Epochs(place())),
            ("/policy/tallinn", Route::Policy("tallinn".to_owned())),
            ("/repo/ns/reg/2-new-york/", Route::Repository(place(), slug())),
            ("/repo/ns/reg/2-new-york/config", Route::Config(place(), slug())),
            ("/repo/ns/reg/2-new-york/data/", Route::Objects(place(), slug(), Kind::Data)),
            (
                &format!("/repo/ns/reg/2-new-york/index/{digest}"),
                Route::Object(place(), slug(), Kind::Index, digest.clone()),
            ),
            ("/repo/ns/reg/2-new-york/condemned", Route::Condemned(place(), slug())),
            ("/thinnings/ns/reg", Route::Thinnings(place())),
            ("/thinnings/ns/reg/3", Route::Thinning(place(), 3)),
            ("/points/ns/reg", Route::Points(place())),
            ("/points/ns/reg/2-new-york/7", Route::Point(place(), slug(), 7)),
            ("/mail/ns/reg", Route::Mailboxes(place())),
            ("/mail/ns/reg/tallinn", Route::Letters(place(), "tallinn".to_owned())),
            ("/mail/ns/reg/tallinn/1", Route::Letter(place(), "tallinn".to_owned(), 1)),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn packs_are_spread() {
        let name = "ab".repeat(32);
        assert_eq!(Kind::Data.object("r", &name), format!("r/data/ab/{name}"));
        assert_eq!(Kind::Index.object("r", &name), format!("r/index/{name}"));
    }

    #[test]
    fn no_name_leaves_its_folder() {
        for path in [
            "/repo/../reg/1-a/config",
            "/repo/ns/../1-a/config",
            "/repo/%2e%2e/reg/1-a/config",
            "/repo/ns/reg/1-../config",
            "/repo/ns/reg/1-a/data/../../../x",
            "/repo/ns/reg/1-a/../config",
            "/repo/ns/reg/1-a/tmp/",
            "/repo//reg/1-a/config",
            "/repo/ns/reg/1-a/data/ABCDEF",
            "/points/ns/reg/1-a/..",
            "/mail/ns/reg/..",
            "/mail/ns/reg/a%00b",
        ] {
            let reason = reason(path);
            assert!(["BadName", "NoSuchPath"].contains(&reason), "{path}: {reason}");
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        for text in ["0", "01", "+1", "-1", "1a", "", "1234567890123456789"] {
            assert_eq!(reason(&format!("/mail/ns/reg/tallinn/{text}")), "BadName", "{text}");
            assert_eq!(reason(&format!("/points/ns/reg/{text}-a/1")), "BadName", "{text}");
        }
    }

    #[test]
    fn other_paths_do_not_exist() {
        for path in ["", "/", "/repo", "/repo/ns/reg", "/repo/ns/reg/1-a", "/keys/", "/mail/ns", "/x"] {
            assert_eq!(reason(path), "NoSuchPath", "{path}");
        }
    }
}
