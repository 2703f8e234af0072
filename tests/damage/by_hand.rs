//! The last page of `docs/data.md`, word for word: restic alone gets everything back.

use std::{fs, process::Command};

use crate::archive::{Archive, content};

/// The fenced block of the page that begins with ```` ```<language> ````, the last one of its kind.
fn block(language: &str) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data.md")).unwrap();
    let begin = format!("```{language}\n");
    let text = page.rsplit_once(&begin).unwrap_or_else(|| panic!("docs/data.md has no {begin}")).1;
    text.split_once("```").unwrap().0.to_owned()
}

#[test]
fn restic_alone_restores_as_the_page_says() {
    let archive = Archive::new();
    let (manifest, expected, key) = archive.point(2);
    let folder = archive.path("by-hand");
    fs::create_dir(&folder).unwrap();
    let repository = archive.folder().join("repo/1-tallinn");
    let copied =
        Command::new("cp").arg("-a").arg(repository).arg(folder.join("repository")).status().unwrap();
    assert!(copied.success());
    fs::write(folder.join("wrap.py"), block("python")).unwrap();
    fs::write(folder.join("key"), key).unwrap();
    fs::write(folder.join("password"), "a long one\n").unwrap();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block("sh")])
        .current_dir(&folder)
        .env("REPOSITORY", "repository")
        .env("KEY_FILE", "key")
        .env("PASSWORD_FILE", "password")
        .env("SNAPSHOT", &manifest.contents.snapshot)
        .env("TARGET", "target")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains(&manifest.contents.snapshot[..8]), "{}", text(&output.stdout));
    assert!(content(&folder.join("target/volumes/data")) == expected, "other bytes came back");
}
