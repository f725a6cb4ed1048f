//! Patterns of an ignore file, and behind an empty line paths.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (patterns, paths) = text.split_once("\n\n").unwrap_or((text, "a/b/c"));
    let Ok(ignore) = build::Ignore::parse(patterns) else { return };
    for path in paths.lines() {
        let _ = ignore.may_return_below(path);
        // A file is out where a directory above it is, unless something takes it back in.
        if let Some((above, _)) = path.rsplit_once('/')
            && ignore.matches(above)
            && !ignore.has_exceptions()
        {
            assert!(ignore.matches(path), "{patterns:?} {path:?}");
        }
    }
});
