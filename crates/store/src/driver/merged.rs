//! The merged image of a chain of images: it shows all of them, with the mount points that every
//! container needs. It has metadata only; data stays in the layers' images.
//!
//! A container then costs one mount, however many layers it has.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use erofs::{Content, Kind, Node, ROOT, Reader};
use rustix::io::Errno;

use super::image::ImageTree;
use crate::snapshot::{MOUNT_POINTS, Point, RootLook, split_target};
use crate::walk::{LINKS_MAX, Missing};

/// The merged image, below its directory.
pub(crate) const FILE: &str = "merged.erofs";

/// What all images may have of metadata together, in bytes: it is in memory while they are merged.
/// With more, each of them is mounted.
const METADATA_BYTES_MAX: u64 = 512 << 20;

/// Makes the merged image of `images`, topmost first, in the new file `place`: mode, owner and
/// group of the root.
pub(crate) fn make(place: &Path, images: &[PathBuf]) -> io::Result<RootLook> {
    let mut left = METADATA_BYTES_MAX;
    let open = |path: &PathBuf| Reader::open_within(&File::open(path)?, &mut left);
    let readers = images.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let builder = erofs::merge(File::create_new(place)?, &readers)?;
    drop(readers);
    let root = builder.attributes(ROOT);
    let root = (root.mode, root.uid, root.gid);
    let mut tree = ImageTree::new(builder);
    for (path, point) in MOUNT_POINTS {
        match make_point(&mut tree, path, *point) {
            // Something of another kind is in the way, or links lead nowhere: the image wants it so,
            // and mounting there will say what is wrong if it matters.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::EXIST) => {}
            made => made?,
        }
    }
    tree.finish()?;
    Ok(root)
}

/// Makes one mount point, where the links of the image lead.
fn make_point(tree: &mut ImageTree, path: &str, point: Point) -> Result<(), Errno> {
    let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    if let Point::Directory = point {
        return tree.directory(&parts, Missing::Create).map(drop);
    }
    let (name, above) = parts.split_last().expect("a mount point has a name");
    let mut name = name.to_vec();
    let mut parent: Node = tree.directory(above, Missing::Create)?;
    let mut links = LINKS_MAX;
    while let Some(there) = tree.builder.lookup(parent, &name)? {
        let Kind::Symlink(target) = tree.builder.kind(there) else { return Ok(()) };
        if let Point::Link(_) = point {
            return Ok(());
        }
        let target = target.to_vec();
        let (above, last) = split_target(&target);
        parent = tree.follow(parent, above, Missing::Create, &mut links)?;
        name = last.to_vec();
        if matches!(last, b"" | b"." | b"..") {
            return Ok(());
        }
    }
    let (mode, content) = match point {
        Point::Link(target) => (0o777, Content::Symlink(target.as_bytes().into())),
        _ => (0o644, Content::Regular(erofs::Data::empty())),
    };
    let mut attributes = tree.implied(mode);
    tree.inherit(parent, &mut attributes);
    tree.builder.add((parent, &name), attributes, content).map(drop)
}
