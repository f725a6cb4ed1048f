//! SSH agents for commands: a socket that passes on questions for keys and for signatures, and nothing
//! else; and an agent of our own for keys that are files.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use super::source::named;
use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};

/// Of one message of an agent, in bytes: OpenSSH's own limit (AGENT_MAX_LEN).
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// What a client may ask (draft-ietf-sshm-ssh-agent, section 7.1).
const ASKS_FOR_KEYS: u8 = 11;
const ASKS_FOR_SIGNATURE: u8 = 13;
const FAILURE: u8 = 5;
/// Connections of one command at the same time.
const CONNECTIONS_MAX: usize = 64;

/// A socket in a container that leads to an agent outside.
#[derive(Debug)]
pub(crate) struct Forward {
    listener: UnixListener,
    agent: PathBuf,
}

impl Forward {
    /// Listens at `socket`, for the agent at `agent`; mode, user and group are the socket's.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new(
        socket: &Path,
        agent: &Path,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Self> {
        let doing = || format!("make a socket for the agent {}", agent.display());
        let (place, _directory) = short(socket).doing(doing)?;
        let listener = UnixListener::bind(place).doing(doing)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(mode)).doing(doing)?;
        chown(socket, Some(uid), Some(gid)).doing(doing)?;
        Ok(Self { listener, agent: agent.to_owned() })
    }

    /// Serves the container until this process ends: in threads, which may not be there yet while a
    /// container is made.
    pub(crate) fn serve(self) {
        std::thread::spawn(move || {
            let busy = std::sync::Arc::new(());
            for client in self.listener.incoming() {
                let Ok(client) = client else { return };
                if std::sync::Arc::strong_count(&busy) > CONNECTIONS_MAX {
                    continue;
                }
                let (agent, held) = (self.agent.clone(), busy.clone());
                std::thread::spawn(move || {
                    // Whoever asked finds the connection closed.
                    let _ = pass_on(client, &agent);
                    drop(held);
                });
            }
        });
    }
}

/// Passes questions on, one after the other.
fn pass_on(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let (place, _directory) = short(agent)?;
    let mut agent = UnixStream::connect(place)?;
    while let Some(question) = message(&mut client)? {
        let answer = match question.first() {
            Some(&ASKS_FOR_KEYS | &ASKS_FOR_SIGNATURE) => {
                send(&mut agent, &question)?;
                message(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            _ => vec![FAILURE],
        };
        send(&mut client, &answer)?;
    }
    Ok(())
}

/// A path of a few bytes, through its directory: `sun_path` holds 107.
pub(super) fn short(path: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::open(named(parent), flags, rustix::fs::Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((short, directory))
}

/// One message: its length, and its bytes; `None` at the end.
fn message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat())
}

/// An agent with keys from files. It ends with this, or with us.
#[derive(Debug)]
pub struct KeyAgent {
    dir: PathBuf,
    guard: Option<runtime::Child>,
    held: Option<OwnedFd>,
}

impl KeyAgent {
    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent")
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        self.held = None;
        if let Some(guard) = &self.guard {
            let _ = guard.wait();
        }
    }
}

impl Engine {
    /// Starts OpenSSH's agent with keys from files.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no OpenSSH; [`Kind::Invalid`] for what is no key, or one that
    /// asks for a passphrase.
    pub fn key_agent(&self, keys: &[PathBuf]) -> Result<KeyAgent> {
        let doing = || "start an SSH agent".to_owned();
        let dir = self.containers.run_dir(&format!("ssh-{}", &crate::id::fresh()?[..16]));
        crate::file::create_dir(&dir)?;
        let (watched, held) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
        let (ready, said) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
        let mut agent = KeyAgent { dir, guard: None, held: None };
        match runtime::fork().doing(doing)? {
            runtime::Fork::Child => {
                drop((held, ready));
                // Nobody's lock or pipe is to live as long as an agent.
                let _ = runtime::keep_only(&[watched.as_fd(), said.as_fd()]);
                // A signal from the terminal is for the build.
                let _ = runtime::detach_from_session();
                watch_over(&agent, &watched, said);
                // It is the build's, and not ours.
                std::mem::forget(agent);
                runtime::exit_now(0)
            }
            runtime::Fork::Parent(child) => {
                drop((watched, said));
                (agent.guard, agent.held) = (Some(child), Some(held));
            }
        }
        let mut word = [0; 1];
        if rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut word)).doing(doing)? == 0 {
            return Err(Error::new(Kind::NotFound, "cannot start ssh-agent for --ssh with keys")
                .hint("install OpenSSH's client, or give the socket of an agent"));
        }
        for key in keys {
            add_key(&agent, key)?;
        }
        Ok(agent)
    }
}

/// Runs an agent until nobody holds what is watched.
fn watch_over(agent: &KeyAgent, watched: &OwnedFd, said: OwnedFd) {
    if let Ok(mut process) = start_agent(&agent.socket()) {
        let _ = rustix::io::write(&said, b"1");
        drop(said);
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(watched, &mut [0; 1]));
        let _ = process.kill();
        let _ = process.wait();
    }
    let _ = fs::remove_dir_all(&agent.dir);
}

/// Starts an agent, and waits until it listens.
fn start_agent(socket: &Path) -> io::Result<Child> {
    let mut command = Command::new("ssh-agent");
    command.arg("-D").arg("-a").arg(socket);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn()?;
    let mut line = String::new();
    let said = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    match BufReader::new(said).read_line(&mut line) {
        Ok(n) if n > 0 => Ok(process),
        _ => {
            let _ = process.kill();
            let _ = process.wait();
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
}

fn add_key(agent: &KeyAgent, key: &Path) -> Result<()> {
    let mut command = Command::new("ssh-add");
    command.arg("-q").arg("--").arg(key).stdin(Stdio::null());
    command.env("SSH_AUTH_SOCK", agent.socket()).env("SSH_ASKPASS_REQUIRE", "never");
    let output = command.output().doing(|| "run ssh-add".into())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("failed to parse {}: {}", key.display(), said.trim());
    Err(Error::new(Kind::Invalid, message)
        .hint("it is the file of a private key without passphrase"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_and_signatures_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let (place, agent) = (directory.path().join("s"), directory.path().join("agent"));
        let listener = UnixListener::bind(&agent).unwrap();
        let heard = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            while let Some(question) = message(&mut client).unwrap() {
                heard.push(question);
                send(&mut client, b"\x0canswer").unwrap();
            }
            heard
        });
        Forward::new(&place, &agent, (0o600, 0, 0)).unwrap().serve();
        let mut client = UnixStream::connect(&place).unwrap();
        let mut ask = |question: &[u8]| {
            send(&mut client, question).unwrap();
            message(&mut client).unwrap().unwrap()
        };
        assert_eq!(ask(b"\x0b"), b"\x0canswer");
        // To remove all keys, to lock the agent, and an extension.
        for refused in [&b"\x13"[..], b"\x16secret", b"\x1bx"] {
            assert_eq!(ask(refused), [FAILURE]);
        }
        assert_eq!(ask(b"\x0ddata"), b"\x0canswer");
        drop(client);
        assert_eq!(heard.join().unwrap(), [b"\x0b".to_vec(), b"\x0ddata".to_vec()]);
    }

    #[test]
    fn messages_are_bounded() {
        assert!(message(&mut &[0xff; 8][..]).is_err());
        assert!(message(&mut &[0; 8][..]).is_err());
        assert_eq!(message(&mut &b"\0\0\0\x02ab"[..]).unwrap(), Some(b"ab".to_vec()));
        assert_eq!(message(&mut &b""[..]).unwrap(), None);
    }
}
