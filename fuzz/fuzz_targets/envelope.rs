//! Signed documents as they come over the line. None that another key signed, or nobody, is ever believed.
#![no_main]

use std::sync::LazyLock;

use data_embassy::trust::{
    chain::ChainHead,
    envelope::{Envelope, Purpose},
    signing::SiteKey,
};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<SiteKey> = LazyLock::new(|| SiteKey::generate().expect("a key"));

fuzz_target!(|text: &str| {
    let key = KEY.public();
    assert!(ChainHead::default().accept(text, &key, "tallinn").is_err());
    if let Ok(envelope) = Envelope::parse(text) {
        assert!(envelope.open(&key, &envelope.author, Purpose::Manifest).is_err());
        assert_eq!(Envelope::parse(&envelope.to_text()).as_ref(), Ok(&envelope));
    }
});
