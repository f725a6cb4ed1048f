//! The initial file system of a machine: a cpio archive as the kernel unpacks it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    count: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Initramfs {
    /// Adds an empty directory.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY, b"");
    }

    /// Adds a file that may be executed.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(path, PROGRAM, content);
    }

    /// The whole archive, with its end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.count += 1;
        let size = |n: usize| u32::try_from(n).expect("files of an initial file system are small");
        let links = 1;
        let fields = [
            self.count,
            mode,
            0,
            0,
            links,
            0,
            size(content.len()),
            0,
            0,
            0,
            0,
            size(path.len() + 1),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Every part begins at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_and_headers_are_of_the_new_kind() {
        let mut archive = Initramfs::default();
        archive.directory("dev");
        archive.file("init", b"abc");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 3);
        let at = text.find("init\0").unwrap();
        assert!(text[at..].contains("abc\0"));
        assert!(text[..at].ends_with("0000000500000000"), "{text}");
        assert!(text.contains("TRAILER!!!"));
    }
}
