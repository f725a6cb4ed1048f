//! What is said where a command cannot do what it was asked.

use std::fs;

use testkit::{Entry, Sandbox};

#[test]
fn mistakes_are_called_what_they_are() {
    let sandbox = Sandbox::new();
    sandbox.save_image("one.tar", "one:latest", &[vec![Entry::file("f", "text")]], |_| {});
    let _ = sandbox.cais(["load", "-qi", "one.tar"]).ok();
    for foreign in ["dir:lay", "containers-storage:x"] {
        let copied = sandbox.cais(["copy", foreign, "oci:lay:one"]);
        copied.code(1).says("unknown transport").says("store:NAME");
    }
    sandbox.cais(["copy", "store:one", "store:"]).code(1).says("store: needs the name");
    let _ = sandbox.cais(["copy", "store:one", "oci:lay:mine"]).ok();
    sandbox.cais(["diff", "one", "oci:lay:nope"]).code(1).says("it has mine");
    fs::write(sandbox.work().join("junk"), "junk\n").unwrap();
    sandbox.cais(["import", "junk"]).code(1).says("import junk").says("no tar archive");
    sandbox.cais(["load", "-i", "junk"]).code(1).says("load junk").says("no tar archive");
    let _ = sandbox.cais(["create", "--network", "none", "--name", "made", "one", "true"]).ok();
    let export = sandbox.shell("$E export made >/dev/full");
    export.code(1).says("write the archive");
    let _ = sandbox.cais(["rm", "made"]).ok();
}
