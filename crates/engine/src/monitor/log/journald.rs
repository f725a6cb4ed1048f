//! Lines to systemd's journal, in its native protocol: a datagram of fields
//! (systemd, "Native Journal Protocol").

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Stream;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// syslog(3): informational, and error.
const PRIORITIES: [&str; 2] = ["6", "3"];

/// Opens the way to the journal.
///
/// # Errors
/// If there is none.
pub(super) fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(Path::new(SOCKET))?;
    Ok(socket)
}

/// The entry of a line: `fields` are what every line of the container has, encoded.
pub(super) fn entry(fields: &[u8], stream: Stream, text: &[u8]) -> Vec<u8> {
    let mut entry = fields.to_vec();
    add(&mut entry, "PRIORITY", PRIORITIES[stream as usize].as_bytes());
    let line = text.strip_suffix(b"\n");
    if line.is_none() {
        add(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    add(&mut entry, "MESSAGE", line.unwrap_or(text));
    entry
}

/// Adds a field: as `NAME=value`, or where the value has newlines, with its length.
pub(super) fn add(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// A name that a field may have: what is no letter or digit becomes `_`, as in Docker.
pub(super) fn field_name(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(good).collect::<String>().trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_the_journal_reads_them() {
        let mut fields = Vec::new();
        add(&mut fields, &field_name("com.example.a"), b"1\n2");
        let said = entry(&fields, Stream::Stderr, b"text\n");
        let expected = b"COM_EXAMPLE_A\n\x03\0\0\0\0\0\0\x001\n2\nPRIORITY=3\nMESSAGE=text\n";
        assert_eq!(said, expected);
        let part = entry(&[], Stream::Stdout, b"part");
        assert_eq!(part, b"PRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=part\n");
    }
}
