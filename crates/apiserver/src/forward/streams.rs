//! Two streams of SPDY for each connection: its bytes, and why it has failed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Heard, Trunk};
use crate::channel::leave;
use crate::spdy::{Event, Session, Wire, header};

/// The streams of a connection, which is known by that of its bytes.
#[derive(Debug, Default)]
struct Pair {
    error: Option<u32>,
    data: Option<u32>,
}

pub(super) struct Streams<W> {
    session: Session<W>,
    /// By what the client calls them.
    pairs: BTreeMap<String, Pair>,
}

impl<W: Wire> Streams<W> {
    pub(super) fn new(session: Session<W>) -> Self {
        Self { session, pairs: BTreeMap::new() }
    }

    /// Takes a stream; a connection is wanted once both are there.
    fn open(&mut self, stream: u32, headers: &[(String, String)]) -> io::Result<Option<Heard>> {
        let (kind, request) = (header(headers, "streamtype"), header(headers, "requestid"));
        let port = header(headers, "port").parse::<u16>().ok().filter(|port| *port > 0);
        let (Some(port), "error" | "data") = (port, kind) else {
            self.session.reset(stream)?;
            return Ok(None);
        };
        self.session.accept(stream)?;
        let pair = self.pairs.entry(request.to_owned()).or_default();
        match kind {
            "error" => pair.error = Some(stream),
            _ => pair.data = Some(stream),
        }
        let is_whole = pair.error.is_some();
        Ok(pair.data.filter(|_| is_whole).map(|data| Heard::Open(data, port)))
    }
}

impl<W: Wire> Trunk for Streams<W> {
    fn has_more(&mut self) -> bool {
        self.session.has_more()
    }

    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>> {
        let goes_on = self.session.read()?;
        let mut heard = Vec::new();
        while let Some(event) = self.session.next() {
            match event {
                Event::Opened { stream, headers } => heard.extend(self.open(stream, &headers)?),
                Event::Data { stream, bytes } => heard.push(Heard::Bytes(stream, bytes)),
                Event::Ended { stream } => heard.push(Heard::Ends(stream)),
                Event::Reset { stream } => heard.push(Heard::Gone(stream)),
            }
        }
        Ok((goes_on || !heard.is_empty()).then_some(heard))
    }

    fn give(&mut self, connection: u32, bytes: &[u8]) -> io::Result<()> {
        self.session.write(connection, bytes)
    }

    fn end(&mut self, connection: u32, failure: Option<&str>) -> io::Result<()> {
        let of = |pair: &Pair| pair.data == Some(connection);
        let request = self.pairs.iter().find(|(_, pair)| of(pair)).map(|(name, _)| name.clone());
        let pair = request.and_then(|request| self.pairs.remove(&request)).unwrap_or_default();
        if let (Some(error), Some(why)) = (pair.error, failure) {
            self.session.write(error, why.as_bytes())?;
        }
        [Some(connection), pair.error].into_iter().flatten().try_for_each(|s| self.session.end(s))
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn leave(&mut self) -> io::Result<()> {
        leave(&mut self.session)
    }
}

impl<W: Wire> AsFd for Streams<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_is_wanted_once_both_streams_are_there() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut streams = Streams::new(Session::new(server));
        let headers = |kind: &str| {
            let pairs = [("streamtype", kind), ("port", "80"), ("requestid", "0")];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(streams.open(1, &headers("error")).unwrap(), None);
        assert_eq!(streams.open(3, &headers("data")).unwrap(), Some(Heard::Open(3, 80)));
        assert_eq!(streams.open(5, &headers("other")).unwrap(), None);
        streams.end(3, Some("why")).unwrap();
        drop(streams);
        let mut said = Vec::new();
        client.read_to_end(&mut said).unwrap();
        // The reason, then the ends of both.
        assert!(said.ends_with(&[0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]), "{said:?}");
        assert!(said.windows(11).any(|part| part == b"\0\0\0\x01\0\0\0\x03why"), "{said:?}");
    }
}
