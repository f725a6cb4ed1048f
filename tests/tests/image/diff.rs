//! `cais diff` of everything that can be compared.

use testkit::{Entry, Sandbox};

/// Two images, the second of which has a layer more, and a container of it.
fn make(sandbox: &Sandbox) {
    let below = vec![
        Entry::directory("d"),
        Entry::file("d/text", "1\n2\n3\n"),
        Entry::file("d/gone", "gone\n"),
        Entry::file("d/bin", b"\0one".to_vec()),
        Entry::file("d/owner", "same\n"),
        Entry::file("d/same", "same\n"),
        Entry::symlink("d/link", "text"),
    ];
    let above = vec![
        Entry::file("d/text", "1\n2\nthree\n"),
        Entry::whiteout("d/gone"),
        Entry::file("d/new", "new\n").mode(0o755),
        Entry::file("d/bin", b"\0two!".to_vec()),
        Entry::file("d/owner", "same\n").owner(7, 8).mode(0o600),
        Entry::symlink("d/link", "new"),
    ];
    sandbox.save_image("one.tar", "one:latest", std::slice::from_ref(&below), |_| {});
    sandbox.save_image("two.tar", "two:latest", &[below, above], |_| {});
    for file in ["one.tar", "two.tar"] {
        let _ = sandbox.cais(["load", "-qi", file]).ok();
    }
}

const LETTERS: &str = "C /d\nC /d/bin\nD /d/gone\nC /d/link\nA /d/new\nC /d/owner\nC /d/text\n";

const CONTENT: &str = "\
diff --git a/d/gone b/d/gone
deleted file mode 100644
index 5d878ceee0b57ec1eb2b30e26a8d6d4b29ca5fe0..0000000000000000000000000000000000000000
--- a/d/gone
+++ /dev/null
@@ -1 +0,0 @@
-gone
# d/bin: - 4 bytes, sha256:BIN1
# d/bin: + 5 bytes, sha256:BIN2
diff --git a/d/bin b/d/bin
Binary files a/d/bin and b/d/bin differ
diff --git a/d/link b/d/link
index LINK
--- a/d/link
+++ b/d/link
@@ -1 +1 @@
-text
\\ No newline at end of file
+new
\\ No newline at end of file
diff --git a/d/new b/d/new
new file mode 100755
index NEW
--- /dev/null
+++ b/d/new
@@ -0,0 +1 @@
+new
# d/owner: mode 0644 -> 0600
# d/owner: owner 0:0 -> 7:8
diff --git a/d/text b/d/text
index TEXT
--- a/d/text
+++ b/d/text
@@ -1,3 +1,3 @@
 1
 2
-3
+three
";

/// The text without the names of contents.
fn without_names(text: &str) -> String {
    let cut = |line: &str| match line.split_once("sha256:") {
        Some((before, _)) => before.to_owned(),
        None if line.starts_with("index ") => "index".to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

#[test]
fn two_images_a_layer_and_a_layout_are_compared() {
    let sandbox = Sandbox::new();
    make(&sandbox);
    sandbox.line("cais diff one two").code(0).out(LETTERS);
    let count = sandbox.cais(["image", "inspect", "-f", "{{len .RootFS.Layers}}", "two"]);
    let last = format!("cais diff two --layer {}", count.ok());
    sandbox.line(&last).code(0).out(LETTERS);
    let content = sandbox.line("cais diff --content one two");
    assert_eq!(without_names(content.ok()), without_names(CONTENT.trim_end()), "{content}");
    sandbox.line("cais diff one two -- d/text /d/new").code(0).out("C /d\nA /d/new\nC /d/text\n");
    sandbox.line("cais diff two two").code(0).out("");
    let stat = sandbox.line("cais diff --stat one two");
    let expected = " d/bin  | Bin 4 -> 5 bytes\n d/gone | 1 -\n d/link | 2 +-\n d/new  | 1 +\n d/text | 2 +-\n 5 files changed, 3 insertions(+), 3 deletions(-)\n";
    stat.code(0).out(expected);
    let json = sandbox.line("cais diff --json one two -- d/owner");
    let object: serde_json::Value = serde_json::from_str(json.ok()).unwrap();
    assert_eq!(object["Kind"], "C");
    assert_eq!(object["ContentDiffers"], false);
    assert_eq!((&object["Old"]["Mode"], &object["New"]["Mode"]), (&"0644".into(), &"0600".into()));
    assert_eq!((&object["New"]["Uid"], &object["New"]["Gid"]), (&7.into(), &8.into()));

    let copy = "skopeo --insecure-policy copy -q docker-archive:two.tar oci:layout:tagged";
    let _ = sandbox.shell(copy).ok();
    sandbox.line("cais diff two oci:layout:tagged").code(0).out("");
    sandbox.line("cais diff one oci:layout").code(0).out(LETTERS);
    sandbox.line("cais diff one oci:layout:other").code(1).says("layout:other");
}

#[test]
fn a_container_is_compared_with_its_image_and_with_anything() {
    let sandbox = Sandbox::new();
    make(&sandbox);
    let edit = "cd /d && sed -i s/three/3/ text && rm new && chmod 700 same && echo x >added && mv bin moved && mkfifo fifo";
    let _ = sandbox
        .cais(["run", "--network", "none", "--name", "changed", "two", "sh", "-c", edit])
        .ok();
    let letters =
        "C /d\nA /d/added\nD /d/bin\nA /d/fifo\nA /d/moved\nD /d/new\nC /d/same\nC /d/text\n";
    sandbox.line("cais diff changed").code(0).out(letters);
    sandbox.line("cais container diff changed").code(0).out(letters);
    let content = sandbox.line("cais diff --renames changed -- d");
    for part in [
        "deleted file mode 100755",
        "rename from d/bin\nrename to d/moved\n",
        "# d/fifo: added: fifo, mode 0644, owner 0:0\n",
        "# d/same: mode 0644 -> 0700\ndiff --git a/d/same b/d/same\nold mode 100644\nnew mode 100755\n",
        "-three\n+3\n",
        "+++ b/d/added\n@@ -0,0 +1 @@\n+x\n",
    ] {
        assert!(content.stdout.contains(part), "{part:?} is not in {content}");
    }
    assert!(!content.stdout.contains("a/dev/"), "{content}");
    sandbox.line("cais diff one changed -- d/text").code(0).out("C /d\nC /d/text\n");
    sandbox.line("cais diff --content one changed -- d/text d/gone d/link").code(0);
    let _ = sandbox.shell("mkdir -p tree/d && printf '1\\n2\\n3\\n' >tree/d/text").ok();
    let same = sandbox.line("cais diff --content changed dir:tree -- d/text");
    assert!(!same.stdout.contains("@@"), "{same}");
    let _ = sandbox.line("cais rm changed").ok();
}

#[test]
fn what_cannot_be_compared_is_said() {
    let sandbox = Sandbox::new();
    make(&sandbox);
    sandbox
        .line("cais diff nothing")
        .code(1)
        .says("No such container, image, layer, layout or directory: nothing");
    sandbox.line("cais diff one nothing").code(1).says("nothing");
    sandbox.line("cais diff ./").code(1).says("compare it with");
    sandbox.line("cais diff one dir:missing").code(1).says("missing");
    sandbox.line("cais diff one --layer 9").code(1).says("none is 9");
    sandbox.line("cais diff one --layer 0").code(1).says("none is 0");
    sandbox.line("cais diff dir:. dir:. --layer 1").code(1).says("--layer");
    sandbox.line("cais diff one two --stat --json").code(1).says("choose one");
    sandbox.line("cais diff one two --color sometimes").code(1).says("--color");
    sandbox.line("cais diff one two -- ../x").code(1).says("leads out");
}

#[test]
fn colours_are_for_terminals() {
    let sandbox = Sandbox::new();
    make(&sandbox);
    let plain = sandbox.line("cais diff --content one two");
    assert!(!plain.stdout.contains('\x1b'), "{plain}");
    let painted = sandbox.line("cais diff --content --color always one two");
    assert!(painted.stdout.contains("\x1b[32m+three\x1b[m\n"), "{painted}");
    let terminal =
        sandbox.start_on_terminal(["diff", "--content", "one", "two"], (80, 24)).finish();
    assert!(terminal.stdout.contains("\x1b[31m-3\x1b[m"), "{terminal}");
}
