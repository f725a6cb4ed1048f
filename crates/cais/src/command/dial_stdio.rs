//! `cais system dial-stdio`

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result};
use remote::pass_on;

use crate::session::Session;

/// Where Docker's clients look.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

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
    relay(stream).map(|()| 0)
}

/// Passes on what comes from standard input, and to standard output, until the other end has said
/// all.
pub(super) fn relay(stream: UnixStream) -> Result<()> {
    let failed = |error| Error::caused(Kind::Unavailable, "pass on a connection", error);
    let mut from = stream.try_clone().map_err(failed)?;
    // It ends with the process, once the other direction has.
    std::thread::spawn(move || {
        let _ = pass_on(&mut std::io::stdin(), &mut &stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
    // Whoever read may have gone.
    let _ = pass_on(&mut from, &mut std::io::stdout());
    Ok(())
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
