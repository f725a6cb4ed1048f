//! A word with variables.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|word: &str| {
    let variables = |name: &str| match name.len() % 3 {
        0 => None,
        1 => Some(String::new()),
        _ => Some(format!("{name}/a.b.{name}")),
    };
    let _ = build::Lexer::new('\\').expand(word, &variables);
    let _ = build::Lexer { raw_quotes: true, keeps_unset: true, ..build::Lexer::new('`') }
        .expand(word, &variables);
});
