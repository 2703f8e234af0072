//! What a peer says in signed mail, up to the decision that follows from it.
#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use data_embassy::{
    observe::post::PassedOn,
    plan::{
        desired::Owner,
        failover::{
            decide,
            first_record::{Before, Beginning, begin},
            view::quiet,
        },
    },
    trust::{chain::ChainHead, signing::SiteKey},
};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<SiteKey> = LazyLock::new(|| SiteKey::generate().expect("a key"));

fuzz_target!(|body: &[u8]| {
    let Ok(body) = serde_json::from_slice(body) else { return };
    let (text, _) = ChainHead::default().compose(body, &KEY, "tallinn");
    let owner = Owner { namespace: "registers".to_owned(), name: "land".to_owned() };
    if let Ok(Some(letter)) = PassedOn::believe(&owner, "tallinn", &KEY.public(), &text, true) {
        let document = letter.report.document;
        let before = Before {
            site: "luxembourg",
            peers: BTreeMap::from([("tallinn", Some(&document))]),
            home: "tallinn",
            boot_ids: &BTreeSet::new(),
            own_document: Some(None),
            volumes_exist: false,
        };
        if let Beginning::Record(record, _) = begin(&before) {
            let _ = decide(&quiet(*record, [("tallinn".to_owned(), document)]));
        }
    }
});
