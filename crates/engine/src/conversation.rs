//! Talking with whoever holds a process: the monitor of a container, or of a command in it.
//!
//! Who wants to be there from a container's first byte on comes before its monitor does, and leaves
//! a socket for it:
//!
//! ```text
//! <run root>/waiting/<id>/<kind><random>   a socket: `a` takes part, `w` waits for the end
//! ```
//!
//! A monitor calls all of them, after it has made its own socket; who comes later than that finds
//! this one. So nobody is missed, whichever process starts the container.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use runtime::is_taken;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::Engine;
use crate::container::{Container, Containers, RECORD};
use crate::error::{Doing, Result};
use crate::event::Event;
use crate::file::create_dir;
use crate::monitor::attach::{self, Message, PAYLOAD_BYTES_MAX};
use crate::monitor::relay::Client;

/// Waiting sockets that a monitor calls.
const WAITING_MAX: usize = 1024;

/// What is wanted of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Output, and giving input.
    TakePart,
    /// The end alone.
    Wait,
}

/// What the other side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// Bytes of standard output, or of the terminal.
    Stdout(&'a [u8]),
    /// Bytes of standard error.
    Stderr(&'a [u8]),
    /// The process has ended with this code.
    Exit(i32),
    /// The other side has gone without a word.
    Gone,
}

/// A connection to whoever holds a process.
#[derive(Debug)]
pub struct Conversation {
    socket: OwnedFd,
    packet: Vec<u8>,
}

impl Conversation {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, packet: Vec::new() }
    }

    /// Waits for what comes next.
    pub fn listen(&mut self) -> Said<'_> {
        // One byte more than a payload: the kind.
        self.packet.resize(PAYLOAD_BYTES_MAX + 1, 0);
        let received = attach::receive(&self.socket, &mut self.packet);
        match received.ok().and_then(Message::decode) {
            Some(Message::Stdout(bytes)) => Said::Stdout(bytes),
            Some(Message::Stderr(bytes)) => Said::Stderr(bytes),
            Some(Message::Exit(code)) => Said::Exit(code),
            _ => Said::Gone,
        }
    }

    /// Gives bytes to standard input, if they are taken now: at most as many as this says.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn try_input(&self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PAYLOAD_BYTES_MAX)];
        match attach::send_packet(&self.socket, &Message::Input(part).encode(), false) {
            Ok(()) => Ok(part.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Says that there is no more input, if that is taken now: whether it is.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn try_end_input(&self) -> io::Result<bool> {
        match attach::send_packet(&self.socket, &Message::InputEnd.encode(), false) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.say(Message::Resize(rows, columns))
    }

    fn say(&self, message: Message<'_>) -> io::Result<()> {
        attach::send_packet(&self.socket, &message.encode(), true)
    }
}

/// Ready when the other side has something to say.
impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A place in the line of those who wait for a container's start, until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    listener: OwnedFd,
    path: PathBuf,
}

impl Waiter {
    /// The conversation, once the container has been started.
    ///
    /// # Errors
    /// There is nobody to talk with after all.
    pub fn accept(&self) -> io::Result<Conversation> {
        attach::accept(&self.listener).map(Conversation::new)
    }
}

/// Ready when the container was started.
impl AsFd for Waiter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = self.path.parent() {
            // Others may wait there still.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// How to get into a conversation.
#[derive(Debug)]
pub enum Entry {
    /// It is going on.
    Now(Conversation),
    /// It begins with the container's start.
    Later(Waiter),
}

/// Tells when a container is removed.
#[derive(Debug)]
pub struct Removal {
    watch: OwnedFd,
    record: PathBuf,
}

impl Removal {
    /// Whether it has happened; forgets what made this ready.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        let mut events = [0; 4096];
        while matches!(rustix::io::read(&self.watch, &mut events), Ok(read) if read > 0) {}
        !self.record.exists()
    }
}

/// Ready when it is worth a look.
impl AsFd for Removal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl Engine {
    /// Enters a container's conversation, which may begin with its next start.
    ///
    /// # Errors
    /// If the run directory cannot be used.
    pub fn enter(&self, container: &Container, purpose: Purpose) -> Result<Entry> {
        if purpose == Purpose::TakePart {
            self.emit(Event::container("attach", container));
        }
        let id = &container.record.id;
        let waiter = self.containers.wait_in_line(id, purpose)?;
        // A monitor that has called those in line before we were there can be called itself.
        let Ok(socket) = attach::connect(&container.attach_path()) else {
            return Ok(Entry::Later(waiter));
        };
        let conversation = match has_come(&waiter.listener) {
            true => waiter.accept().doing(|| format!("reach the monitor of container {id}"))?,
            false => Conversation::new(socket),
        };
        if purpose == Purpose::Wait {
            // One that has ended meanwhile is found out by who listens.
            let _ = conversation.say(Message::Quiet);
        }
        Ok(Entry::Now(conversation))
    }

    /// A container as it is once whoever is starting or ending it is done: a monitor that takes leave
    /// removes its socket before it writes down how the container has ended.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound).
    pub fn settled(&self, container: &Container) -> Result<Container> {
        drop(container.clone().lock()?);
        self.find(&container.record.id)
    }

    /// Watches for a container's removal.
    ///
    /// # Errors
    /// If the kernel has no watch left.
    pub fn watch_removal(&self, container: &Container) -> Result<Removal> {
        let doing = || format!("watch container {}", container.record.name);
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).doing(doing)?;
        let events = inotify::WatchFlags::MOVED_FROM | inotify::WatchFlags::DELETE;
        let parent = container.dir.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(&watch, parent, events).doing(doing)?;
        Ok(Removal { watch, record: container.dir.join(RECORD) })
    }

    /// Changes the size of a running container's terminal.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::Kind::Conflict) if it does not run.
    pub fn resize(&self, container: &Container, rows: u16, columns: u16) -> Result<()> {
        crate::stop::running(container)?;
        let doing = || format!("reach the monitor of container {}", container.record.name);
        let socket = attach::connect(&container.attach_path()).doing(doing)?;
        Conversation::new(socket).resize(rows, columns).doing(doing)
    }
}

impl Containers {
    fn line(&self, id: &str) -> PathBuf {
        self.run_dir("waiting").join(id)
    }

    fn wait_in_line(&self, id: &str, purpose: Purpose) -> Result<Waiter> {
        let directory = self.line(id);
        let kind = match purpose {
            Purpose::TakePart => 'a',
            Purpose::Wait => 'w',
        };
        let unique = u64::from_ne_bytes(crate::id::random()?);
        let path = directory.join(format!("{kind}{unique:016x}"));
        let doing = || format!("listen on {}", path.display());
        loop {
            create_dir(&directory)?;
            match attach::listener(&path) {
                // Whoever was alone in it has just removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                listener => return Ok(Waiter { listener: listener.doing(doing)?, path }),
            }
        }
    }

    /// Calls those who wait for the start of a container. Who does not answer has gone, and its
    /// socket with it.
    pub(crate) fn call_waiting(&self, id: &str) -> Vec<Client> {
        let Ok(entries) = fs::read_dir(self.line(id)) else { return Vec::new() };
        let mut clients = Vec::new();
        for entry in entries.flatten().take(WAITING_MAX) {
            match attach::connect(&entry.path()) {
                Ok(socket) if entry.file_name().as_encoded_bytes().starts_with(b"w") => {
                    clients.push(Client::observer(socket));
                }
                Ok(socket) => clients.push(Client::starter(socket)),
                Err(_) => drop(fs::remove_file(entry.path())),
            }
        }
        clients
    }
}

fn has_come(listener: &OwnedFd) -> bool {
    let mut set = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut set, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_called_and_who_has_gone_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let containers = Containers::new(dir.path(), dir.path());
        let waiter = containers.wait_in_line("x", Purpose::Wait).unwrap();
        // As if its process had been killed: the file stays, and nobody listens.
        let stale = containers.line("x").join("a0");
        let deserted = attach::listener(&stale).unwrap();
        rustix::net::shutdown(&deserted, rustix::net::Shutdown::Both).unwrap();
        let clients = containers.call_waiting("x");
        assert_eq!((clients.len(), stale.exists()), (1, false));
        let mut conversation = waiter.accept().unwrap();
        clients.into_iter().for_each(|client| client.farewell(7));
        assert_eq!(conversation.listen(), Said::Exit(7));
        assert_eq!(conversation.listen(), Said::Gone);
        drop(waiter);
        assert!(containers.call_waiting("x").is_empty());
    }
}
