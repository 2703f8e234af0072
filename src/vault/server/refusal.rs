//! Every way in which the vault says no: one name, one status, one sentence.

use std::io;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::trust::identity::IdentityError;
use crate::vault::protocol::Problem;

/// Why a request is not granted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The path is none of ours.
    #[error("'{0}' is no path of this vault")]
    NoSuchPath(String),
    /// A part of the path is malformed.
    #[error("'{text}' is no valid {expected}")]
    BadName {
        /// What was sent.
        text: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The path is right, the method is not.
    #[error("{0} is not possible here")]
    BadMethod(String),
    /// The request itself is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// The range lies outside the object.
    #[error("the range is not within the {0} bytes of the object, or is not of the form 'bytes=FROM-TO'")]
    BadRange(u64),
    /// It is not here.
    #[error("{0} is not stored here")]
    NotFound(String),
    /// An upload came before the repository.
    #[error("the repository does not exist: create it first with POST ?create=true")]
    NoRepository,
    /// The certificate names nobody.
    #[error(transparent)]
    UnknownIdentity(#[from] IdentityError),
    /// Nothing is ever deleted.
    #[error(
        "nobody deletes here: the vault itself frees what the signed order of the register's active site gives up, once          immutableFor has passed"
    )]
    NeverDeletes,
    /// The site is not hosted.
    #[error("site '{0}' has no policy here: the vault's site must host it (Site.spec.hosting)")]
    NoPolicy(String),
    /// The namespace is not hosted.
    #[error(
        "namespace '{namespace}' is not hosted for site '{site}': \
         the vault's site must add it to Site.spec.hosting.namespaces"
    )]
    NamespaceNotHosted {
        /// The foreign site.
        site: String,
        /// The namespace it asked for.
        namespace: String,
    },
    /// The embassy belongs to another site.
    #[error("this embassy belongs to another site than '{0}'")]
    NotOwner(String),
    /// Several hosted sites could own it.
    #[error(
        "namespace '{0}' is hosted for several sites, so the owner of this embassy is not known \
         until the owner writes first"
    )]
    OwnerUnknown(String),
    /// It would be written under another site's name.
    #[error("site '{site}' may not write what belongs to site '{author}'")]
    NotAuthor {
        /// The caller.
        site: String,
        /// The site in the path.
        author: String,
    },
    /// Movers have no business there.
    #[error("a mover may use /repo only, and at the vault of its own site read the signed documents")]
    NotForMovers,
    /// Policies are the local operator's.
    #[error("only the operator of the vault's own site sets policies")]
    NotLocalOperator,
    /// No key file is ever stored.
    #[error(
        "key files are not stored here: repositories are opened with a master key that stays with its owner"
    )]
    NoKeyFiles,
    /// There are no locks.
    #[error("locks are not stored here since nothing is ever deleted: use --no-lock")]
    NoLocks,
    /// An order to give points up that is not believed, or does not follow the last one.
    #[error("the order to give recovery points up is not taken: {0}")]
    BadThinning(String),
    /// A different configuration is there.
    #[error("the repository has a configuration already, and it is never overwritten")]
    Exists,
    /// A recovery point with holes.
    #[error(
        "the recovery point needs {count} objects that are not stored here, such as '{first}': it was not taken, and \
         no other that builds on them will be. Put them back from a copy of the vault's volume, or begin a new \
         repository by a planned switch over and back"
    )]
    Incomplete {
        /// One of them.
        first: String,
        /// How many.
        count: usize,
    },
    /// A recovery point on packs that another vault on the same store may free soon.
    #[error(
        "the recovery point needs '{0}', which was given up and may be freed soon: the copy took longer than half the time between two rounds. \
         The next one does without it"
    )]
    AboutToGo(String),
    /// Another text is there.
    #[error("a different document is stored under this name, and it is never overwritten")]
    Different {
        /// What is stored.
        text: String,
    },
    /// A letter that is not the next one.
    #[error("the next letter is {}, not {found}", last + 1)]
    OutOfOrder {
        /// Sequence of the last letter.
        last: i64,
        /// What came.
        found: i64,
    },
    /// The upload was damaged on its way.
    #[error("the content's SHA-256 is {found} and not its name: it was damaged on its way, send it again")]
    WrongDigest {
        /// SHA-256 of what arrived.
        found: String,
    },
    /// Larger than one object may be.
    #[error("more than {0} bytes in one object")]
    TooLarge(u64),
    /// The embassy is full.
    #[error(
        "the embassy's quota of {0} bytes is used up: the vault's site can raise Site.spec.hosting.quota"
    )]
    QuotaExceeded(u64),
    /// The upload stopped before its end.
    #[error("the upload stopped before its end")]
    Interrupted,
    /// The vault's disk is full.
    #[error("the vault's disk is full: its site must enlarge it")]
    DiskFull,
    /// The vault's disk failed.
    #[error("the vault's disk failed: {0}")]
    Disk(io::Error),
}

impl Refusal {
    /// For programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSuchPath(_) => "NoSuchPath",
            Self::BadName { .. } => "BadName",
            Self::BadMethod(_) => "BadMethod",
            Self::BadRequest(_) => "BadRequest",
            Self::BadRange(_) => "BadRange",
            Self::NotFound(_) => "NotFound",
            Self::NoRepository => "NoRepository",
            Self::UnknownIdentity(_) => "UnknownIdentity",
            Self::NeverDeletes => "NeverDeletes",
            Self::NoPolicy(_) => "NoPolicy",
            Self::NamespaceNotHosted { .. } => "NamespaceNotHosted",
            Self::NotOwner(_) => "NotOwner",
            Self::OwnerUnknown(_) => "OwnerUnknown",
            Self::NotAuthor { .. } => "NotAuthor",
            Self::NotForMovers => "NotForMovers",
            Self::NotLocalOperator => "NotLocalOperator",
            Self::NoKeyFiles => "NoKeyFiles",
            Self::NoLocks => "NoLocks",
            Self::BadThinning(_) => "BadThinning",
            Self::Exists => "Exists",
            Self::Incomplete { .. } => "Incomplete",
            Self::AboutToGo(_) => "AboutToGo",
            Self::Different { .. } => "Different",
            Self::OutOfOrder { .. } => "OutOfOrder",
            Self::WrongDigest { .. } => "WrongDigest",
            Self::TooLarge(_) => "TooLarge",
            Self::QuotaExceeded(_) => "QuotaExceeded",
            Self::Interrupted => "Interrupted",
            Self::DiskFull => "DiskFull",
            Self::Disk(_) => "DiskFailed",
        }
    }

    /// Clients repeat a request after 5xx only.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath(_) | Self::NotFound(_) | Self::NoRepository => StatusCode::NOT_FOUND,
            Self::BadName { .. } | Self::BadRequest(_) | Self::WrongDigest { .. } => StatusCode::BAD_REQUEST,
            Self::BadMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRange(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Different { .. } | Self::OutOfOrder { .. } => StatusCode::CONFLICT,
            Self::TooLarge(_) | Self::QuotaExceeded(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Incomplete { .. } | Self::AboutToGo(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Interrupted => StatusCode::REQUEST_TIMEOUT,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// A file that could not be opened or read.
    pub fn reading(what: &str) -> impl Fn(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound(what.to_owned()),
            _ => Self::from(error),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Disk(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, reason, message) = (self.status(), self.reason().to_owned(), self.to_string());
        let last = if let Self::OutOfOrder { last, .. } = self { Some(last) } else { None };
        let text = if let Self::Different { text } = self { Some(text) } else { None };
        (status, Json(Problem { reason, message, last, text })).into_response()
    }
}
