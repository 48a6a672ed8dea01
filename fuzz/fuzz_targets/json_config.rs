//! JSON configs: no panic, what is read is written and read back the same, and compiling ends.
#![no_main]

use std::sync::{Arc, LazyLock};

use caddis_config::json::write::to_string;
use caddis_core::{Registry, State};
use libfuzzer_sys::fuzz_target;

static REGISTRY: LazyLock<Registry> = LazyLock::new(caddis::registry);

fuzz_target!(|data: &[u8]| {
    let Ok(config) = caddis_config::from_slice(data) else { return };
    let text = to_string(&config).expect("a config can be written");
    let again = caddis_config::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(text, to_string(&again).expect("a config can be written"));
    let (state, metrics) = (State::default(), Arc::default());
    let _ = caddis_plan::compile(config, &REGISTRY, &state, &metrics, caddis_plan::DEFAULT_ADMIN);
});
