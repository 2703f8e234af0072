//! Why carrying ends: each way with a sentence that says what to do.

use std::{io, path::PathBuf};

use crate::api::epoch::PointRef;
use crate::vault::client::ClientError;

/// Most files that one message names.
const NAMED: usize = 20;

/// Any failure of an export or an import.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The vault refused, or did not answer for long.
    #[error("{0}; what arrived counts: run the same command again to go on")]
    Vault(#[from] ClientError),
    /// The folder cannot be read or written.
    #[error("{}: {source}; what is in the folder already counts: mend the disk and run the same command again", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The folder holds nothing of that embassy.
    #[error("{} holds no export of {wanted}: {}", folder.display(), found(.held))]
    NoList {
        /// The folder.
        folder: PathBuf,
        /// Namespace and name of the embassy.
        wanted: String,
        /// Whose lists are there.
        held: Vec<String>,
    },
    /// The list is not to be believed.
    #[error("the list {}: {why}; nothing of this folder was imported", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Files of the folder are not what the list says.
    #[error("{}", damaged(.0))]
    Damaged(Vec<String>),
    /// Files that the vault itself holds wrong.
    #[error(
        "the vault does not hold what its recovery points need: {}; verify it (docs/data.md), and export from another vault or point",
        named(.0)
    )]
    VaultDamaged(Vec<String>),
    /// No such recovery point.
    #[error("the vault holds no recovery point {0}: kubectl get recoverypoints shows those that it does")]
    NoPoint(PointRef),
    /// The vault may lack some of it.
    #[error(
        "recovery point {0} was given up: its vault need not hold it any more. Choose one that kubectl get recoverypoints shows"
    )]
    GivenUp(PointRef),
    /// The order to give points up is not to be believed.
    #[error(
        "the vault's order to give recovery points up is not genuine ({0}): verify the vault, and carry nothing of it"
    )]
    Order(String),
    /// The folder carries links of a chain whose bytes were freed, and this vault has never had them.
    #[error(
        "recovery points of this folder were given up at the vault of {vault}, and their bytes are not carried. The vault of {here} has \
         never held them, and takes no recovery point with holes: let the active site copy to it anew"
    )]
    OtherVault {
        /// Whose order it is.
        vault: String,
        /// Where it was to go.
        here: String,
    },
    /// The vault was taken back in time, and gives up less than it did when it was exported.
    #[error(
        "this vault's last order to give recovery points up is number {held}, and the folder comes from a time when it was number {carried}:          the bytes of points between them are not carried. Let the active site give the order anew (it does so within a day), then run the same command again"
    )]
    OlderOrder {
        /// The vault's last.
        held: i64,
        /// The carried one.
        carried: i64,
    },
    /// No recovery point at all.
    #[error("the vault holds no recovery point of {0} yet; a first copy is carried with --from-volumes")]
    NoPoints(String),
    /// A manifest that its site did not sign.
    #[error(
        "recovery point {point} is not what its site signed ({why}): verify the vault, and carry nothing of it"
    )]
    NotGenuine {
        /// Which.
        point: PointRef,
        /// Why.
        why: String,
    },
    /// The vault has begun another repository for that epoch.
    #[error(
        "the vault has a repository of another making for epoch {0}, and never overwrites: these recovery points cannot lie beside its own"
    )]
    OtherRepository(String),
    /// The vault has points that the carried ones do not follow.
    #[error(
        "the vault holds other recovery points of epoch {epoch} than this folder, beginning with {sequence}: the carried ones do \
         not follow them, so nothing was imported"
    )]
    OtherPoints {
        /// The epoch.
        epoch: String,
        /// The first that differs.
        sequence: i64,
    },
    /// The other end of a line broke off.
    #[error("{0}; what arrived counts: run the same command again to go on")]
    Broken(String),
    /// The mover could not do it.
    #[error("the mover failed: {0}")]
    Mover(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    /// A failed access to a file of the folder.
    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { path, source }
    }
}

fn found(held: &[String]) -> String {
    if held.is_empty() {
        "it holds no finished export at all; an export that was broken off is finished by the same command"
            .to_owned()
    } else {
        format!("it holds those of {}", held.join(", "))
    }
}

fn damaged(sentences: &[String]) -> String {
    format!(
        "{} files of the folder are not what the list says: {}. Nothing that needs them was imported; export into the same folder \
         again, which fetches only these, or take another disk",
        sentences.len(),
        named(sentences)
    )
}

fn named(all: &[String]) -> String {
    let mut text = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > NAMED {
        text.push_str("; and more");
    }
    text
}
