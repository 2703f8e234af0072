//! Arguments of `data-embassy mover`, as the operator writes them into Jobs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Say what a recovery point holds that an earlier one does not.
    Compare(CompareArguments),
}

/// What all verbs need.
#[derive(Debug, Clone, Args)]
pub struct CommonArguments {
    /// Address of the vault, `https://host:port`.
    #[arg(long)]
    pub vault: String,
    /// The repository, `<namespace>/<name>/<epoch>`.
    #[arg(long)]
    pub repository: String,
    /// Folder with `ca.crt`, `tls.crt`, `tls.key` and `repository-key`.
    #[arg(long, default_value = "/etc/data-embassy/mover")]
    pub credentials: PathBuf,
    /// Folder with a folder for each mounted claim.
    #[arg(long, default_value = "/volumes")]
    pub volumes: PathBuf,
    /// Folder for what is needed only while running.
    #[arg(long, default_value = "/work")]
    pub scratch: PathBuf,
    /// Where the outcome is written.
    #[arg(long, default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
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
    /// The namespace to apply them to.
    #[arg(long)]
    pub namespace: String,
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
    /// What all verbs need.
    #[must_use]
    pub const fn common(&self) -> &CommonArguments {
        match self {
            Self::Backup(arguments) => &arguments.common,
            Self::Restore(arguments) => &arguments.common,
            Self::Activate(arguments) => &arguments.common,
            Self::Compare(arguments) => &arguments.common,
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
        let common = arguments.verb.common();
        assert_eq!(common.volumes, PathBuf::from("/volumes"));
        assert_eq!(common.credentials, PathBuf::from("/etc/data-embassy/mover"));
        assert_eq!(common.scratch, PathBuf::from("/work"));
    }

    #[test]
    fn a_backup_of_objects_only_is_possible() {
        let arguments = parse(&["backup", "--namespace=registers", "--embassy=land"]).unwrap();
        assert!(matches!(arguments.verb, VerbArguments::Backup(backup) if backup.claims.is_empty()));
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
