//! The parser with imports and variables: no panic, bounded output.
#![no_main]

use caddis_caddyfile::MemoryLoader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let loader = MemoryLoader::new()
        .file("/a.conf", "header X-A {args[0]}\n{block}\n")
        .file("/b.conf", data)
        .var("HOST", "example.com")
        .var("BLOCK", "{\nrespond ok\n}");
    let (file, found) = caddis_caddyfile::parse("/Caddyfile", data, &loader);
    if found.iter().any(|one| one.is_error()) {
        return;
    }
    for block in &file.blocks {
        for segment in &block.segments {
            assert!(segment.name().is_some(), "a directive without a name");
        }
    }
});
