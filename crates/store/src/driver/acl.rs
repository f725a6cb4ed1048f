//! POSIX access lists, which a directory tree gets from the kernel and an image from here
//! (acl(5); kernel: fs/posix_acl.c, include/uapi/linux/posix_acl_xattr.h).
//!
//! The kernel refuses lists that make no sense, changes the mode of a file with its list, and the
//! list with the mode; a list that says no more than a mode does is not kept.

use erofs::Attributes;
use rustix::io::Errno;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What kind of file a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Directory,
    Symlink,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

type List = Vec<Entry>;

/// Whether an attribute is an access list.
pub(super) fn is_list(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// Gives a file the lists among `xattrs`, after chmod(2) has given it its mode.
///
/// # Errors
/// What setxattr(2) says to them.
pub(super) fn apply(
    attributes: &mut Attributes,
    owner: Owner,
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), Errno> {
    if owner != Owner::Symlink {
        change_mode(attributes);
    }
    for (name, value) in xattrs.iter().filter(|(name, _)| is_list(name)) {
        let list = match parse(value) {
            // As another version: a file system without lists would refuse it as well.
            Err(Errno::OPNOTSUPP) => continue,
            list => list?,
        };
        match (owner, &list) {
            (Owner::Symlink, _) => continue,
            (Owner::Other, Some(_)) if name == DEFAULT => return Err(Errno::ACCESS),
            (_, Some(list)) => check(list)?,
            (_, None) => {}
        }
        let list = match list {
            Some(list) if name == ACCESS => {
                let (mode, says_more) = mode_of(&list);
                attributes.mode = attributes.mode & !0o777 | mode;
                says_more.then_some(list)
            }
            list => list,
        };
        attributes.xattrs.retain(|(known, _)| known[..] != name[..]);
        if let Some(list) = list {
            attributes.set_xattr(name, &encode(&list));
        }
    }
    Ok(())
}

/// Makes a list that is there say what the mode says.
fn change_mode(attributes: &mut Attributes) {
    let mode = attributes.mode as u16;
    let found = attributes.xattrs.iter().find(|(name, _)| name[..] == *ACCESS);
    let Some(Ok(Some(mut list))) = found.map(|(_, value)| parse(value)) else { return };
    let has_mask = list.iter().any(|entry| entry.tag == MASK);
    for entry in &mut list {
        match entry.tag {
            USER_OBJ => entry.permissions = mode >> 6 & 7,
            MASK => entry.permissions = mode >> 3 & 7,
            GROUP_OBJ if !has_mask => entry.permissions = mode >> 3 & 7,
            OTHER => entry.permissions = mode & 7,
            _ => {}
        }
    }
    attributes.set_xattr(ACCESS, &encode(&list));
}

/// The list that an attribute holds; none if it takes one away.
fn parse(value: &[u8]) -> Result<Option<List>, Errno> {
    let Some((version, rest)) = value.split_first_chunk::<4>() else {
        return if value.is_empty() { Ok(None) } else { Err(Errno::INVAL) };
    };
    if u32::from_le_bytes(*version) != VERSION {
        return Err(Errno::OPNOTSUPP);
    }
    let (entries, left) = rest.as_chunks::<ENTRY_BYTES>();
    if !left.is_empty() {
        return Err(Errno::INVAL);
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let [tag_low, tag_high, low, high, id @ ..] = *bytes;
        let tag = u16::from_le_bytes([tag_low, tag_high]);
        let named = matches!(tag, USER | GROUP);
        let id = if named { u32::from_le_bytes(id) } else { NO_ID };
        match tag {
            USER | GROUP if id == NO_ID => Err(Errno::INVAL),
            USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER => {
                Ok(Entry { tag, permissions: u16::from_le_bytes([low, high]), id })
            }
            _ => Err(Errno::INVAL),
        }
    };
    let list = entries.iter().map(entry).collect::<Result<List, Errno>>()?;
    Ok(Some(list).filter(|list| !list.is_empty()))
}

/// The owner, named users, the group, named groups, a mask if anybody is named, others.
fn check(list: &List) -> Result<(), Errno> {
    let mut next = USER_OBJ;
    let mut needs_mask = false;
    for entry in list {
        if entry.permissions & !7 != 0 {
            return Err(Errno::INVAL);
        }
        next = match (entry.tag, next) {
            (USER_OBJ, USER_OBJ) => USER,
            (USER, USER) | (GROUP, GROUP) => {
                needs_mask = true;
                next
            }
            (GROUP_OBJ, USER) => GROUP,
            (MASK, GROUP) => OTHER,
            (OTHER, OTHER) => 0,
            (OTHER, GROUP) if !needs_mask => 0,
            _ => return Err(Errno::INVAL),
        };
    }
    if next == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

/// The mode that a list stands for, and whether it says more than that.
fn mode_of(list: &List) -> (u32, bool) {
    let of = |tag| list.iter().find(|entry| entry.tag == tag).map(|e| u32::from(e.permissions));
    let group = of(MASK).or(of(GROUP_OBJ));
    let mode = of(USER_OBJ).unwrap_or(0) << 6 | group.unwrap_or(0) << 3 | of(OTHER).unwrap_or(0);
    (mode, list.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK)))
}

fn encode(list: &List) -> Vec<u8> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for Entry { tag, permissions, id } in list {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}
