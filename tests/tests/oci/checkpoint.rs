//! What is refused before CRIU is asked; the rest needs a kernel that fits it, and stands in the
//! tests of the virtual machine.

use std::fs;

use super::Oci;

#[test]
fn what_is_asked_for_must_make_sense() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    let _ = oci.detached("create --bundle a a").ok();
    oci.line("checkpoint a").code(1).says("Container cannot be checkpointed in created state");
    let _ = oci.line("start a").ok();
    fs::write(oci.path("file"), "").unwrap();
    for (flags, part) in [
        ("--parent-path /tmp", "--parent-path must be relative"),
        ("--parent-path missing", "invalid --parent-path: stat"),
        ("--image-path x --parent-path ../file", "not a directory"),
        ("--page-server here", "Use --page-server ADDRESS:PORT"),
        ("--page-server 1.2.3.4:x", "--page-server: \\\"x\\\" is no port number"),
        ("--manage-cgroups-mode some", "invalid --manage-cgroups-mode value \\\"some\\\""),
        ("--empty-ns pid", "--empty-ns: namespace \\\"pid\\\" is not supported"),
        ("--nope", "flag provided but not defined: -nope"),
    ] {
        oci.line(&format!("checkpoint {flags} a")).code(1).says(part);
    }
    oci.line("checkpoint missing").code(1).says("container does not exist");
    oci.line("--criu /nothing checkpoint a").code(1).says("need CRIU");
    oci.line("--criu /nothing restore --bundle a b").code(1).says("need CRIU");
    assert!(!oci.path("checkpoint").exists());
    assert!(!oci.path("state/b").exists());
    assert_eq!(oci.status("a"), "running");
    oci.delete("a");
}

#[test]
fn a_terminal_that_nobody_would_get_is_refused() {
    let oci = Oci::new();
    oci.bundle("a", &["sh"], |config| config["process"]["terminal"] = true.into());
    let line = "restore --detach --bundle a a";
    oci.line(line).code(1).says("cannot allocate tty if runc will detach");
    oci.line("restore --bundle a --console-socket s a").code(1).says("cannot use console socket");
}
