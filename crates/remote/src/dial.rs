//! Connections. Whatever carries one, what comes of it is a socket whose directions end one by one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::place::Place;
use crate::tls;

/// How long a machine on a network may take to answer at all.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// What is passed on at a time.
const PIECE_BYTES: usize = 32 << 10;

pub(crate) fn dial(place: &Place) -> io::Result<UnixStream> {
    match place {
        Place::Unix(path) => UnixStream::connect(path),
        Place::Tcp { host, port, tls } => {
            let stream = connect(host, Place::port(*port, tls.as_ref()))?;
            match tls {
                // Reading, writing and ending either is the same to the kernel.
                None => Ok(OwnedFd::from(stream).into()),
                Some(tls) => tls::over(stream, host, tls),
            }
        }
        Place::Ssh { user, host, port, path } => ssh(user.as_deref(), host, *port, path),
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// As Docker's client does: the engine's own program there passes on what comes.
fn ssh(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("ssh");
    command.args(["-o", &format!("ConnectTimeout={}", CONNECT_MAX.as_secs()), "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host, "docker"]);
    if !path.is_empty() {
        command.args(["--host", &format!("unix://{path}")]);
    }
    command.args(["system", "dial-stdio"]);
    let theirs = OwnedFd::from(theirs);
    command.stdin(Stdio::from(theirs.try_clone()?)).stdout(Stdio::from(theirs));
    // It ends when we hang up; what it has to say, it says itself.
    command.spawn().map_err(|error| io::Error::new(error.kind(), format!("run ssh: {error}")))?;
    Ok(ours)
}

/// Passes on each piece as it comes, to the end.
///
/// # Errors
/// Those of both ends.
pub fn pass_on(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
