//! Images that come from files, and what can be said about images.

use testkit::{Pool, Sandbox};

/// Has skopeo write busybox from the pool to `target`.
fn write_busybox(sandbox: &Sandbox, target: &str) {
    let from = format!("oci:{}:busybox:latest", Pool::open().layout().display());
    let _ = sandbox.host(["skopeo", "--insecure-policy", "copy", "-q", &from, target]).ok();
}

#[track_caller]
fn runs(sandbox: &Sandbox, image: &str) {
    sandbox
        .cais(["run", "--rm", "--network", "none", image, "echo", "hello"])
        .code(0)
        .out("hello\n");
}

#[test]
fn a_docker_archive_is_loaded_from_file_and_stdin() {
    let sandbox = Sandbox::new();
    write_busybox(&sandbox, "docker-archive:archive.tar:busybox:loaded");
    let load = sandbox.cais(["load", "-i", "archive.tar"]);
    load.code(0).out("Loaded image: busybox:loaded\n");
    runs(&sandbox, "busybox:loaded");
    let _ = sandbox.cais(["rmi", "busybox:loaded"]).ok();

    let archive = std::fs::read(sandbox.work().join("archive.tar")).expect("skopeo wrote it");
    let mut load = sandbox.start(["load"]);
    load.write_bytes(&archive);
    load.finish().code(0).out("Loaded image: busybox:loaded\n");
    runs(&sandbox, "busybox:loaded");
}

#[test]
fn an_oci_archive_is_loaded() {
    let sandbox = Sandbox::new();
    write_busybox(&sandbox, "oci-archive:archive.tar:busybox:loaded");
    let _ = sandbox.cais(["load", "-i", "archive.tar"]).ok();
    runs(&sandbox, "busybox:loaded");
}

#[test]
fn a_root_file_system_is_imported_and_its_defaults_changed() {
    let sandbox = Sandbox::new();
    let _ = sandbox.host(["mkdir", "-p", "tree/bin"]).ok();
    let busybox = ["cp", "/bin/busybox", "tree/bin/sh"];
    let _ = sandbox.host(busybox).ok();
    let _ = sandbox.host(["tar", "-C", "tree", "-cf", "tree.tar", "."]).ok();
    let change = ["import", "-c", "CMD [\"sh\", \"-c\", \"echo default\"]", "tree.tar", "tree:1"];
    let id = sandbox.cais(change);
    assert!(id.ok().starts_with("sha256:"), "{id}");
    sandbox.cais(["run", "--rm", "--network", "none", "tree:1"]).code(0).out("default\n");
}

#[test]
fn tags_are_names_for_the_same_image() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    sandbox.line("cais tag busybox mine:v1").code(0).out("");
    let id = |name: &str| sandbox.cais(["inspect", "--format", "{{.Id}}", name]).ok().to_owned();
    assert_eq!(id("busybox"), id("mine:v1"));
    let format = "{{.Repository}}:{{.Tag}}";
    let images = sandbox.cais(["images", "--format", format]);
    let mut names: Vec<&str> = images.ok().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["busybox:latest", "mine:v1"]);
    let untagged = sandbox.line("cais rmi busybox");
    assert!(untagged.ok().starts_with("Untagged: busybox:latest"), "{untagged}");
    runs(&sandbox, "mine:v1");
    let last = sandbox.line("cais rmi mine:v1");
    assert!(last.ok().contains("Deleted: sha256:"), "{last}");
    sandbox.line("cais images -aq").code(0).out("");
}

#[test]
fn history_tells_each_layer() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull python:3").ok();
    let history = sandbox.cais(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "python:3"]);
    history.code(0).out("RUN apt-get install python3\nADD rootfs.tar /\n");
    let run = ["run", "--rm", "--network", "none", "python:3", "python3", "-c", "print(6 * 7)"];
    sandbox.cais(run).code(0).out("42\n");
}

#[test]
fn layers_are_shared_between_images() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull debian").ok();
    let second = sandbox.line("cais pull nginx");
    assert!(second.ok().contains("Already exists"), "{second}");
    let layers = |name: &str| {
        let format = "{{range .RootFS.Layers}}{{println .}}{{end}}";
        let shown = sandbox.cais(["image", "inspect", "--format", format, name]);
        shown.ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (debian, nginx) = (layers("debian"), layers("nginx"));
    assert_eq!((debian.len(), nginx.len()), (1, 2));
    assert_eq!(debian[0], nginx[0]);
}

#[test]
fn archives_of_every_compression_are_taken_and_from_addresses() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let make = "mkdir tree; echo content >tree/f; seq 200000 >tree/many; tar -C tree -cf t.tar .; \
        $E save -o saved.tar busybox; for f in t saved; do xz -9k $f.tar; bzip2 -k $f.tar; done; \
        xz -dc t.tar.xz | head -c 512000 | xz >a.xz; xz -dc t.tar.xz | tail -c +512001 | xz >b.xz; \
        cat a.xz b.xz >two.tar.xz; head -c 20000 t.tar.xz >cut.tar.xz";
    let _ = sandbox.shell(make).ok();
    let server = sandbox.start_script("exec python3 -u -m http.server --bind 127.0.0.1 8099 2>&1");
    server.wait_for("Serving HTTP");
    let of = |layer: &str| {
        let line =
            format!("$E import {layer} | tail -1 | xargs $E inspect -f '{{{{.RootFS.Layers}}}}'");
        sandbox.shell(&line).ok().to_owned()
    };
    let plain = of("t.tar");
    assert!(plain.starts_with("[sha256:"), "{plain}");
    // One of two streams, too; each is kept as a layer that registries know.
    for name in ["t.tar.xz", "t.tar.bz2", "two.tar.xz", "http://127.0.0.1:8099/t.tar.xz"] {
        assert_eq!(of(name), plain, "{name}");
    }
    let _ = sandbox.cais(["import", "http://127.0.0.1:8099/t.tar.bz2", "fetched:1"]).ok();
    let history = sandbox.cais(["history", "--format", "{{.Comment}}", "fetched:1"]);
    history.out("Imported from http://127.0.0.1:8099/t.tar.bz2\n");
    sandbox.cais(["import", "http://127.0.0.1:8099/none"]).code(1).says("it is not there");
    sandbox.cais(["import", "cut.tar.xz"]).code(1).says("malformed compressed archive");
    let _ = sandbox.cais(["rmi", "busybox"]).ok();
    for name in ["saved.tar.xz", "saved.tar.bz2"] {
        sandbox.cais(["load", "-i", name]).out("Loaded image: busybox:latest\n");
    }
    let dockerfile = "FROM busybox\nADD t.tar.xz /x/\nADD t.tar.bz2 /b/\nRUN cmp /x/many /b/many\n";
    std::fs::write(sandbox.work().join("Dockerfile"), dockerfile).unwrap();
    let _ = sandbox.cais(["build", "-q", "."]).ok();
    sandbox.shell("ls -A $CAIS_ROOT/ingest").out("");
}

#[test]
fn a_platform_that_is_asked_for_must_be_there() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let _ = sandbox.shell("$E tag busybox other:1; $E save -o saved.tar busybox").ok();
    let host = sandbox.cais(["inspect", "-f", "{{.Os}}/{{.Architecture}}", "busybox"]);
    let host = host.ok();
    let wrong = "linux/s390x";
    sandbox.cais(["history", "--platform", wrong, "busybox"]).code(1).says("was asked for");
    sandbox.cais(["image", "inspect", "--platform", wrong, "busybox"]).code(1).says("asked for");
    sandbox.cais(["rmi", "--platform", wrong, "busybox"]).code(1).says("was asked for");
    sandbox.cais(["load", "--platform", wrong, "-i", "saved.tar"]).code(1).says("no image for");
    sandbox.cais(["history", "-q", "--platform", host, "busybox"]).code(0);
    sandbox.cais(["image", "inspect", "--platform", host, "busybox"]).code(0);
    let tree = sandbox.cais(["images", "--tree"]);
    let lines: Vec<&str> = tree.ok().lines().collect();
    assert!(lines[0].starts_with("IMAGE") && lines[0].contains("CONTENT SIZE"), "{tree}");
    assert!(lines[1].starts_with("busybox:latest") && lines[2].starts_with("other:1"), "{tree}");
    assert!(lines[3].starts_with(&format!("└─ {host}")), "{tree}");
    sandbox.cais(["images", "--tree", "-q"]).code(1).says("not yet supported with --tree");
    let _ = sandbox.cais(["rmi", "--platform", host, "busybox", "other:1"]).ok();
    sandbox.cais(["load", "--platform", host, "-i", "saved.tar"]).code(0);
}

#[test]
fn what_a_user_says_in_an_overlays_words_is_in_nobodys_way() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let run = ["run", "--name", "one", "--network", "none", "busybox", "sh", "-c", "echo text >/f"];
    let _ = sandbox.cais(run).ok();
    let mark = "python3 -c 'import glob, os; [os.setxattr(f, \"user.overlay.redirect\", b\"/x\") \
        for f in glob.glob(os.environ[\"CAIS_ROOT\"] + \"/containers/*/upper/f\")]'";
    let _ = sandbox.shell(mark).ok();
    sandbox.shell("$E export one | tar -xOf - f").out("text\n");
    sandbox.shell("$E cp one:/f - | tar -xOf - f").out("text\n");
    let _ = sandbox.cais(["commit", "one", "two:1"]).ok();
    sandbox.cais(["run", "--rm", "--network", "none", "two:1", "cat", "/f"]).out("text\n");
    let _ = sandbox.cais(["rm", "one"]).ok();
}
