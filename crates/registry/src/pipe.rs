//! From the thread that downloads a layer to the one that unpacks it: a bounded pipe whose
//! buffers are handed to and fro, so that the bytes are not copied.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// One buffer, filled by one read from the socket at best.
pub(crate) const BUFFER_SIZE: usize = 256 << 10;
/// Buffers on their way, at most: what the network is allowed to be ahead of the disk.
const BUFFERS_MAX: usize = 16;

enum Message {
    Bytes(Vec<u8>, usize),
    End,
}

/// Makes both ends.
pub(crate) fn pipe() -> (Feeder, Feed) {
    let (full, filled) = sync_channel(BUFFERS_MAX);
    let (empty, emptied) = channel();
    let feed = Feed { filled, empty, current: Vec::new(), at: 0, end: 0, ended: false };
    (Feeder { full, emptied }, feed)
}

/// The end that is written to.
pub(crate) struct Feeder {
    full: SyncSender<Message>,
    emptied: Receiver<Vec<u8>>,
}

impl Feeder {
    /// A buffer of [`BUFFER_SIZE`] bytes to fill, used before or new.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.emptied.try_recv().unwrap_or_else(|_| vec![0; BUFFER_SIZE])
    }

    /// Passes on the first `length` bytes of `buffer`.
    ///
    /// A reader that went away is no error: the blob is worth having without it.
    pub(crate) fn pass(&self, buffer: Vec<u8>, length: usize) {
        let _ = self.full.send(Message::Bytes(buffer, length));
    }

    /// Says that this was all. Without it the reader fails instead of taking a part for the whole.
    pub(crate) fn end(self) {
        let _ = self.full.send(Message::End);
    }
}

/// The end that is read from.
pub(crate) struct Feed {
    filled: Receiver<Message>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    end: usize,
    ended: bool,
}

impl Feed {
    /// Gets the next buffer; false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        while self.at == self.end && !self.ended {
            let spent = std::mem::take(&mut self.current);
            if !spent.is_empty() {
                let _ = self.empty.send(spent);
            }
            match self.filled.recv() {
                Ok(Message::Bytes(buffer, length)) => {
                    (self.current, self.at, self.end) = (buffer, 0, length);
                }
                Ok(Message::End) => self.ended = true,
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the download ended early",
                    ));
                }
            }
        }
        Ok(self.at < self.end)
    }
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.refill()? {
            return Ok(0);
        }
        let n = out.len().min(self.end - self.at);
        out[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_in_order_and_the_end_is_told() {
        let (feeder, mut feed) = pipe();
        let writer = std::thread::spawn(move || {
            for n in 0..100_u8 {
                let mut buffer = feeder.buffer();
                buffer[..3].copy_from_slice(&[n; 3]);
                feeder.pass(buffer, usize::from(n % 4).min(3));
            }
            feeder.end();
        });
        let mut all = Vec::new();
        feed.read_to_end(&mut all).unwrap();
        writer.join().unwrap();
        let expected: Vec<u8> =
            (0..100_u8).flat_map(|n| vec![n; usize::from(n % 4).min(3)]).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_writer_that_goes_away_is_not_an_end() {
        let (feeder, mut feed) = pipe();
        feeder.pass(vec![1; 8], 8);
        drop(feeder);
        let error = feed.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_goes_away_does_not_block() {
        let (feeder, feed) = pipe();
        drop(feed);
        for _ in 0..100 {
            feeder.pass(feeder.buffer(), 1);
        }
        feeder.end();
    }
}
