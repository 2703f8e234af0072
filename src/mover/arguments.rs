//! Arguments of `data-embassy mover`, as the operator writes them into Jobs.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand};

use crate::api::epoch::Epoch;
use crate::api::reading::Serve;
use crate::api::replication::Depth;
use crate::plan::bandwidth::Hours;
use crate::trust::{chain::ChainHead, signing::PublicKey};

/// Moves a namespace's data and objects between its volumes, its API server and a vault.
#[derive(Debug, Clone, Parser)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: VerbArguments,
}

/// One verb for each kind of mover Job.
#[derive(Debug, Clone, Subcommand)]
pub enum VerbArguments {
    /// Capture the objects and copy the volumes into the vault.
    Backup(BackupArguments),
    /// Bring the volumes to a recovery point.
    Restore(RestoreArguments),
    /// Apply the captured objects of a recovery point.
    Activate(ActivateArguments),
    /// Read all that the vault holds of an embassy, and say what is wrong with it.
    Verify(VerifyArguments),
    /// Say what a recovery point holds that an earlier one does not.
    Compare(CompareArguments),
    /// Copy the volumes into a folder at the other end of standard input and output; `kubectl embassy export` runs it.
    FirstCopy(FirstCopyArguments),
}

/// The vault, and how the run ends.
#[derive(Debug, Clone, Args)]
pub struct VaultArguments {
    /// Address of the vault, `https://host:port`.
    #[arg(long = "vault")]
    pub url: String,
    /// Folder with `ca.crt`, `tls.crt`, `tls.key` and the repository keys.
    #[arg(long, default_value = "/etc/data-embassy/mover")]
    pub credentials: PathBuf,
    /// Where the outcome is written.
    #[arg(long, default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}

/// What all verbs that use one repository need.
#[derive(Debug, Clone, Args)]
pub struct CommonArguments {
    /// The vault, and how the run ends.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The repository, `<namespace>/<name>/<epoch>`; its key is `repository-key` among the credentials.
    #[arg(long)]
    pub repository: String,
    /// Folder with a folder for each mounted claim.
    #[arg(long, default_value = "/volumes")]
    pub volumes: PathBuf,
    /// Folder for what is needed only while running.
    #[arg(long, default_value = "/work")]
    pub scratch: PathBuf,
    /// Bytes a second that may be sent to or fetched from the vault.
    #[arg(long)]
    pub bandwidth: Option<u64>,
    /// Folder, in memory only, through which a person brings the repository's key; it is not among the credentials then.
    #[arg(long)]
    pub unseal: Option<PathBuf>,
    /// In which hours of each day, such as `07:00-19:00 Europe/Tallinn`.
    #[arg(long, requires = "bandwidth")]
    pub bandwidth_during: Option<Hours>,
}

/// Arguments of a backup.
#[derive(Debug, Clone, Args)]
pub struct BackupArguments {
    /// What all verbs need.
    #[command(flatten)]
    pub common: CommonArguments,
    /// The protected namespace.
    #[arg(long)]
    pub namespace: String,
    /// Name of its `DataEmbassy`, for the log.
    #[arg(long)]
    pub embassy: String,
    /// Kinds that are not captured, as `Kind` or `group/Kind`.
    #[arg(long)]
    pub exclude: Vec<String>,
    /// Protected claims.
    #[arg(long = "claim")]
    pub claims: Vec<String>,
    /// Inventory of the point before in the same repository, from its manifest.
    #[arg(long)]
    pub inventory_base: Option<String>,
    /// An object that is damaged in the vault, such as `data/<sha256>`: it is not built on, and what it held is stored again.
    #[arg(long)]
    pub without: Vec<String>,
}

/// Arguments of a first copy.
#[derive(Debug, Clone, Args)]
pub struct FirstCopyArguments {
    /// Folder with a folder for each mounted claim.
    #[arg(long, default_value = "/volumes")]
    pub volumes: PathBuf,
    /// Protected claims.
    #[arg(long = "claim")]
    pub claims: Vec<String>,
    /// Copy nothing: stay until stopped, so that a copy can be run beside the volumes.
    #[arg(long)]
    pub wait: bool,
    /// Where the outcome is written.
    #[arg(long, default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}

/// Arguments of a restore.
#[derive(Debug, Clone, Args)]
pub struct RestoreArguments {
    /// What all verbs need.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Id of the snapshot.
    #[arg(long)]
    pub snapshot: String,
    /// Digest over the volumes, from the manifest.
    #[arg(long)]
    pub content_digest: String,
    /// Bytes of all files, from the manifest.
    #[arg(long)]
    pub bytes: u64,
    /// Number of files, from the manifest.
    #[arg(long)]
    pub files: u64,
    /// Protected claims.
    #[arg(long = "claim")]
    pub claims: Vec<String>,
    /// Id of the snapshot that the volumes hold since the last restore finished; files that it has alike and that
    /// nobody wrote to since are not compared.
    #[arg(long)]
    pub previous: Option<String>,
    /// Compare every chunk, whatever `--previous` says: after a restore that did not finish, or where the volumes were
    /// written since.
    #[arg(long)]
    pub full_compare: bool,
    /// Inventory of the snapshot, and one of the previous: only what they name is read. For a vault with damage.
    #[arg(long = "inventory")]
    pub inventories: Vec<String>,
}

/// Arguments of an activation.
#[derive(Debug, Clone, Args)]
pub struct ActivateArguments {
    /// What all verbs need.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Id of the snapshot.
    #[arg(long)]
    pub snapshot: String,
    /// Number of captured objects, from the manifest.
    #[arg(long)]
    pub objects: u64,
    /// Inventory of the snapshot: only what it names is read. For a vault with damage.
    #[arg(long = "inventory")]
    pub inventories: Vec<String>,
    /// Protected claims, which must not hold less than the manifest says before anything is applied.
    #[arg(long = "claim", requires_all = ["bytes", "files"])]
    pub claims: Vec<String>,
    /// Bytes of all files, from the manifest.
    #[arg(long, default_value_t = 0)]
    pub bytes: u64,
    /// Number of files, from the manifest.
    #[arg(long, default_value_t = 0)]
    pub files: u64,
    /// The namespace to apply them to.
    #[arg(long)]
    pub namespace: String,
    /// The protected namespace, where this is only a drill: then less is applied, and nothing that others notice.
    #[arg(long)]
    pub drill_of: Option<String>,
    /// Kinds that a drill leaves out, as `Kind` or `group/Kind`.
    #[arg(long, requires = "drill_of")]
    pub exclude: Vec<String>,
    /// Which workloads serve readers, as JSON, where it is no rehearsal.
    #[arg(long, requires = "drill_of", value_parser = serve)]
    pub serve: Option<Serve>,
}

fn serve(text: &str) -> Result<Serve, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Arguments of a verification.
#[derive(Debug, Clone, Args)]
pub struct VerifyArguments {
    /// The vault, and how the run ends.
    #[command(flatten)]
    pub vault: VaultArguments,
    /// The protected namespace.
    #[arg(long)]
    pub namespace: String,
    /// Name of its `DataEmbassy`.
    #[arg(long)]
    pub embassy: String,
    /// Pinned signing key of a site, `<site>=ed25519:<base64>`.
    #[arg(long = "key")]
    pub keys: Vec<SiteKeyArgument>,
    /// The last manifest of an epoch that was verified before, `<epoch>=<sequence>:<sha256>`.
    #[arg(long = "seen-point")]
    pub seen_points: Vec<SeenArgument<Epoch>>,
    /// The last letter of a site that was verified before, `<site>=<sequence>:<sha256>`.
    #[arg(long)]
    pub seen_mail: Vec<SeenArgument<String>>,
    /// `Quick` needs no key; `Deep` also decrypts every blob of the epochs whose keys are given.
    #[arg(long, default_value = "Quick", value_parser = Depth::from_str)]
    pub depth: Depth,
    /// Epoch whose key is `repository-key-<number>-<site>` among the credentials.
    #[arg(long = "repository-key")]
    pub repository_keys: Vec<Epoch>,
}

/// A site and its pinned key.
#[derive(Debug, Clone)]
pub struct SiteKeyArgument {
    /// The site.
    pub site: String,
    /// Its key.
    pub key: PublicKey,
}

impl FromStr for SiteKeyArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (site, key) = text.split_once('=').ok_or("write <site>=ed25519:<base64>")?;
        Ok(Self { site: site.to_owned(), key: key.parse().map_err(|error| format!("{error}"))? })
    }
}

/// How far a chain was verified before.
#[derive(Debug, Clone)]
pub struct SeenArgument<T> {
    /// Whose chain.
    pub of: T,
    /// Its last document.
    pub head: ChainHead,
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for SeenArgument<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write <whose>=<sequence>:<sha256>";
        let (of, head) = text.split_once('=').ok_or(form)?;
        let (sequence, digest) = head.split_once(':').ok_or(form)?;
        let sequence = sequence.parse().map_err(|_| form)?;
        let of = of.parse().map_err(|error: T::Err| error.to_string())?;
        Ok(Self { of, head: ChainHead { sequence, digest: digest.to_owned() } })
    }
}

/// Arguments of a comparison.
#[derive(Debug, Clone, Args)]
pub struct CompareArguments {
    /// What all verbs need.
    #[command(flatten)]
    pub common: CommonArguments,
    /// Id of the snapshot.
    #[arg(long)]
    pub snapshot: String,
    /// Id of an earlier snapshot in the same repository.
    #[arg(long)]
    pub base: String,
}

impl VerbArguments {
    /// Where the outcome is written.
    #[must_use]
    pub const fn termination_log(&self) -> &PathBuf {
        match self {
            Self::Backup(arguments) => &arguments.common.vault.termination_log,
            Self::Restore(arguments) => &arguments.common.vault.termination_log,
            Self::Activate(arguments) => &arguments.common.vault.termination_log,
            Self::Compare(arguments) => &arguments.common.vault.termination_log,
            Self::Verify(arguments) => &arguments.vault.termination_log,
            Self::FirstCopy(arguments) => &arguments.termination_log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: [&str; 2] = ["--vault=https://vault:8443", "--repository=registers/land/1-tallinn"];

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let all = ["mover"].iter().chain(&arguments[..1]).chain(&COMMON).chain(&arguments[1..]);
        Arguments::try_parse_from(all)
    }

    #[test]
    fn a_job_needs_no_paths() {
        let arguments =
            parse(&["backup", "--namespace=registers", "--embassy=land", "--claim=data"]).unwrap();
        let VerbArguments::Backup(backup) = arguments.verb else { panic!("{:?}", arguments.verb) };
        assert_eq!(backup.common.vault.credentials, PathBuf::from("/etc/data-embassy/mover"));
        assert_eq!(backup.common.volumes, PathBuf::from("/volumes"));
        assert_eq!(backup.common.scratch, PathBuf::from("/work"));
    }

    #[test]
    fn a_backup_of_objects_only_is_possible() {
        let arguments = parse(&["backup", "--namespace=registers", "--embassy=land"]).unwrap();
        assert!(matches!(arguments.verb, VerbArguments::Backup(backup) if backup.claims.is_empty()));
    }

    #[test]
    fn a_verification_takes_what_the_operator_writes() {
        let key = crate::trust::signing::SiteKey::generate().unwrap().public();
        let base = ["mover", "verify", "--vault=https://vault:8443", "--namespace=ns", "--embassy=land"];
        let further = [
            format!("--key=tallinn={key}"),
            "--seen-point=1/tallinn=42:ab".to_owned(),
            "--seen-mail=tallinn=7:cd".to_owned(),
            "--depth=Deep".to_owned(),
            "--repository-key=1/tallinn".to_owned(),
        ];
        let all = base.iter().copied().chain(further.iter().map(String::as_str));
        let VerbArguments::Verify(read) = Arguments::try_parse_from(all).unwrap().verb else { panic!() };
        assert_eq!((read.keys[0].site.as_str(), &read.keys[0].key), ("tallinn", &key));
        assert_eq!(read.seen_points[0].head.sequence, 42);
        assert_eq!((read.seen_mail[0].of.as_str(), read.depth), ("tallinn", Depth::Deep));
        for bad in ["--key=tallinn", "--key=tallinn=x", "--seen-mail=a", "--seen-point=a=1:b", "--depth=deep"]
        {
            assert!(Arguments::try_parse_from(base.iter().copied().chain([bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_restore_cannot_forget_the_manifest() {
        let complete =
            ["restore", "--snapshot=a", "--content-digest=b", "--bytes=1", "--files=1", "--claim=data"];
        assert!(parse(&complete).is_ok());
        for missing in 1..5 {
            let mut arguments = complete.to_vec();
            arguments.remove(missing);
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
