//! `cais system fsck` against every kind of damage.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Entry, Sandbox};

const WELL: &str = "Everything is as it should be\n";

fn load(sandbox: &Sandbox) {
    let layer = vec![Entry::file("text", "some text that is long enough")];
    sandbox.save_image("one.tar", "one:latest", &[layer], |_| {});
    // The first thing that is kept decides how layers are: as trees, which can be damaged file by
    // file.
    let _ = sandbox.cais(["--storage-driver", "dir", "load", "-qi", "one.tar"]).ok();
}

/// The digest of a part of an image, without its algorithm.
fn part(sandbox: &Sandbox, image: &str, format: &str) -> String {
    let found = sandbox.cais(["image", "inspect", "-f", format, image]);
    found.ok().strip_prefix("sha256:").unwrap().to_owned()
}

fn layer(sandbox: &Sandbox, image: &str) -> PathBuf {
    let last = "{{range .RootFS.Layers}}{{.}} {{end}}";
    let layers = sandbox.cais(["image", "inspect", "-f", last, image]);
    let hex = layers.ok().split_whitespace().last().unwrap().strip_prefix("sha256:").unwrap();
    sandbox.root().join("layers").join(hex)
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[track_caller]
fn finds(sandbox: &Sandbox, words: &[&str], wanted: &str) {
    let mut line = vec!["system", "fsck", "--format", "{{.Type}} {{.Remedy}} {{.Problem}}"];
    line.extend(words);
    let found = sandbox.words(&line);
    assert!(found.code(1).stdout.contains(wanted), "{wanted:?} is not in {found}");
}

#[track_caller]
fn repairs(sandbox: &Sandbox, words: &[&str], wanted: &str) {
    let mut line = vec!["system", "fsck", "--repair", "--format", "{{.Type}} {{.Remedy}}"];
    line.extend(words);
    let found = sandbox.words(&line);
    assert!(found.code(0).stdout.contains(wanted), "{wanted:?} is not in {found}");
    sandbox.line("cais system fsck --deep").code(0).out(WELL);
}

#[test]
fn a_damaged_layer_is_unpacked_again() {
    let sandbox = Sandbox::new();
    load(&sandbox);
    sandbox.line("cais system fsck").code(0).out(WELL);
    sandbox.line("cais system fsck --deep").code(0).out(WELL);
    let layer = layer(&sandbox, "one");

    fs::write(layer.join("tree/text"), "short").unwrap();
    finds(&sandbox, &[], "layer would be unpacked again `/text` is not what its archive has");
    repairs(&sandbox, &[], "layer restored\n");

    damage(&layer.join("tree/text"));
    sandbox.line("cais system fsck").code(0).out(WELL);
    finds(&sandbox, &["--deep"], "layer would be unpacked again `/text`");
    repairs(&sandbox, &["--deep"], "layer restored\n");

    fs::write(layer.join("layer.json"), "{").unwrap();
    finds(&sandbox, &[], "layer would be unpacked again its record cannot be read");
    repairs(&sandbox, &[], "layer restored\n");
    sandbox
        .cais(["run", "--rm", "--network", "none", "one", "cat", "/text"])
        .code(0)
        .out("some text that is long enough");
}

#[test]
fn a_damaged_image_of_a_layer_is_written_again() {
    let sandbox = Sandbox::new();
    sandbox.save_image("one.tar", "one:latest", &[vec![Entry::file("text", "text")]], |_| {});
    let _ = sandbox.cais(["load", "-qi", "one.tar"]).ok();
    let image = layer(&sandbox, "one").join("layer.erofs");
    if !image.exists() {
        // This kernel mounts none, so layers are trees.
        return;
    }
    fs::write(&image, vec![0; 4096]).unwrap();
    finds(&sandbox, &[], "layer would be unpacked again its files cannot be read");
    repairs(&sandbox, &[], "layer restored\n");
}

#[test]
fn what_a_registry_has_is_fetched_again() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull -q busybox").ok();
    let blobs = sandbox.root().join("blobs/sha256");
    let config = part(&sandbox, "busybox", "{{.Id}}");
    damage(&blobs.join(&config));
    finds(&sandbox, &[], "blob would be pulled from busybox@sha256:");
    let json = sandbox.line("cais system fsck --format json");
    let kinds: Vec<String> = json
        .code(1)
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["Type"].to_string())
        .collect();
    assert_eq!(kinds, ["\"blob\"", "\"image\""]);
    repairs(&sandbox, &[], "blob restored\nimage restored\n");

    let layer = layer(&sandbox, "busybox");
    fs::remove_dir_all(&layer).unwrap();
    finds(&sandbox, &[], "image would be unpacked again it lacks sha256:");
    repairs(&sandbox, &[], "image restored\n");
    let run = sandbox.line("cais run --rm --network none busybox echo whole");
    run.code(0).out("whole\n");
}

#[test]
fn what_nobody_can_restore_is_removed_unless_a_container_needs_it() {
    let sandbox = Sandbox::new();
    load(&sandbox);
    let blobs = sandbox.root().join("blobs/sha256");
    let config = part(&sandbox, "one", "{{.Id}}");
    let _ = sandbox.line("cais create --network none --name user one true").ok();
    damage(&blobs.join(&config));
    finds(&sandbox, &[], "image none it lacks");
    finds(&sandbox, &["--repair"], "image none it lacks");
    let _ = sandbox.line("cais rm user").ok();
    finds(&sandbox, &[], "image would be removed it lacks");
    repairs(&sandbox, &[], "image removed\n");
    sandbox.line("cais images -aq").code(0).out("");
}

#[test]
fn records_and_strays_are_taken_away() {
    let sandbox = Sandbox::new();
    load(&sandbox);
    let root = sandbox.root();
    for path in ["images/odd.json", "tags/odd.json", "blobs/sha256/odd", "layers/odd"] {
        fs::write(root.join(path), "?").unwrap();
    }
    finds(
        &sandbox,
        &[],
        &format!(
            "{0} its name is no digest\n{0} its name is no digest\n\
             {0} it is no record of an image\n{0} it is no record of a tag\n",
            "stray would be removed"
        ),
    );
    repairs(&sandbox, &[], "stray removed\nstray removed\nstray removed\nstray removed\n");

    let config = part(&sandbox, "one", "{{.Id}}");
    fs::remove_file(root.join("images").join(format!("{config}.json"))).unwrap();
    finds(&sandbox, &[], "tag would be removed it names sha256:");
    repairs(&sandbox, &[], "tag removed\n");
}

#[test]
fn a_container_without_a_layer_is_told_of() {
    let sandbox = Sandbox::new();
    load(&sandbox);
    let _ = sandbox.line("cais create --network none --name user one true").ok();
    fs::remove_dir_all(layer(&sandbox, "one")).unwrap();
    finds(&sandbox, &[], "container would be unpacked again it lacks the layer sha256:");
    repairs(&sandbox, &[], "container restored\n");
    let _ = sandbox.line("cais rm user").ok();
}

#[test]
fn an_image_whose_layer_has_no_blob_any_more_is_still_told_of_after_a_repair() {
    let sandbox = Sandbox::new();
    load(&sandbox);
    let hex = layer(&sandbox, "one").file_name().unwrap().to_owned();
    damage(&sandbox.root().join("blobs/sha256").join(hex));
    finds(&sandbox, &["--repair"], "blob removed its content is");
    finds(&sandbox, &[], "image none its layer sha256:");
    // Nothing is made up, and what runs is not taken away.
    finds(&sandbox, &["--repair"], "image none its layer sha256:");
    let run = sandbox.line("cais run --rm --network none one cat /text");
    run.code(0).out("some text that is long enough");
    let _ = sandbox.cais(["load", "-qi", "one.tar"]).ok();
    sandbox.line("cais system fsck --deep").code(0).out(WELL);
}
