//! An independent program reads what the vault serves: restic, over its own protocol.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use data_embassy::trust::identity::Role;

use crate::{
    repository::{PATH, prepared},
    support::vault::TestVault,
};

fn restic(vault: &TestVault, repository: &str, arguments: &[&str]) -> Output {
    let output = Command::new("restic")
        .args([
            "--no-cache",
            "--cacert",
            &path(vault, "ca.pem"),
            "--tls-client-cert",
            &path(vault, "client.pem"),
        ])
        .args(["-r", repository])
        .args(arguments)
        .env("RESTIC_PASSWORD", "secret")
        .output()
        .unwrap_or_else(|error| panic!("restic is needed (apt-get install restic): {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restic {arguments:?}: {text}");
    output
}

fn path(vault: &TestVault, name: &str) -> String {
    vault.folder.path().join(name).display().to_string()
}

fn names(folder: &Path) -> Vec<std::path::PathBuf> {
    let walk = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn restic_reads_and_checks_a_repository_here() {
    let (vault, client) = prepared(100 << 20);
    let material = vault.material("tallinn", Role::Mover);
    fs::write(path(&vault, "ca.pem"), &material.ca).unwrap();
    fs::write(path(&vault, "client.pem"), format!("{}{}", material.certificate, material.key)).unwrap();
    let source = vault.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for n in 0..50_u8 {
        fs::write(source.join(n.to_string()), vec![n; 10_000 * usize::from(n)]).unwrap();
    }
    let local = path(&vault, "repository");
    restic(&vault, &local, &["init"]);
    restic(&vault, &local, &["backup", &path(&vault, "source")]);

    let local = Path::new(&local);
    client.write("config", "", fs::read(local.join("config")).unwrap().into()).unwrap();
    for kind in ["data", "index", "snapshots"] {
        for file in names(&local.join(kind)) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            client.write(kind, &name, fs::read(file).unwrap().into()).unwrap();
        }
    }
    // The vault takes no key file, and restic cannot do without one: it is laid on the disk.
    let keys = vault.store("embassies/ns/register/repo/1-tallinn/keys");
    fs::create_dir(&keys).unwrap();
    for file in names(&local.join("keys")) {
        fs::copy(&file, keys.join(file.file_name().unwrap())).unwrap();
    }

    let remote = format!("rest:{}/repo/{PATH}/", vault.url());
    let listed = restic(&vault, &remote, &["snapshots", "--no-lock", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    restic(&vault, &remote, &["check", "--no-lock", "--read-data"]);
    let target = vault.folder.path().join("target");
    restic(&vault, &remote, &["restore", "latest", "--no-lock", "--target", &target.display().to_string()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(names(&restored).len(), 50);
    for file in names(&source) {
        let copy = restored.join(file.file_name().unwrap());
        assert!(fs::read(&file).unwrap() == fs::read(&copy).unwrap(), "{}", copy.display());
    }
}
