//! Services that take lines beside the files, and may come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use crate::container::{Record, SHORT_ID_LENGTH};

use super::plan::{Plan, Remote as Kind};
use super::syslog::{Connection, Syslog};
use super::{Stream, journald};

/// A service, with the way there as long as it is open.
#[derive(Debug)]
pub(super) enum Remote {
    Journald { socket: Option<UnixDatagram>, fields: Vec<u8> },
    Syslog { server: Syslog, connection: Option<Connection>, tag: String, host: String },
}

impl Remote {
    /// Opens the way to a service.
    ///
    /// # Errors
    /// If there is none: a container whose lines go nowhere does not start, as in Docker.
    pub(super) fn open(kind: &Kind, plan: &Plan, record: &Record) -> io::Result<Self> {
        match kind {
            Kind::Journald => {
                let socket = Some(journald::connect()?);
                Ok(Self::Journald { socket, fields: fields(plan, record) })
            }
            Kind::Syslog(server) => {
                let connection = Some(server.connect()?);
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                Ok(Self::Syslog { server: server.clone(), connection, tag: plan.tag.clone(), host })
            }
        }
    }

    /// The socket, where one is open.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Journald { socket, .. } => socket.as_ref().map(AsFd::as_fd),
            Self::Syslog { connection, .. } => connection.as_ref().map(AsFd::as_fd),
        }
    }

    /// Sends a line; tries once to open the way again.
    pub(super) fn send(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Journald { socket, fields } => {
                let entry = journald::entry(fields, stream, text);
                twice(socket, journald::connect, |socket| socket.send(&entry).map(drop))
            }
            Self::Syslog { server, connection, tag, host } => {
                let message = server.message(stream, tag, host, text);
                twice(connection, || server.connect(), |connection| connection.send(&message))
            }
        }
    }
}

/// Uses what is open, or opens it anew if that fails.
fn twice<T>(
    slot: &mut Option<T>,
    open: impl Fn() -> io::Result<T>,
    mut send: impl FnMut(&mut T) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(open) = slot
        && send(open).is_ok()
    {
        return Ok(());
    }
    *slot = None;
    let mut fresh = open()?;
    send(&mut fresh)?;
    *slot = Some(fresh);
    Ok(())
}

/// What Docker says of a container in each entry of the journal.
fn fields(plan: &Plan, record: &Record) -> Vec<u8> {
    let mut fields = Vec::new();
    let own = [
        ("CONTAINER_ID", &record.id[..SHORT_ID_LENGTH]),
        ("CONTAINER_ID_FULL", &record.id),
        ("CONTAINER_NAME", &record.name),
        ("CONTAINER_TAG", &plan.tag),
        ("IMAGE_NAME", &record.settings.image),
        ("SYSLOG_IDENTIFIER", &plan.tag),
    ];
    for (name, value) in own {
        journald::add(&mut fields, name, value.as_bytes());
    }
    for (name, value) in &plan.attrs {
        journald::add(&mut fields, &journald::field_name(name), value.as_bytes());
    }
    fields
}
