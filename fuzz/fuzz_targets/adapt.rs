//! The adapter: no panic, and what it makes is read back as the same config and can be compiled.
#![no_main]

use std::sync::{Arc, LazyLock};

use caddis_caddyfile::MemoryLoader;
use caddis_config::json::write::to_string;
use caddis_core::{Registry, State};
use libfuzzer_sys::fuzz_target;

static REGISTRY: LazyLock<Registry> = LazyLock::new(caddis::registry);

fuzz_target!(|data: &[u8]| {
    let loader = MemoryLoader::new().var("HOST", "example.com");
    let (file, found) = caddis_caddyfile::parse("/Caddyfile", data, &loader);
    let adapted = caddis_adapter::adapt(&file, &REGISTRY);
    if found.iter().any(|one| one.is_error()) {
        return;
    }
    let Ok(adapted) = adapted else { return };
    let text = to_string(&adapted.config).expect("a config can be written");
    let again = caddis_config::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(text, to_string(&again).expect("a config can be written"));
    // What cannot be compiled is refused with a sentence.
    let (state, metrics) = (State::default(), Arc::default());
    let _ = caddis_plan::compile(again, &REGISTRY, &state, &metrics, caddis_plan::DEFAULT_ADMIN);
});
