//! A connection over TLS as a plain socket: a thread encrypts what goes one way and decrypts what
//! comes the other way, so that either end may say that it is done while the other goes on.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::place::Tls;

/// What is taken from either side at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Shakes hands, and gives what is said over it.
pub(crate) fn over(mut network: TcpStream, host: &str, tls: &Tls) -> io::Result<UnixStream> {
    let config = Arc::new(config(tls).map_err(io::Error::other)?);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut network)?;
    }
    let (ours, theirs) = UnixStream::pair()?;
    network.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let mut relay = Relay { network, plain: theirs, session, arrived: Vec::new(), is_fed: true };
    // It ends when either end hangs up.
    std::thread::spawn(move || {
        let _ = relay.run();
    });
    Ok(ours)
}

fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for trusted in httpd::certificates(&tls.authority)? {
        roots.add(trusted).map_err(|error| format!("{}: {error}", tls.authority.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => builder
            .with_client_auth_cert(httpd::certificates(certificate)?, httpd::key(key)?)
            .map_err(|error| format!("use {}: {error}", certificate.display())),
    }
}

/// Both sides, and what is on its way between them.
struct Relay {
    network: TcpStream,
    plain: UnixStream,
    session: ClientConnection,
    /// Decrypted, and not yet taken.
    arrived: Vec<u8>,
    /// Whether more may come from our side.
    is_fed: bool,
}

impl Relay {
    fn run(&mut self) -> io::Result<()> {
        loop {
            self.hand_over()?;
            if self.session.wants_write() {
                settled(self.session.write_tls(&mut self.network))?;
            }
            let mut network = PollFlags::empty();
            network.set(PollFlags::OUT, self.session.wants_write());
            network.set(PollFlags::IN, self.arrived.is_empty());
            let mut plain = PollFlags::empty();
            plain.set(PollFlags::OUT, !self.arrived.is_empty());
            plain.set(PollFlags::IN, self.is_fed && !self.session.wants_write());
            let mut waiting = [
                PollFd::from_borrowed_fd(self.network.as_fd(), network),
                PollFd::from_borrowed_fd(self.plain.as_fd(), plain),
            ];
            rustix::io::retry_on_intr(|| poll(&mut waiting, None))?;
            let [network, plain] = waiting.map(|ready| ready.revents());
            if network.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && self.arrived.is_empty()
                && !self.receive()?
            {
                return self.end();
            }
            if self.is_fed && plain.intersects(PollFlags::IN | PollFlags::HUP) {
                self.send()?;
            }
            let is_idle = self.arrived.is_empty() && !self.session.wants_write();
            if plain.contains(PollFlags::HUP) && !self.is_fed && is_idle {
                // Nobody reads any more.
                return Ok(());
            }
        }
    }

    /// Decrypts what has come; whether more may come.
    fn receive(&mut self) -> io::Result<bool> {
        let read = settled(self.session.read_tls(&mut self.network))?;
        let state = self.session.process_new_packets().map_err(io::Error::other)?;
        let mut length = state.plaintext_bytes_to_read();
        let has_ended = state.peer_has_closed() || read == Some(0);
        if length > 0 {
            let before = self.arrived.len();
            self.arrived.resize(before + length, 0);
            length = self.session.reader().read(&mut self.arrived[before..])?;
            self.arrived.truncate(before + length);
        }
        Ok(!has_ended)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        while !self.arrived.is_empty() {
            match settled(self.plain.write(&self.arrived))? {
                Some(written) => drop(self.arrived.drain(..written)),
                None => break,
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let mut buffer = [0; PIECE_BYTES];
        match settled(self.plain.read(&mut buffer))? {
            None => {}
            Some(0) => {
                self.is_fed = false;
                self.session.send_close_notify();
            }
            Some(length) => self.session.writer().write_all(&buffer[..length])?,
        }
        Ok(())
    }

    /// The engine has said all: so have we, once it was taken.
    fn end(&mut self) -> io::Result<()> {
        self.plain.set_nonblocking(false)?;
        self.plain.write_all(&self.arrived)?;
        self.plain.shutdown(Shutdown::Write)
    }
}

/// What was done; `None` if it has to be waited for.
fn settled(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
