//! Where the API is listened for.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Error, Kind, Result};
use httpd::{Clients, Listener, TlsConfig};
use rustix::fs::Mode;

use super::Args;

/// Where Docker's clients look unless they are told otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// What may be done with a socket by its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// What is listened on.
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    /// What they are called.
    pub(super) places: Vec<String>,
    /// Removed at the end.
    pub(super) _files: Vec<SocketFile>,
}

/// A socket's file, which is removed with this.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf, (u64, u64));

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own there.
        if identity(&self.0).is_ok_and(|found| found == self.1) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Listens wherever the arguments say.
pub(super) fn listeners(args: &Args, run_root: &Path) -> Result<Bound> {
    let mut bound = Bound { listeners: Vec::new(), places: Vec::new(), _files: Vec::new() };
    let inherited = runtime::inherited_sockets();
    let mut hosts = args.host.clone();
    if hosts.is_empty() && !inherited.is_empty() {
        hosts.push("fd://".to_owned());
    }
    if hosts.is_empty() {
        hosts.push(format!("unix://{}", run_root.join("docker.sock").display()));
    }
    if args.docker {
        hosts.push(format!("unix://{DOCKER_SOCKET}"));
    }
    let mut inherited = Some(inherited);
    for host in hosts {
        if let Some(path) = host.strip_prefix("unix://") {
            let path = if path.is_empty() { DOCKER_SOCKET } else { path };
            bound.listeners.push(Listener::Unix(unix(Path::new(path), args, run_root)?));
            let own = identity(Path::new(path)).map_err(|error| refused(&host, error))?;
            bound._files.push(SocketFile(path.into(), own));
        } else if let Some(address) = host.strip_prefix("tcp://") {
            bound.listeners.push(tcp(address, args)?);
        } else if host.starts_with("fd://") {
            let sockets = inherited.take().filter(|sockets| !sockets.is_empty());
            let sockets = sockets.ok_or_else(|| {
                Error::invalid("no sockets found via socket activation: make sure the service was started by systemd")
            })?;
            for socket in sockets {
                bound.listeners.push(given(socket, args)?);
            }
        } else {
            return Err(Error::invalid(format!("invalid host {host}"))
                .hint("as in unix:///run/cais/docker.sock, tcp://127.0.0.1:2376 or fd://"));
        }
        bound.places.push(host);
    }
    Ok(bound)
}

fn refused(place: &str, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => "something listens there already; choose another with --host",
        ErrorKind::PermissionDenied => "choose a place where this user may listen with --host",
        _ => "--host takes unix://PATH or tcp://HOST:PORT",
    };
    Error::caused(Kind::Invalid, format!("listen on {place}"), error).hint(hint)
}

/// A socket in the file system, for its owner and a group.
fn unix(path: &Path, args: &Args, run_root: &Path) -> Result<UnixListener> {
    let failed = |error| refused(&format!("unix://{}", path.display()), error);
    let group = group(&args.group);
    if args.group != "docker" && group.is_none() {
        return Err(Error::invalid(format!("group {} not found", args.group)));
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711).create(parent).map_err(failed)?;
        if parent == run_root && group.is_some() {
            // What lies there beside the socket is private by itself.
            fs::set_permissions(parent, fs::Permissions::from_mode(0o711)).map_err(failed)?;
        }
    }
    if UnixStream::connect(path).is_err() {
        // One that nobody answers at was left by somebody who was killed.
        match fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                fs::remove_file(path).map_err(failed)?;
            }
            _ => {}
        }
    }
    // Nobody may come before the group is right.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(failed)?;
    if let Some(group) = group {
        // Without privilege, it is for its owner alone.
        if std::os::unix::fs::chown(path, None, Some(group)).is_ok() {
            fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        }
    }
    Ok(listener)
}

/// The id of a group (group(5)).
fn group(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let own = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = own.filter(|fields| fields.first() == Some(&name));
    let id = own.filter_map(|fields| fields.get(2)?.parse().ok()).next();
    id.or_else(|| name.parse().ok())
}

/// Only those are let in who can prove that they may: whoever is, is root of this machine.
fn tls(args: &Args) -> Result<Arc<TlsConfig>> {
    let files = (&args.tlscacert, &args.tlscert, &args.tlskey);
    let (true, (Some(authority), Some(certificate), Some(key))) = (args.tlsverify, files) else {
        return Err(Error::invalid(
            "the API is not served over a network without certificates on both sides: whoever reaches it is root here",
        )
        .hint("give --tlsverify with --tlscacert, --tlscert and --tlskey, or use ssh:// on the client's side"));
    };
    httpd::tls_config(certificate, key, Clients::Certified(authority)).map_err(|(path, why)| {
        Error::caused(Kind::Invalid, format!("use the certificate `{}`", path.display()), why)
    })
}

fn tcp(address: &str, args: &Args) -> Result<Listener> {
    let tls = tls(args)?;
    let address = match address.contains(':') {
        true => address.to_owned(),
        false => format!("{address}:2376"),
    };
    let listener = TcpListener::bind(&address);
    let listener = listener.map_err(|error| refused(&format!("tcp://{address}"), error))?;
    Ok(Listener::Tcp(listener, Some(tls)))
}

/// A socket that was opened by whoever started us.
fn given(socket: OwnedFd, args: &Args) -> Result<Listener> {
    let failed = |error| refused("fd://", error);
    let address = rustix::net::getsockname(&socket).map_err(|error| failed(error.into()))?;
    match address.address_family() {
        rustix::net::AddressFamily::UNIX => Ok(Listener::Unix(socket.into())),
        _ => Ok(Listener::Tcp(socket.into(), Some(tls(args)?))),
    }
}
