//! Paths and ranges of requests to the vault. A path that is taken leads to a file within its folder.
#![no_main]

use std::path::{Component, Path};

use data_embassy::vault::server::words::{Route, range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: (&str, &str, u64)| {
    let (path, header, length) = text;
    if let Ok(Route::Object(place, slug, kind, name)) = Route::parse(path) {
        let folder = format!("{}/{}/{}", place.namespace, place.name, slug.text());
        let object = kind.object(&folder, &name);
        let path = Path::new(&object);
        assert!(path.starts_with(&folder) && !object.contains("//"), "{object}");
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{object}");
    }
    if let Some((from, to)) = range(header, length) {
        assert!(from <= to && to < length);
    }
});
