//! Captured objects, as a takeover reads them and as a capture strips them.
#![no_main]

use data_embassy::mover::{activate::order, capture::{identity, select, strip::strip}};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let Ok(mut objects) = serde_json::from_slice::<Vec<Value>>(text) else { return };
    let count = objects.len();
    order::sort(&mut objects);
    for object in &mut objects {
        let _ = (identity(object), select::is_captured(object));
        strip(object);
        let once = object.clone();
        strip(object);
        assert_eq!(*object, once, "stripped is stripped");
    }
    assert_eq!(objects.len(), count);
});
