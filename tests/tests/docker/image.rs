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
