//! Lines to a syslog server: RFC 3164, RFC 5424, or the form that local servers take.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};

use super::Stream;

/// Where local servers listen, as Go's log/syslog looks for them.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// How long a server may take to answer at first, and to take a line.
const PATIENCE: Duration = Duration::from_secs(5);
/// RFC 5424, table 1.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
/// Docker's default facility.
const DAEMON: u8 = 3;
/// RFC 5424, table 2: error and informational.
const SEVERITIES: [u8; 2] = [6, 3];

/// Where lines go, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Syslog {
    address: Address,
    facility: u8,
    format: Format,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// The host's own server, wherever it listens.
    Local,
    Unix(PathBuf),
    UnixDatagram(PathBuf),
    Udp(String),
    Tcp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Unix,
    Rfc3164,
    /// With milliseconds, or microseconds.
    Rfc5424 {
        micro: bool,
    },
}

impl Syslog {
    /// What the options ask for.
    ///
    /// # Errors
    /// [`Kind::Invalid`]; [`Kind::Unsupported`] for TLS.
    pub(super) fn of(options: &BTreeMap<String, String>) -> Result<Self> {
        let option = |name: &str| options.get(name).map_or("", String::as_str);
        let facility = option("syslog-facility");
        let format = match option("syslog-format") {
            "" => Format::Unix,
            "rfc3164" => Format::Rfc3164,
            "rfc5424" => Format::Rfc5424 { micro: false },
            "rfc5424micro" => Format::Rfc5424 { micro: true },
            _ => {
                return Err(Error::invalid("Invalid syslog format")
                    .hint("formats are rfc3164, rfc5424 and rfc5424micro"));
            }
        };
        let facility = match facility {
            "" => DAEMON,
            name => number_of(name).ok_or_else(|| {
                Error::invalid("invalid syslog facility")
                    .hint("a name as daemon or local0, or 0 to 23")
            })?,
        };
        Ok(Self { address: address(option("syslog-address"))?, facility, format })
    }

    /// Opens the way there.
    pub(super) fn connect(&self) -> io::Result<Connection> {
        let resolve = |host: &str| {
            host.to_socket_addrs()?.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let unix = |path: &Path| {
            let socket = UnixDatagram::unbound()?;
            match socket.connect(path) {
                Ok(()) => Ok(Connection::UnixDatagram(socket)),
                Err(_) => UnixStream::connect(path).map(Connection::UnixStream),
            }
        };
        match &self.address {
            Address::Local => {
                let mut ways = LOCAL.iter().filter_map(|path| unix(Path::new(path)).ok());
                ways.next().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Address::Unix(path) => unix(path),
            Address::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Connection::UnixDatagram(socket))
            }
            Address::Udp(host) => {
                let to = resolve(host)?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(to)?;
                Ok(Connection::Udp(socket))
            }
            Address::Tcp(host) => {
                let stream = TcpStream::connect_timeout(&resolve(host)?, PATIENCE)?;
                // A server that stops reading must not stop the monitor.
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Connection::Tcp(stream))
            }
        }
    }

    /// A line as the server reads it.
    pub(super) fn message(&self, stream: Stream, tag: &str, host: &str, text: &[u8]) -> Vec<u8> {
        let priority = self.facility * 8 + SEVERITIES[stream as usize];
        let pid = std::process::id();
        let now = jiff::ZonedDateTime::now();
        let stamp = now.strftime("%b %e %H:%M:%S");
        let head = match self.format {
            Format::Unix => format!("<{priority}>{stamp} {tag}[{pid}]: "),
            Format::Rfc3164 => format!("<{priority}>{stamp} {host} {tag}[{pid}]: "),
            Format::Rfc5424 { micro } => {
                let time = match micro {
                    true => now.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z"),
                    false => now.strftime("%Y-%m-%dT%H:%M:%S%:z"),
                };
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        [head.as_bytes(), text, b"\n"].concat()
    }
}

/// An open way to a server.
#[derive(Debug)]
pub(super) enum Connection {
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::UnixDatagram(socket) => socket.as_fd(),
            Self::UnixStream(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Connection {
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::UnixDatagram(socket) => socket.send(message).map(drop),
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::UnixStream(stream) => stream.write_all(message),
            Self::Tcp(stream) => stream.write_all(message),
        }
    }
}

fn number_of(name: &str) -> Option<u8> {
    let by_name = FACILITIES.iter().position(|facility| *facility == name && !name.is_empty());
    let number = by_name.or_else(|| name.parse().ok().filter(|number| *number < FACILITIES.len()));
    number.and_then(|number| u8::try_from(number).ok())
}

fn address(text: &str) -> Result<Address> {
    if text.is_empty() {
        return Ok(Address::Local);
    }
    let bad = |reason: &str| {
        Error::invalid(format!("invalid syslog-address \"{text}\": {reason}"))
            .hint("as in unix:///dev/log, udp://HOST:514 or tcp://HOST:514")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("no protocol"))?;
    let host = || match rest.rsplit_once(':') {
        _ if rest.is_empty() => Err(bad("no host")),
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(rest.to_owned()),
        Some((_, port)) if !port.ends_with(']') => Err(bad("no such port")),
        _ => Ok(format!("{rest}:514")),
    };
    match scheme {
        "unix" | "unixgram" => {
            let path = PathBuf::from(rest);
            if !path.exists() {
                return Err(bad("no such file"));
            }
            Ok(if scheme == "unix" { Address::Unix(path) } else { Address::UnixDatagram(path) })
        }
        "udp" => host().map(Address::Udp),
        "tcp" => host().map(Address::Tcp),
        "tcp+tls" => Err(Error::new(
            Kind::Unsupported,
            "log opt 'syslog-address' with tcp+tls is not supported yet",
        )),
        _ => Err(bad("unsupported scheme")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Syslog> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        Syslog::of(&options.iter().map(own).collect())
    }

    #[test]
    fn options_are_checked() {
        let plain = of(&[]).unwrap();
        assert_eq!((plain.facility, plain.address), (3, Address::Local));
        let udp = of(&[("syslog-address", "udp://127.0.0.1"), ("syslog-facility", "local7")]);
        let udp = udp.unwrap();
        assert_eq!((udp.facility, udp.address), (23, Address::Udp("127.0.0.1:514".into())));
        for bad in [
            ("syslog-address", "127.0.0.1"),
            ("syslog-address", "udp://host:x"),
            ("syslog-address", "tcp+tls://host:1"),
            ("syslog-address", "http://host"),
            ("syslog-address", "unix:///no/such/socket"),
            ("syslog-facility", "24"),
            ("syslog-facility", "what"),
            ("syslog-format", "rfc1"),
        ] {
            assert!(of(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_message_has_a_priority_a_tag_and_one_line() {
        let text = |format: &str, stream| {
            let syslog = of(&[("syslog-format", format)]).unwrap();
            String::from_utf8(syslog.message(stream, "tag", "host", b"text\n")).unwrap()
        };
        let pid = std::process::id();
        let plain = text("", Stream::Stdout);
        assert!(plain.starts_with("<30>"), "{plain}");
        assert!(plain.ends_with(&format!(" tag[{pid}]: text\n")), "{plain}");
        assert!(text("rfc3164", Stream::Stderr).starts_with("<27>"));
        let new = text("rfc5424micro", Stream::Stdout);
        assert!(
            new.starts_with("<30>1 ") && new.ends_with(&format!(" host tag {pid} tag - text\n")),
            "{new}"
        );
    }
}
