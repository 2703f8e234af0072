//! Paths and ranges of requests to the vault. A path that is taken leads to a file within its folder.
#![no_main]

use std::path::{Component, Path};

use data_embassy::vault::server::words::{Route, range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: (&str, &str, u64)| {
    let (path, header, length) = text;
    if let Ok(Route::Object(place, slug, kind, name)) = Route::parse(path) {
        let folder = Path::new(&place.namespace).join(&place.name).join(slug.text());
        let file = kind.file(&folder, &name);
        assert!(file.starts_with(&folder), "{}", file.display());
        assert!(file.components().all(|part| matches!(part, Component::Normal(_))), "{}", file.display());
    }
    if let Some((from, to)) = range(header, length) {
        assert!(from <= to && to < length);
    }
});
