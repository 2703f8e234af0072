//! The committed CustomResourceDefinitions are what the code generates.

#![cfg(test)]

use std::{fs, path::Path};

use data_embassy::api::definitions;

#[test]
fn committed_definitions_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let generated = definitions::files().unwrap();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        for (name, text) in &generated {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    for (name, text) in &generated {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(&committed, text, "crds/{name} is out of date: run 'make generate' and commit it");
    }
    let mut committed: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: Vec<String> = generated.into_iter().map(|(name, _)| name).collect();
    committed.sort();
    expected.sort();
    assert_eq!(committed, expected, "crds/ holds a file that no kind of ours generates");
}
