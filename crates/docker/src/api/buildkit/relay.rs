//! A socket and a call that say the same: what is read of one is written to the other.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use grpc::Stream;
use grpc::proto::{Message, fields};

use super::{Outcome, STACK_BYTES};

/// What is read at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Passes on what both sides say, in messages with one field of bytes, until one has enough.
pub(super) fn relay(socket: &UnixStream, stream: &Stream) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("relay".to_owned()).stack_size(STACK_BYTES);
        let writing = thread.spawn_scoped(scope, || {
            // It ends with either side.
            let _ = write(socket, stream);
            let _ = socket.shutdown(Shutdown::Both);
        });
        if writing.is_err() {
            return;
        }
        let mut buffer = vec![0; PIECE_BYTES];
        let mut reading = socket;
        while let Ok(length @ 1..) = reading.read(&mut buffer) {
            if stream.send(&Message::new().bytes(1, &buffer[..length])).is_err() {
                break;
            }
        }
        // The other thread may wait for a message that does not come.
        stream.give_up();
    });
}

fn write(mut socket: &UnixStream, stream: &Stream) -> Outcome {
    while let Some(message) = stream.receive()? {
        for field in fields(&message) {
            if let (1, data) = field?
                && socket.write_all(data.bytes()).is_err()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}
