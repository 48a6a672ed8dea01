//! Placeholder templates: no panic, a text without braces is itself, and rendering ends.
#![no_main]

use caddis_core::template::{Template, Unknown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let template = Template::parse(text);
    assert_eq!(template.raw(), text);
    if !text.contains(['{', '}', '\\']) {
        assert_eq!(template.as_static(), Some(text));
    }
    let _ = template.keys().count();
    // Files and variables of the machine are none of a fuzzer's business.
    if !text.contains("file.") && !text.contains("env.") {
        let _ = Template::render_global(text, Unknown::Keep);
        let _ = Template::render_global(text, Unknown::Empty);
    }
});
