//! Text of others on the user's terminal.

use testkit::Sandbox;

use super::import;

/// Sets the title, clears the screen, forges a line, and reverses what follows.
const EVIL: &str = r"\u001b]0;owned\u0007\u001b[2J\nforged\u202e";

#[track_caller]
fn is_plain(text: &str) {
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text:?}");
}

#[test]
fn names_of_others_are_not_obeyed() {
    let sandbox = Sandbox::new();
    import(&sandbox, "evil", &format!("CMD [\"sh\", \"{EVIL}\"]"), |_| {});
    let _ = sandbox.cais(["create", "--name", "evil", "evil"]).ok();
    let table = sandbox.cais(["ps", "--all", "--no-trunc"]);
    is_plain(table.ok());
    assert!(table.stdout.contains(r"\x1b]0;owned"), "{table}");
    is_plain(sandbox.cais(["history", "--no-trunc", "evil"]).ok());

    // The program's name is the image's choice, and stands in the message.
    import(&sandbox, "missing", &format!("CMD [\"/{}\"]", EVIL.replace(r"\n", "")), |_| {});
    let outcome = sandbox.cais(["run", "--rm", "--network", "none", "missing"]);
    outcome.code(127).says(r"\x1b]0;owned");
    is_plain(&outcome.stderr);
}

#[test]
fn names_of_files_are_not_obeyed_by_a_terminal() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let touch = "touch \"$(printf '/tmp/\\033[2J')\"";
    let _ =
        sandbox.cais(["run", "--name", "made", "--network", "none", "plain", "sh", "-c", touch]);
    let shown = sandbox.start_on_terminal(["diff", "made"], (80, 24)).finish();
    assert!(shown.stdout.contains(r"A /tmp/\x1b[2J"), "{shown}");
    assert!(!shown.stdout.contains('\u{1b}'), "{shown}");
    // A program that reads the list gets the name as it is.
    assert!(sandbox.cais(["diff", "made"]).ok().contains("A /tmp/\u{1b}[2J"));
}
