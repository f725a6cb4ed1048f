//! The classic demonstrations of copy-on-write, word for word.

use testkit::Sandbox;

/// Lines that start with `$` are typed; the others are exactly what they print.
const SESSION: &str = "\
$ cais container run --name mod_ubuntu ubuntu:latest touch /mychange
$ cais container diff mod_ubuntu
A /mychange
$ cais container run --name mod_busybox_delete busybox:latest rm /etc/passwd
$ cais container diff mod_busybox_delete
C /etc
D /etc/passwd
$ cais container run --name mod_busybox_change busybox:latest touch /etc/passwd
$ cais container diff mod_busybox_change
C /etc
C /etc/passwd
";

#[test]
fn containers_change_their_own_layer_only() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "ubuntu:latest"]).ok();
    let _ = sandbox.cais(["pull", "busybox:latest"]).ok();
    let mut printed = String::new();
    for typed in SESSION.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let outcome = sandbox.line(typed);
        outcome.code(0);
        assert_eq!(outcome.stderr, "", "nothing but the output is printed by `{typed}`");
        printed += &format!("$ {typed}\n{}", outcome.stdout);
    }
    assert_eq!(printed, SESSION);
    // The images are as they were.
    let seen = sandbox.cais(["run", "--rm", "busybox", "ls", "-d", "/etc/passwd"]);
    seen.code(0).out("/etc/passwd\n");
    let seen = sandbox.cais(["run", "--rm", "ubuntu", "ls", "/mychange"]);
    seen.code(2).says("No such file");
}

#[test]
fn what_a_container_changes_another_does_not_see() {
    let sandbox = Sandbox::new();
    let write = "echo mine > /etc/passwd";
    let _ = sandbox.cais(["run", "--name", "one", "busybox", "sh", "-c", write]).ok();
    let other = sandbox.cais(["run", "--rm", "busybox", "head", "-n1", "/etc/passwd"]);
    assert!(other.ok().starts_with("root:"), "{other}");
}
