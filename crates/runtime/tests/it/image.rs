//! Layers that are EROFS images: mounted where nobody sees them, gone with the container.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use erofs::{Attributes, Builder, Content, Node, ROOT};

use super::bundle::{Bundle, fill};

fn attributes(path: &Path) -> Attributes {
    let meta = fs::symlink_metadata(path).unwrap();
    Attributes {
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        seconds: meta.mtime(),
        nanoseconds: meta.mtime_nsec() as u32,
        xattrs: Vec::new(),
    }
}

fn pack_directory(builder: &mut Builder, at: Node, directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let place = (at, name.as_bytes());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let made = builder.add_directory(place, attributes(&path)).unwrap();
            pack_directory(builder, made, &path);
            continue;
        }
        let content = if kind.is_symlink() {
            Content::Symlink(fs::read_link(&path).unwrap().as_os_str().as_bytes().into())
        } else if kind.is_char_device() {
            Content::CharDevice(entry.metadata().unwrap().rdev() as u32)
        } else {
            let bytes = fs::read(&path).unwrap();
            let mut rest = &bytes[..];
            let mut source = |most: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
                let (now, later) = rest.split_at(rest.len().min(most as usize));
                rest = later;
                sink(now)?;
                Ok::<u64, io::Error>(now.len() as u64)
            };
            Content::Regular(builder.data(bytes.len() as u64, None, &mut source).unwrap())
        };
        builder.add(place, attributes(&path), content).unwrap();
    }
}

/// Makes an image of each layer of an overlay, and takes the directories away.
fn pack(bundle: &mut Bundle, layers: &[&str]) {
    let mut images = Vec::new();
    for (name, id) in layers.iter().zip(1..) {
        let (directory, image) = (bundle.path(name), bundle.path(&format!("{name}.erofs")));
        let mut builder = Builder::new(File::create(&image).unwrap(), attributes(&directory), &[]);
        pack_directory(&mut builder, ROOT, &directory);
        builder.finish([id; 16]).unwrap();
        fs::remove_dir_all(directory).unwrap();
        images.push(image);
    }
    let images: Vec<&str> = images.iter().map(|image| image.to_str().unwrap()).collect();
    bundle.annotate("lower", images.join(":"));
}

/// Whether anything of the bundle is mounted in this mount namespace or on a loop device.
fn left(bundle: &Bundle) -> Vec<String> {
    let root = bundle.path("").display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect();
    for block in fs::read_dir("/sys/block").unwrap() {
        let backing: PathBuf = block.unwrap().path().join("loop/backing_file");
        left.extend(fs::read_to_string(backing).ok().filter(|file| file.contains(&root)));
    }
    left
}

fn nothing_is_left(bundle: &Bundle) {
    // A loop device ends when the kernel is done with the mount, a moment after the container.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !left(bundle).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", left(bundle));
        std::thread::yield_now();
    }
}

#[test]
fn layers_may_be_images() {
    let mut bundle = Bundle::script(
        "cat /who /low /gone; echo new >/made; rm /low 2>&-; echo more >>/who; cat /who",
    );
    bundle.overlay(&["l0".into(), "l1".into(), "l2".into()]);
    fill(&bundle.path("l2"));
    symlink("busybox", bundle.path("l2/bin/rm")).unwrap();
    for (layer, file) in
        [("l2", "who"), ("l2", "low"), ("l2", "gone"), ("l1", "who"), ("l0", "who")]
    {
        fs::write(bundle.path(layer).join(file), format!("{layer}\n")).unwrap();
    }
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, bundle.path("l1/gone"), kind, mode, 0).unwrap();
    pack(&mut bundle, &["l0", "l1", "l2"]);
    let ran = bundle.run();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "l0\nl2\nl0\nmore\n"), "{ran:?}");
    assert_eq!(fs::read_to_string(bundle.path("upper/made")).unwrap(), "new\n");
    let low = fs::symlink_metadata(bundle.path("upper/low")).unwrap();
    assert!(low.file_type().is_char_device());
    nothing_is_left(&bundle);
}

#[test]
fn files_of_images_belong_to_the_root_of_a_user_namespace() {
    let mut bundle = Bundle::script(
        "stat -c %u:%g / /bin/busybox /low /low/file && echo more >>/low/file && touch /made && \
         stat -c %u:%g /made /low/file",
    );
    bundle.map_ids();
    bundle.overlay(&["l0".into(), "l1".into()]);
    fill(&bundle.path("l1"));
    let low = bundle.directory("l1/low");
    fs::write(low.join("file"), "x").unwrap();
    chown(&low, Some(3), Some(4)).unwrap();
    chown(low.join("file"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(low.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    pack(&mut bundle, &["l0", "l1"]);
    assert_eq!(bundle.run().ok(), "0:0\n0:0\n3:4\n1000:1000\n0:0\n1000:1000\n");
    let made = fs::metadata(bundle.path("upper/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0));
    let changed = fs::metadata(bundle.path("upper/low/file")).unwrap();
    assert_eq!((changed.uid(), changed.gid()), (1000, 1000));
    nothing_is_left(&bundle);
}

#[test]
fn a_damaged_image_is_named() {
    let mut bundle = Bundle::script("true");
    bundle.overlay(&["l0".into()]);
    pack(&mut bundle, &["l0"]);
    fs::write(bundle.path("l0.erofs"), [0; 8192]).unwrap();
    let ran = bundle.run();
    assert!(ran.code != 0 && ran.stderr.contains("l0.erofs"), "{ran:?}");
    nothing_is_left(&bundle);
}
