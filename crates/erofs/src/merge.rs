//! Several images laid over each other, as overlayfs would show them (kernel,
//! Documentation/filesystems/overlayfs.rst): the tree of all, whose data stays where it is.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use crate::builder::Builder;
use crate::format::DEVICES_START;
use crate::inode::{Attributes, Content};
use crate::reader::Reader;
use crate::tree::{Node, ROOT};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Starts an image in an empty file that shows `images`, topmost first, merged: it is mounted with
/// them as devices, in this order, and has only metadata of its own. Names that an image hides are
/// gone, and nothing hides what another file system has.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for a damaged image; [`io::ErrorKind::FileTooLarge`] if all of
/// them have more than 16 TiB.
pub fn merge(file: File, images: &[Reader]) -> io::Result<Builder> {
    let blocks: Vec<u32> = images.iter().map(Reader::blocks).collect();
    let end = DEVICES_START + blocks.iter().map(|&blocks| u64::from(blocks)).sum::<u64>();
    u32::try_from(end).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let Some(topmost) = images.first() else {
        return Ok(Builder::new(file, Attributes { mode: 0o755, ..Attributes::default() }, &[]));
    };
    let mut root = topmost.read(topmost.root())?.attributes;
    forget_opaque(&mut root);
    let builder = Builder::new(file, root, &blocks);
    let mut merging = Merging { images, builder, linked: HashMap::new(), waiting: Vec::new() };
    merging.waiting.push((ROOT, shown_parts(images)?));
    while let Some((node, parts)) = merging.waiting.pop() {
        merging.directory(node, &parts)?;
    }
    Ok(merging.builder)
}

/// A file of one of the images.
type Place = (usize, u64);

struct Merging<'a> {
    images: &'a [Reader],
    builder: Builder,
    /// Files with several names.
    linked: HashMap<Place, Node>,
    /// Directories and what shows in them, topmost first.
    waiting: Vec<(Node, Vec<Place>)>,
}

/// What a name comes to.
enum Found {
    Hidden,
    File(Place),
    /// Its parts, and whether images below may have more of it.
    Directory(Vec<Place>, bool),
}

/// The roots, down to the first that hides what is below.
fn shown_parts(images: &[Reader]) -> io::Result<Vec<Place>> {
    let mut parts = Vec::new();
    for (index, image) in images.iter().enumerate() {
        parts.push((index, image.root()));
        if is_opaque(&image.read(image.root())?.attributes) {
            break;
        }
    }
    Ok(parts)
}

impl Merging<'_> {
    fn directory(&mut self, node: Node, parts: &[Place]) -> io::Result<()> {
        let mut names: BTreeMap<&[u8], Found> = BTreeMap::new();
        for &(image, inode) in parts {
            for (name, inode) in self.images[image].list(inode)? {
                self.look(&mut names, name, (image, inode))?;
            }
        }
        for (name, found) in names {
            match found {
                Found::Hidden => {}
                Found::File(place) => self.file((node, name), place)?,
                Found::Directory(parts, _) => {
                    let (image, inode) = parts[0];
                    let mut attributes = self.images[image].read(inode)?.attributes;
                    forget_opaque(&mut attributes);
                    let made = self.builder.add_directory((node, name), attributes)?;
                    self.waiting.push((made, parts));
                }
            }
        }
        Ok(())
    }

    /// Adds what one more image, further below, has under a name.
    fn look<'n>(
        &self,
        names: &mut BTreeMap<&'n [u8], Found>,
        name: &'n [u8],
        (image, inode): Place,
    ) -> io::Result<()> {
        let known = names.get_mut(name);
        if matches!(known, Some(Found::Hidden | Found::File(_) | Found::Directory(_, false))) {
            return Ok(());
        }
        let file = self.images[image].read(inode)?;
        match (known, file.content) {
            (Some(Found::Directory(parts, goes_on)), None) => {
                parts.push((image, inode));
                *goes_on = !is_opaque(&file.attributes);
            }
            (Some(Found::Directory(_, goes_on)), Some(_)) => *goes_on = false,
            (_, None) => {
                let goes_on = !is_opaque(&file.attributes);
                names.insert(name, Found::Directory(vec![(image, inode)], goes_on));
            }
            (_, Some(Content::CharDevice(0))) => drop(names.insert(name, Found::Hidden)),
            (_, Some(_)) => drop(names.insert(name, Found::File((image, inode)))),
        }
        Ok(())
    }

    fn file(&mut self, at: (Node, &[u8]), place: Place) -> io::Result<()> {
        if let Some(&node) = self.linked.get(&place) {
            return Ok(self.builder.link(at, node)?);
        }
        let (image, inode) = place;
        let file = self.images[image].read(inode)?;
        let content = match file.content {
            Some(Content::Regular(data)) => Content::Regular(data.shifted(self.start(image))?),
            Some(content) => content,
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        let node = self.builder.add(at, file.attributes, content)?;
        if file.links > 1 {
            self.linked.insert(place, node);
            self.builder.show_links(node, file.links);
        }
        Ok(())
    }

    /// Where the blocks of an image start.
    fn start(&self, image: usize) -> u32 {
        let before = self.images[..image].iter().map(Reader::blocks).sum::<u32>();
        DEVICES_START as u32 + before
    }
}

fn is_opaque(attributes: &Attributes) -> bool {
    attributes.xattrs.iter().any(|(name, value)| name == OPAQUE && value == b"y")
}

fn forget_opaque(attributes: &mut Attributes) {
    attributes.xattrs.retain(|(name, _)| name != OPAQUE);
}
