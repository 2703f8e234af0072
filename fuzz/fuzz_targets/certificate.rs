//! Requests for certificates that come by mail, and certificates of those who call.
#![no_main]

use std::sync::LazyLock;

use data_embassy::trust::{
    certificates::Authority,
    identity::{PeerIdentity, Role},
};
use libfuzzer_sys::fuzz_target;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::generate("luxembourg").expect("an authority"));

fuzz_target!(|bytes: &[u8]| {
    let _ = PeerIdentity::from_der(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = AUTHORITY.answer(text, "tallinn", Role::Operator);
    }
});
