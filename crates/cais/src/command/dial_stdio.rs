//! `cais system dial-stdio`

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result};

use crate::session::Session;

/// Where Docker's clients look.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// What is passed on at a time.
const PIECE_BYTES: usize = 32 << 10;

/// What `system dial-stdio` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// A client elsewhere reaches the API by what runs this: `docker -H ssh://HOST`.
pub(crate) fn run(session: &Session, _: &Args) -> Result<i32> {
    let place = socket(session)?;
    let failed = |error| {
        Error::caused(Kind::Unavailable, format!("connect to {}", place.display()), error)
            .hint("`cais serve` listens there")
    };
    let stream = UnixStream::connect(&place).map_err(failed)?;
    let mut from = stream.try_clone().map_err(failed)?;
    // It ends with the process, once the other direction has.
    std::thread::spawn(move || {
        let _ = pass_on(&mut std::io::stdin(), &mut &stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
    // Whoever read may have gone.
    let _ = pass_on(&mut from, &mut std::io::stdout());
    Ok(0)
}

fn socket(session: &Session) -> Result<PathBuf> {
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.is_empty()
    {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(Error::new(Kind::Unsupported, format!("DOCKER_HOST is {host}"))
                .hint("a socket of this machine is passed on: unix://PATH")),
        };
    }
    let own = session.roots().1.join("docker.sock");
    Ok(if own.exists() { own } else { Path::new(DOCKER_SOCKET).to_owned() })
}

/// Passes on each piece as it comes.
fn pass_on(from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush())?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
