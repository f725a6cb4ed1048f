//! Images: names, removal, collection.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::time::Duration;

use oci::{Digest, Reference};
use store::{Error, INGEST_AGE_MAX, Image, ImageUse, Removed, Store};

use super::fixture::{Archive, Fixture, gzip};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn layer(text: &str) -> Vec<u8> {
    Archive::new().file("f", text.as_bytes()).end()
}

fn collect(store: &Store, in_use: &[Digest]) -> store::Collected {
    let in_use: HashSet<Digest> = in_use.iter().copied().collect();
    store.collect(store.exclusive().unwrap(), &in_use, INGEST_AGE_MAX).unwrap()
}

fn lines(removed: &[Removed]) -> Vec<String> {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("Untagged: {name}"),
        Removed::Deleted(digest) => format!("Deleted: {digest}"),
    };
    removed.iter().map(line).collect()
}

#[test]
fn an_image_is_found_by_all_its_names() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = fixture.image(&[layer("1")], "one");
    store.tag(&reference("alpine"), &image.id).unwrap();
    let pin = reference("quay.io/a/alpine").with_digest(image.manifest.digest);
    store.add_repo_digest(&image.id, &pin).unwrap();
    store.add_repo_digest(&image.id, &pin).unwrap();
    let (id, hex) = (image.id.to_string(), image.id.hex());
    let names = ["alpine", "alpine:latest", "docker.io/library/alpine", &id, &hex, &hex[..6]];
    for name in names.into_iter().chain([&id[..14], &pin.to_string(), &pin.familiar()]) {
        assert_eq!(store.resolve(name).unwrap().id, image.id, "{name}");
    }
    for name in ["alpine:3", "nothing", "", "sha256:", "ALPINE", &"0".repeat(64)] {
        let error = store.resolve(name).unwrap_err();
        assert_eq!(error.to_string(), format!("no such image: {name}"));
    }
    let found = store.resolve("alpine").unwrap();
    assert_eq!(found.tags, [reference("alpine:latest")]);
    assert_eq!(found.repo_digests, [pin]);
    assert_eq!(store.images().unwrap(), [found]);
}

#[test]
fn an_image_needs_all_its_parts() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = fixture.image(&[layer("1")], "one");
    let new = |size| store::NewImage {
        manifest: oci::Descriptor { size, ..image.manifest.clone() },
        index: None,
        repo_digest: None,
    };
    let size = image.manifest.size;
    assert_eq!(store.add_image(new(size)).unwrap(), image);
    assert!(matches!(store.add_image(new(size + 1)), Err(Error::Invalid(_))));
    let blob = |digest: &Digest| store.root().join("blobs/sha256").join(digest.hex());
    // Another encoding of an unpacked layer is not needed.
    fs::remove_file(blob(&image.layers[0].blob.digest)).unwrap();
    assert_eq!(store.add_image(new(size)).unwrap(), image);
    fs::remove_file(blob(&image.config.digest)).unwrap();
    assert!(matches!(store.add_image(new(size)), Err(Error::NotFound(_))));
}

#[test]
fn a_prefix_of_several_ids_is_ambiguous() {
    let fixture = Fixture::new();
    let images: Vec<Image> =
        (0..17).map(|n| fixture.image(&[layer("1")], &n.to_string())).collect();
    // Seventeen ids begin with at most sixteen digits.
    let ambiguous = images.iter().filter(|image| {
        let found = fixture.store.resolve(&image.id.hex()[..1]);
        matches!(found, Err(Error::Ambiguous(_)))
    });
    assert!(ambiguous.count() >= 2);
}

#[test]
fn a_tag_of_any_length_moves_from_image_to_image() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (one, two) = (fixture.image(&[layer("1")], "1"), fixture.image(&[layer("1")], "2"));
    let long = reference(&format!("example.org/{}:{}", "a".repeat(243), "b".repeat(128)));
    store.tag(&long, &one.id).unwrap();
    store.tag(&long, &two.id).unwrap();
    assert_eq!(store.resolve(&long.to_string()).unwrap().id, two.id);
    assert!(store.resolve(&one.id.to_string()).unwrap().tags.is_empty());
    assert_eq!(store.untag(&long).unwrap(), Some(two.id));
    assert_eq!(store.untag(&long).unwrap(), None);
    assert!(matches!(store.tag(&long, &Digest::of(b"")), Err(Error::NotFound(_))));
    let pinned = long.with_digest(one.id);
    assert!(matches!(store.tag(&pinned, &one.id), Err(Error::Invalid(_))));
}

#[test]
fn the_last_tag_takes_the_image_and_its_digests_with_it() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = fixture.image(&[layer("1"), layer("2")], "one");
    let other = fixture.image(&[layer("1")], "two");
    let pin = reference("a").with_digest(image.manifest.digest);
    for tag in ["a:1", "a:2"] {
        store.tag(&reference(tag), &image.id).unwrap();
    }
    store.add_repo_digest(&image.id, &pin).unwrap();
    assert_eq!(lines(&store.remove_image("a:1", false, &[]).unwrap()), ["Untagged: a:1"]);
    let chain = format!("{} {}", image.layers[0].diff_id, image.layers[1].diff_id);
    assert_eq!(
        lines(&store.remove_image("a:2", false, &[]).unwrap()),
        [
            "Untagged: a:2".to_owned(),
            format!("Untagged: {}", pin.familiar()),
            format!("Deleted: {}", image.id),
            format!("Deleted: {}", Digest::of(chain.as_bytes())),
        ]
    );
    assert!(matches!(store.resolve("a:2"), Err(Error::NotFound(_))));
    let collected = collect(store, &[]);
    assert_eq!(collected.layers, [image.layers[1].diff_id]);
    assert_eq!(store.images().unwrap().len(), 1);
    assert!(store.has_layer(&other.layers[0].diff_id));
}

#[test]
fn use_and_names_keep_an_image_as_in_docker() {
    let conflict = |tags: &[&str], name: &str, force: bool, running: Option<bool>| {
        let fixture = Fixture::new();
        let image = fixture.image(&[layer("1")], "one");
        for tag in tags {
            fixture.store.tag(&reference(tag), &image.id).unwrap();
        }
        let name = if name == "ID" { image.id.to_string() } else { name.to_owned() };
        let user =
            |is_running| ImageUse { image: image.id, container: "c0ffee".into(), is_running };
        let uses: Vec<ImageUse> = running.map(user).into_iter().collect();
        let outcome = fixture.store.remove_image(&name, force, &uses);
        let short = &image.id.hex()[..12];
        match outcome {
            Ok(removed) => lines(&removed).join(", ").replace(&image.id.to_string(), "ID"),
            Err(error) => error.to_string().replace(short, "ID"),
        }
    };
    let layer = Digest::of(&layer("1"));
    let gone = format!("Deleted: ID, Deleted: {layer}");
    let table = [
        (&["a:1"][..], "a:1", false, None, format!("Untagged: a:1, {gone}")),
        (&["a:1"], "ID", false, None, format!("Untagged: a:1, {gone}")),
        (&[], "ID", false, None, gone.clone()),
        (&["a:1", "b:1"], "ID", true, None, format!("Untagged: a:1, Untagged: b:1, {gone}")),
        (&["a:1", "b:1"], "ID", false, None,
            "conflict: unable to delete ID (must be forced) - image is referenced in multiple repositories".into()),
        (&["a:1"], "a:1", false, Some(false),
            "conflict: unable to remove repository reference \"a:1\" (must force) - container c0ffee is using its referenced image ID".into()),
        (&["a:1"], "a:1", true, Some(true), "Untagged: a:1".into()),
        (&["a:1"], "a:1", true, Some(false), format!("Untagged: a:1, {gone}")),
        (&["a:1", "a:2"], "a:1", false, Some(true), "Untagged: a:1".into()),
        (&["a:1"], "ID", false, Some(false),
            "conflict: unable to delete ID (must be forced) - image is being used by stopped container c0ffee".into()),
        (&["a:1"], "ID", true, Some(true),
            "conflict: unable to delete ID (cannot be forced) - image is being used by running container c0ffee".into()),
        (&["a:1"], "ID", true, Some(false), format!("Untagged: a:1, {gone}")),
    ];
    for (tags, name, force, running, expected) in table {
        let got = conflict(tags, name, force, running);
        assert_eq!(got, expected, "{tags:?} {name} {force} {running:?}");
    }
}

#[test]
fn a_collection_leaves_what_images_and_containers_need() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = fixture.image(&[layer("image")], "one");
    let in_use = fixture.unpack(&layer("container")).unwrap();
    let garbage = fixture.unpack(&layer("garbage")).unwrap();
    let loose = store.put_blob(b"loose").unwrap();
    let container = fixture.directory.path().join("c");
    let bases = store.root().join("bases");
    for (n, id) in [in_use.diff_id, garbage.diff_id].into_iter().enumerate() {
        let container = container.join(n.to_string());
        fs::create_dir_all(&container).unwrap();
        store.prepare(&[id], &container, true).unwrap();
    }
    let before = store.disk_usage().unwrap();
    assert_eq!((before.images, before.layers, before.blobs), (1, 3, 6));
    assert_eq!(before.layer_bytes, 5 + 9 + 7);

    let collected = collect(store, &[in_use.diff_id]);
    assert_eq!(collected.layers, [garbage.diff_id]);
    let blobs: HashSet<Digest> = collected.blobs.iter().copied().collect();
    assert_eq!(blobs, HashSet::from([loose, garbage.blob]));
    assert_eq!(collected.bytes, 7 + 5 + layer("garbage").len() as u64);
    assert_eq!(fs::read_dir(&bases).unwrap().count(), 1);
    assert_eq!(fs::read(fixture.tree(&in_use.diff_id).join("f")).unwrap(), b"container");
    assert_eq!(store.images().unwrap(), [image]);
    assert_eq!(collect(store, &[in_use.diff_id]), store::Collected::default());
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn nobody_collects_while_somebody_adds() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let lease = store.lease().unwrap();
    let second = store.lease().unwrap();
    drop(lease);
    assert!(matches!(store.exclusive(), Err(Error::Busy(_))));
    let ingest = store.ingest(&Digest::of(b"x"), 1).unwrap().unwrap();
    drop(second);
    assert!(matches!(store.exclusive(), Err(Error::Busy(_))));
    drop(ingest);
    let exclusive = store.exclusive().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lease().map(drop));
        drop(exclusive);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn partial_blobs_stay_for_a_day() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let mut ingest = store.ingest(&Digest::of(b"12"), 2).unwrap().unwrap();
    ingest.write_all(b"1").unwrap();
    drop(ingest);
    assert_eq!(collect(store, &[]).bytes, 0);
    assert_eq!(store.disk_usage().unwrap().ingest_bytes, 1);
    let exclusive = store.exclusive().unwrap();
    let collected = store.collect(exclusive, &HashSet::new(), Duration::ZERO).unwrap();
    assert_eq!(collected.bytes, 1);
    assert_eq!(store.disk_usage().unwrap().ingest_bytes, 0);
}

#[test]
fn the_same_image_again_keeps_its_names() {
    let fixture = Fixture::new();
    let first = fixture.image(&[layer("1")], "one");
    fixture.store.tag(&reference("a"), &first.id).unwrap();
    let again = fixture.image(&[layer("1")], "one");
    assert_eq!((again.tags.len(), again.added), (1, first.added));
}

/// Unpacks layer after layer until it is killed; see the test below.
fn unpack_for_ever(root: &str) {
    let store = Store::open(root.as_ref()).unwrap().with_driver(Some(super::DRIVER)).unwrap();
    for n in 0u64.. {
        let mut archive = Archive::new().file("n", &n.to_le_bytes());
        for file in 0..50 {
            archive = archive.file(&format!("d{}/f{file}", file % 5), &[1; 5000]);
        }
        let archive = archive.end();
        let blob = store.put_blob(&archive).unwrap();
        let blob = super::fixture::descriptor(blob, archive.len(), "");
        store.unpack(&Digest::of(&archive), &blob, &mut &archive[..], &mut |_| {}).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_nothing_broken() {
    let name = concat!(module_path!(), "::a_killed_process_leaves_nothing_broken");
    // Without the name of the crate, which is the program's.
    let name = name.split_once("::").unwrap().1;
    if let Ok(root) = std::env::var("STORE_TEST_UNPACK") {
        unpack_for_ever(&root);
    }
    let fixture = Fixture::in_memory();
    let store = &fixture.store;
    for round in 1..=10 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("STORE_TEST_UNPACK", store.root())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while store.disk_usage().unwrap().layers < 2 * round {
            assert!(std::time::Instant::now() < deadline, "nothing was unpacked");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let layers = fs::read_dir(store.root().join("layers")).unwrap();
    let mut complete = 0;
    for entry in layers.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let Ok(diff_id) = Digest::from_hex(&entry) else { continue };
        let record = store.layer(&diff_id).unwrap();
        let tree = fixture.tree(&diff_id);
        let files = (0..50).filter(|n| tree.join(format!("d{}/f{n}", n % 5)).exists()).count();
        assert_eq!((files, record.size), (50, 250_008));
        complete += 1;
    }
    assert!(complete >= 20);
    collect(store, &[]);
    assert_eq!(store.disk_usage().unwrap(), store::DiskUsage::default());
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn an_import_is_an_image_of_one_layer() {
    let fixture = Fixture::new();
    let plain = Archive::new().dir("./").file("hello", b"hello").end();
    for archive in [gzip(&plain), plain.clone()] {
        let import = store::Import {
            config: Default::default(),
            message: "by hand".into(),
            platform: oci::Platform::host(),
            reference: Some(reference("imported:1")),
        };
        let image = fixture.store.import(&mut &archive[..], &import).unwrap();
        assert_eq!(image.diff_ids(), [Digest::of(&plain)]);
        assert_eq!(image.layers[0].blob.digest, Digest::of(&archive));
        assert_eq!(image.tags, [reference("imported:1")]);
        assert_eq!(fixture.store.resolve("imported:1").unwrap().id, image.id);
        assert_eq!(image.config(&fixture.store).unwrap().history[0].comment, "by hand");
    }
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn what_interrupted_work_left_counts_as_removed() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let rest = |part: &str| {
        let path = store.root().join(part).join(".0123456789abcdef/tree");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("f"), [1; 100_000]).unwrap();
    };
    rest("ingest");
    assert!(store.disk_usage().unwrap().ingest_bytes >= 100_000);
    rest("layers");
    let collected = collect(store, &[]);
    assert!((200_000..300_000).contains(&collected.bytes), "{}", collected.bytes);
    assert_eq!(store.disk_usage().unwrap().ingest_bytes, 0);
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}
