//! How two streams go over one connection: each piece has a head of eight bytes, with the stream's
//! number and the piece's length (Docker Engine API, `ContainerAttach`).

use std::io::{self, Write};

use engine::Stream;

/// Before this version, clients are not told in which of two ways output comes.
const TELLS_SINCE: u32 = 42;

/// Writes a piece: as it is where it is a terminal's, else with its head.
pub(super) fn write(
    out: &mut impl Write,
    stream: Stream,
    bytes: &[u8],
    is_terminal: bool,
) -> io::Result<()> {
    if is_terminal {
        return out.write_all(bytes);
    }
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut piece = Vec::with_capacity(8 + bytes.len());
    piece.extend_from_slice(&[number, 0, 0, 0]);
    piece.extend_from_slice(&length.to_be_bytes());
    piece.extend_from_slice(bytes);
    out.write_all(&piece)
}

/// What clients of a version are told of how output comes.
pub(super) fn media_type(version: u32, is_terminal: bool) -> &'static str {
    match version >= TELLS_SINCE && !is_terminal {
        true => "application/vnd.docker.multiplexed-stream",
        false => "application/vnd.docker.raw-stream",
    }
}
