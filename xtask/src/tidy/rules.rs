//! The rules that look at one file.

use super::Violation;
use super::source::{Function, Source};

const FUNCTION_LINES_MAX: usize = 70;
const RECIPE_LINES_MAX: usize = 150;
const RECIPES_MAX: usize = 12;
const FILE_LINES_MAX: usize = 600;
const LIB_LINES_MAX: usize = 150;

/// What every library's manual must say, in this order.
const MANUAL: &[&str] = &[
    "//! **What it is.**",
    "//! **What it must not know.**",
    "//! **Front doors.**",
    "//! **How to test it.**",
];

/// Names that say nothing about what is inside.
const BANNED_NAMES: &[&str] = &["common", "util", "utils", "types", "helpers", "manager", "misc"];

/// Where the kernel is spoken to without a safe wrapper; a prefix of the path.
const UNSAFE_ALLOWED: &[&str] = &[
    "crates/runtime/src/sys",
    "crates/runtime/src/seccomp/install",
    "crates/runtime/tests/it/seccomp",
    "crates/runtime/src/cgroup/bpf",
    "crates/net/src/netlink",
    "crates/erofs/src/loop_device",
    "testkit/src/bin/floor/kernel",
    "testkit/src/bin/probe/kernel",
    "tests/attack/src/bin/attack-inside",
];

/// The build script of the crate that attacks are proved against.
const WEAKENING_ALLOWED: &str = "tests/weakened/build.rs";

/// What talks to a terminal.
const PRINTING_ALLOWED: &[&str] =
    &["crates/cais/", "xtask/", "testkit/", "tests/attack/src/bin/", "tests/weakened/build.rs"];

/// Rules for the text of any file people write.
pub(crate) fn text(path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.ends_with(char::is_whitespace) {
            found.push(Violation::new(
                path,
                number + 1,
                "space at the end of the line",
                "remove it",
            ));
        }
        if path.ends_with(".md") && line.contains('\t') {
            found.push(Violation::new(path, number + 1, "a tab", "use spaces"));
        }
    }
    found
}

/// Rules for Rust.
pub(crate) fn rust(source: &Source) -> Vec<Violation> {
    [tabs, functions, file_length, manual, macros, test_habits, unsafe_code, modules, weakening]
        .iter()
        .flat_map(|rule| rule(source))
        .collect()
}

/// Tabs between words of code; a literal may hold what another program prints.
fn tabs(source: &Source) -> Vec<Violation> {
    let lines = source.code.iter().enumerate().filter(|(_, line)| line.contains('\t'));
    lines.map(|(line, _)| Violation::new(&source.path, line + 1, "a tab", "use spaces")).collect()
}

fn functions(source: &Source) -> Vec<Violation> {
    let long = |function: &Function| {
        let lines = function.last - function.first + 1;
        let recipe = source.comment_above(function.first, "// recipe:");
        let max = if recipe.is_some() { RECIPE_LINES_MAX } else { FUNCTION_LINES_MAX };
        (lines > max).then(|| {
            let what = format!("`{}` has {lines} lines, of which {max} are allowed", function.name);
            Violation::new(&source.path, function.first + 1, what, "name its parts as functions")
        })
    };
    let counted = source.functions().into_iter().filter(|f| !source.is_test_line(f.first));
    counted.filter_map(|function| long(&function)).collect()
}

/// The places of `// recipe:` comments; one without a reason is caught by [`too_many_recipes`].
pub(crate) fn recipes(source: &Source) -> Vec<(String, usize, bool)> {
    let marked = source.lines.iter().enumerate().filter_map(|(number, line)| {
        let reason = line.trim().strip_prefix("// recipe:")?;
        Some((source.path.clone(), number + 1, !reason.trim().is_empty()))
    });
    marked.collect()
}

/// Judges the recipes of the whole tree.
pub(crate) fn too_many_recipes(recipes: &[(String, usize, bool)]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, (path, line, has_reason)) in recipes.iter().enumerate() {
        if !has_reason {
            let remedy = "say why the order of its steps is the point";
            found.push(Violation::new(path, *line, "a recipe without a reason", remedy));
        }
        if index >= RECIPES_MAX {
            let what = format!("more than {RECIPES_MAX} recipes in the tree");
            found.push(Violation::new(path, *line, what, "name its parts as functions"));
        }
    }
    found
}

fn file_length(source: &Source) -> Vec<Violation> {
    let is_lib = source.path.ends_with("/lib.rs");
    let max = if is_lib { LIB_LINES_MAX } else { FILE_LINES_MAX };
    let lines = source.length();
    if lines <= max {
        return Vec::new();
    }
    let what = format!("{lines} lines that are not tests, of which {max} are allowed");
    let remedy = if is_lib { "keep docs, mod and pub use" } else { "split it by subject" };
    vec![Violation::new(&source.path, 1, what, remedy)]
}

fn manual(source: &Source) -> Vec<Violation> {
    if !source.path.ends_with("src/lib.rs") {
        return Vec::new();
    }
    let docs = source.lines.iter().take_while(|line| line.starts_with("//!"));
    let said: Vec<&str> = docs
        .filter_map(|line| MANUAL.iter().find(|heading| line.starts_with(**heading)).copied())
        .collect();
    if said == MANUAL {
        return Vec::new();
    }
    let remedy = "open with What it is, What it must not know, Front doors, How to test it";
    vec![Violation::new(&source.path, 1, "the manual is not complete and in order", remedy)]
}

fn macros(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut refuse = |word: &str, remedy: &str, allows: &dyn Fn(usize) -> bool| {
        for line in source.find(word).into_iter().filter(|line| !allows(*line)) {
            let what = format!("`{word}`");
            found.push(Violation::new(&source.path, line + 1, what, remedy));
        }
    };
    for word in ["dbg!", "todo!", "unimplemented!"] {
        refuse(word, "finish it", &|_| false);
    }
    let prints = PRINTING_ALLOWED.iter().any(|prefix| source.path.starts_with(prefix));
    for word in ["println!", "eprintln!", "print!", "eprint!"] {
        let allows = |line| prints || source.is_test_line(line);
        refuse(word, "return it, and let the binary print", &allows);
    }
    found
}

fn test_habits(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (word, remedy) in [
        ("#[ignore", "make it run everywhere, or remove it"),
        ("#[should_panic", "assert on a returned error"),
        ("thread::sleep", "wait for an event with a deadline"),
    ] {
        let anywhere = word.starts_with('#');
        for line in source.find(word) {
            if anywhere || source.is_test_line(line) {
                let what = format!("`{word}` in a test");
                found.push(Violation::new(&source.path, line + 1, what, remedy));
            }
        }
    }
    found
}

fn unsafe_code(source: &Source) -> Vec<Violation> {
    let allowed = UNSAFE_ALLOWED.iter().any(|prefix| source.path.starts_with(prefix));
    let mut found = Vec::new();
    for line in source.find("unsafe") {
        if !allowed {
            let remedy = "use rustix, or extend the crate's module of system calls";
            found.push(Violation::new(&source.path, line + 1, "unsafe code", remedy));
        } else if opens_unsafe_block(&source.code[line]) && !is_justified(source, line) {
            let remedy = "write // SAFETY: and why it holds right above";
            found.push(Violation::new(&source.path, line + 1, "unsafe without a reason", remedy));
        }
    }
    found
}

/// Only one build script compiles defences that can be switched off.
fn weakening(source: &Source) -> Vec<Violation> {
    let sets = |line: &String| line.contains(concat!("rustc-cfg=", "weaken"));
    let lines = source.lines.iter().enumerate().filter(|(_, line)| sets(line));
    let lines = lines.filter(|_| source.path != WEAKENING_ALLOWED);
    lines
        .map(|(line, _)| {
            let remedy = "depend on `weakened` in tests instead";
            Violation::new(&source.path, line + 1, "a build without defences", remedy)
        })
        .collect()
}

fn opens_unsafe_block(code: &str) -> bool {
    let words: Vec<&str> = code.split_whitespace().collect();
    let follows = |word: &str| word.ends_with("unsafe");
    words.windows(2).any(|pair| follows(pair[0]) && (pair[1].starts_with('{') || pair[1] == "impl"))
        || words.last().is_some_and(|word| follows(word))
}

/// Whether a SAFETY comment stands above the statement that `line` belongs to.
fn is_justified(source: &Source, line: usize) -> bool {
    let mut first = line;
    while first > 0 && continues(&source.code[first - 1]) {
        first -= 1;
    }
    (first..=line).any(|line| source.comment_above(line, "// SAFETY:").is_some())
}

/// Whether the statement on a line of code goes on in the next.
fn continues(code: &str) -> bool {
    let code = code.trim();
    !code.is_empty() && !code.starts_with("#[") && !code.ends_with([';', '{', '}', ','])
}

fn modules(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for line in source.find("mod") {
        let mut words = source.code[line].split(|c: char| c != '_' && !c.is_alphanumeric());
        let name = words.by_ref().skip_while(|word| *word != "mod").nth(1).unwrap_or_default();
        if BANNED_NAMES.contains(&name) {
            found.push(banned(&source.path, line + 1, name));
        }
    }
    found
}

fn banned(path: &str, line: usize, name: &str) -> Violation {
    let what = format!("the name `{name}` says nothing");
    Violation::new(path, line, what, "name the subject")
}

/// Refuses crates, directories and Rust files with a name that says nothing.
pub(crate) fn names(path: &str) -> Vec<Violation> {
    let is_code = path.ends_with(".rs") || path.ends_with("Cargo.toml");
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let parts = stem.split('/').filter(|part| is_code && BANNED_NAMES.contains(part));
    parts.map(|name| banned(path, 1, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(found: &[Violation]) -> Vec<(usize, &str)> {
        found.iter().map(|violation| (violation.line, violation.what.as_str())).collect()
    }

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        let found = rust(&Source::new(path, text));
        assert_eq!(whats(&found), expected, "{path}\n{text}");
    }

    fn lines(count: usize) -> String {
        "    x();\n".repeat(count)
    }

    #[test]
    fn long_functions_are_caught_and_recipes_may_be_longer() {
        let function = |lines_inside| format!("fn f() {{\n{}}}\n", lines(lines_inside));
        check("a.rs", &function(68), &[]);
        check("a.rs", &function(69), &[(1, "`f` has 71 lines, of which 70 are allowed")]);
        let recipe = |inside| format!("// recipe: the order matters\n#[x]\n{}", function(inside));
        check("a.rs", &recipe(148), &[]);
        check("a.rs", &recipe(149), &[(3, "`f` has 151 lines, of which 150 are allowed")]);
        check("crates/x/tests/it.rs", &function(200), &[]);
        check("a.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(200)), &[]);
    }

    #[test]
    fn recipes_are_few_and_have_a_reason() {
        let source = Source::new("a.rs", "// recipe: because\nfn f() {}\n// recipe:\nfn g() {}\n");
        let found = too_many_recipes(&recipes(&source));
        assert_eq!(whats(&found), [(3, "a recipe without a reason")]);
        let many = vec![("a.rs".to_owned(), 1, true); RECIPES_MAX + 1];
        assert_eq!(too_many_recipes(&many).len(), 1);
        assert_eq!(too_many_recipes(&many[1..]), []);
    }

    #[test]
    fn long_files_are_caught() {
        let text = |count: usize| "//\n".repeat(count);
        check("a.rs", &text(600), &[]);
        check("a.rs", &text(601), &[(1, "601 lines that are not tests, of which 600 are allowed")]);
        let what = "151 lines that are not tests, of which 150 are allowed";
        let incomplete = "the manual is not complete and in order";
        check("crates/x/src/lib.rs", &text(151), &[(1, what), (1, incomplete)]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", text(900));
        check("a.rs", &tests, &[]);
    }

    #[test]
    fn a_library_opens_with_its_manual() {
        let manual = MANUAL.join(" It.\n//!\n") + " It.\n";
        let complete = format!("//! Subject.\n//!\n{manual}");
        check("crates/x/src/lib.rs", &complete, &[]);
        let reversed: Vec<&str> = MANUAL.iter().rev().copied().collect();
        let incomplete = &[(1, "the manual is not complete and in order")];
        check("crates/x/src/lib.rs", &reversed.join("\n"), incomplete);
        check("crates/x/src/lib.rs", &MANUAL[..3].join("\n"), incomplete);
        check("crates/x/src/lib.rs", "//! To come.\n", incomplete);
        check("crates/x/src/main.rs", "//! To come.\n", &[]);
    }

    #[test]
    fn printing_and_leftovers_are_caught() {
        check("crates/x/src/a.rs", "fn f() { println!(); }", &[(1, "`println!`")]);
        check("crates/x/src/a.rs", "fn f() {\n    eprint!(\"x\");\n}", &[(2, "`eprint!`")]);
        check("crates/x/src/a.rs", "// println!\nfn f() { \"println!()\"; }", &[]);
        check("crates/cais/src/a.rs", "fn f() { println!(); dbg!(1); }", &[(1, "`dbg!`")]);
        check("crates/x/tests/it.rs", "fn f() { println!(); todo!(); }", &[(1, "`todo!`")]);
    }

    #[test]
    fn bad_habits_in_tests_are_caught() {
        let text = "#[test]\n#[ignore = \"slow\"]\n#[should_panic]\nfn f() { thread::sleep(d); }";
        let found = [
            (2, "`#[ignore` in a test"),
            (3, "`#[should_panic` in a test"),
            (4, "`thread::sleep` in a test"),
        ];
        check("crates/x/tests/it.rs", text, &found);
        check("crates/x/src/a.rs", "fn f() { std::thread::sleep(d); }", &[]);
    }

    #[test]
    fn unsafe_code_has_its_place_and_its_reason() {
        let sys = "crates/runtime/src/sys/clone.rs";
        check("crates/x/src/a.rs", "#![deny(unsafe_code)]\n", &[]);
        check("crates/x/src/a.rs", "fn f() {\n    unsafe { g() }\n}", &[(2, "unsafe code")]);
        check(sys, "fn f() {\n    unsafe { g() }\n}", &[(2, "unsafe without a reason")]);
        check(sys, "fn f() {\n    // SAFETY: it is.\n    unsafe { g() }\n}", &[]);
        check(
            sys,
            "fn f() {\n    // SAFETY: it\n    // is.\n    let x =\n        unsafe { g() };\n}",
            &[],
        );
        let far = "fn f() {\n    // SAFETY: it is.\n    a();\n    unsafe { g() }\n}";
        check(sys, far, &[(4, "unsafe without a reason")]);
        check(sys, "unsafe impl Send for X {}", &[(1, "unsafe without a reason")]);
        check(sys, "unsafe extern \"C\" fn f();", &[]);
    }

    #[test]
    fn builds_without_defences_are_caught() {
        let text =
            format!("//! A.\nfn main() {{\n    println!(\"cargo::rustc-cfg={}\");\n}}", "weaken");
        check("crates/cais/build.rs", &text, &[(3, "a build without defences")]);
        check(WEAKENING_ALLOWED, &text, &[]);
    }

    #[test]
    fn names_that_say_nothing_are_caught() {
        check("a.rs", "pub(crate) mod utils;", &[(1, "the name `utils` says nothing")]);
        check("a.rs", "mod helpers {}", &[(1, "the name `helpers` says nothing")]);
        check("a.rs", "mod utility;", &[]);
        assert_eq!(whats(&names("crates/common/Cargo.toml")).len(), 1);
        assert_eq!(whats(&names("crates/x/src/types/a.rs")).len(), 1);
        assert_eq!(whats(&names("crates/x/src/manager.rs")).len(), 1);
        assert!(names("crates/x/src/typed.rs").is_empty());
        assert!(names("docs/common/a.md").is_empty());
    }

    #[test]
    fn tabs_and_trailing_spaces_are_caught() {
        let found = text("a.md", "good\nbad \n\tbad\n");
        assert_eq!(whats(&found), [(2, "space at the end of the line"), (3, "a tab")]);
        assert_eq!(whats(&text("a.rs", "bad \n")).len(), 1);
        check("a.rs", "fn f() {\n\tg();\n}\n", &[(2, "a tab")]);
        check("a.rs", "const X: &str = \"a\n\tb\";\n", &[]);
    }
}
