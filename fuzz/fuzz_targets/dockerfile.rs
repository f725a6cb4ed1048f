//! A Dockerfile.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Its mounts are read with it.
    if let Err(error) = build::Dockerfile::parse(text)
        && let Some(span) = error.span()
    {
        assert!(span.start <= span.end && span.end <= text.len());
        let _ = error.excerpt("Dockerfile", text);
    }
});
