//! The direction of the layers: `api ← plan ← {observe, act} ← run ← main`; `vault`, `mover`, `trust` stand beside them, and
//! the mover reads the manifests that `plan` defines.

#![cfg(test)]

use std::{fs, path::Path};

/// Each layer and the modules of this crate that it may use.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("api", &["api"]),
    ("plan", &["api", "plan"]),
    ("trust", &["api", "trust"]),
    ("vault", &["api", "trust", "vault"]),
    ("carry", &["api", "plan", "trust", "vault", "carry"]),
    ("mover", &["api", "plan", "trust", "vault", "carry", "mover"]),
    ("cluster", &["api", "cluster"]),
    ("observe", &["api", "plan", "cluster", "trust", "vault", "observe"]),
    ("act", &["api", "plan", "cluster", "trust", "vault", "act"]),
    ("run", &["api", "guard", "plan", "cluster", "trust", "vault", "mover", "observe", "act", "run"]),
];

/// What `api` and `plan` must not name, since they are pure.
const IMPURE: [&str; 11] = [
    "tokio",
    "Client",
    "async fn",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "getrandom",
    "reqwest",
];

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// Lines of code, without comments and attributes' documentation texts.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn no_layer_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = vec![];
    for (layer, allowed) in ALLOWED {
        for (file, text) in sources(&root.join(layer)) {
            for line in code(&text) {
                for (at, _) in line.match_indices("crate::") {
                    let used: String =
                        line[at + 7..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                    if !used.is_empty() && !allowed.contains(&used.as_str()) {
                        wrong.push(format!("{file}: {layer} uses {used}: {line}"));
                    }
                }
                // A grouped import would hide what it uses from this test.
                if line.contains("crate::{") {
                    wrong.push(format!("{file}: import each layer on a line of its own: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn api_and_plan_are_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = vec![];
    for layer in ["api", "plan"] {
        for (file, text) in sources(&root.join(layer)) {
            for line in code(&text) {
                wrong.extend(
                    IMPURE.iter().filter(|w| line.contains(**w)).map(|w| format!("{file}: {w}: {line}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
