//! A visit to another network namespace.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, KernelError, Result};

/// Runs `visit` with the calling thread inside the network namespace `netns`, and comes back.
///
/// A network namespace is a property of the thread (setns(2)), so other threads notice nothing. A
/// socket opened during the visit belongs to that namespace for life, which is what visits are for.
pub(crate) fn inside<T>(netns: BorrowedFd<'_>, visit: impl FnOnce() -> Result<T>) -> Result<T> {
    let home = File::open("/proc/thread-self/ns/net")
        .map_err(|e| Error::io("open this thread's network namespace", e))?;
    enter(netns).map_err(refused)?;
    let _way_back = WayBack(&home);
    visit()
}

struct WayBack<'a>(&'a File);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        enter(self.0.as_fd()).expect("a thread may return to the namespace it came from");
    }
}

fn enter(netns: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
}

fn refused(errno: Errno) -> Error {
    let doing = String::from("enter the container's network namespace");
    let source = KernelError { errno, message: None };
    match errno {
        Errno::PERM => Error::Denied { doing, needs: "CAP_SYS_ADMIN", source },
        _ => Error::Kernel { doing, source },
    }
}

/// Connects to a port of the loopback address, of version 4 or else of version 6, in the network
/// namespace `netns`, or in that of the caller.
///
/// # Errors
/// [`Error::Io`] if nobody listens at either within `longest`; what the namespace's visit refuses.
pub fn dial(netns: Option<BorrowedFd<'_>>, port: u16, longest: Duration) -> Result<TcpStream> {
    let dial = || {
        let to =
            |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), longest);
        let first = match to(Ipv4Addr::LOCALHOST.into()) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        // Why version 4 failed is what people can do something about.
        to(Ipv6Addr::LOCALHOST.into())
            .map_err(|_| Error::io(format!("connect to localhost:{port}"), first))
    };
    match netns {
        Some(netns) => inside(netns, dial),
        None => dial(),
    }
}
