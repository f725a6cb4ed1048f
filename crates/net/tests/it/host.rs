//! Fake hosts and containers: network namespaces that die with their last thread and descriptor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use net::{Endpoint, Network, NetworkV6};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// How long anything that should happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long a packet that is dropped is given to arrive after all.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// The table of the tests.
pub(crate) const TABLE: &str = "cais";

/// Docker's default network.
pub(crate) fn network() -> Network {
    Network {
        name: String::from("bridge"),
        bridge: String::from("cais0"),
        subnet: "172.17.0.0/16".parse().unwrap(),
        gateway: Ipv4Addr::new(172, 17, 0, 1),
        mtu: None,
        range: None,
        internal: false,
        v6: None,
        reserved: BTreeMap::new(),
        stacked: None,
    }
}

/// Docker's default network, with IPv6.
pub(crate) fn dual_network() -> Network {
    let subnet = "fd00:17::/64".parse().unwrap();
    let gateway = "fd00:17::1".parse().unwrap();
    Network { v6: Some(NetworkV6 { subnet, gateway, range: None }), ..network() }
}

/// A network that nothing leads out of.
pub(crate) fn internal_network() -> Network {
    Network { name: String::from("internal"), internal: true, ..other_network() }
}

/// A second network.
pub(crate) fn other_network() -> Network {
    Network {
        name: String::from("other"),
        bridge: String::from("cais1"),
        subnet: "172.18.0.0/16".parse().unwrap(),
        gateway: Ipv4Addr::new(172, 18, 0, 1),
        mtu: Some(1400),
        range: None,
        internal: false,
        v6: None,
        reserved: BTreeMap::new(),
        stacked: None,
    }
}

/// Runs a test on a host of its own: a thread in a fresh network namespace, loopback up.
pub(crate) fn on_host<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        unshare(UnshareFlags::NEWNET);
        ip("link set lo up");
        test()
    })
}

fn in_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

#[expect(deprecated, reason = "its successor is unsafe for the flags that are not used here")]
fn unshare(namespaces: UnshareFlags) {
    rustix::thread::unshare(namespaces).unwrap();
}

/// Mounts the kernel's settings read-only, for the calling thread.
pub(crate) fn make_settings_read_only() {
    unshare(UnshareFlags::NEWNS);
    for arguments in
        ["--make-rprivate /", "--bind /proc/sys /proc/sys", "-o remount,bind,ro /proc/sys"]
    {
        command("mount", arguments);
    }
}

/// A network namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// An empty one.
    pub(crate) fn new() -> Namespace {
        in_thread(|| {
            unshare(UnshareFlags::NEWNET);
            Namespace::current()
        })
    }

    /// The calling thread's.
    pub(crate) fn current() -> Namespace {
        Namespace(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// The process's.
    pub(crate) fn of(process: u32) -> Namespace {
        Namespace(File::open(format!("/proc/{process}/ns/net")).unwrap())
    }

    /// Runs something inside it.
    pub(crate) fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        in_thread(|| {
            move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            run()
        })
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.run(|| ip(arguments))
    }

    /// Listens inside it.
    pub(crate) fn listen(&self, address: impl Into<IpAddr>) -> Listener {
        let address = address.into();
        self.run(|| Listener(TcpListener::bind((address, 0)).unwrap()))
    }

    /// Says a word from inside it to the listener, who says which address it came from.
    pub(crate) fn converse(&self, listener: &Listener) -> IpAddr {
        let mut client = self.run(|| connect(listener.address(), DEADLINE)).unwrap();
        client.write_all(b"ahoy").unwrap();
        let (mut server, peer) = listener.accept();
        let mut word = [0; 4];
        server.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ahoy");
        peer.ip()
    }

    /// As [`Namespace::converse`], by another address that leads to the listener.
    pub(crate) fn converse_by(&self, address: SocketAddr, listener: &Listener) -> IpAddr {
        let mut client = self.run(|| connect(address, DEADLINE)).unwrap();
        client.write_all(b"ahoy").unwrap();
        let (mut server, peer) = listener.accept();
        let mut word = [0; 4];
        server.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ahoy");
        server.write_all(b"yoha").unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"yoha");
        peer.ip()
    }

    /// Demands that somebody accepts at the address, or that nobody does.
    #[track_caller]
    pub(crate) fn expect_address(&self, address: SocketAddr, expected: bool) {
        // What must work may take its time.
        let patience = if expected { DEADLINE } else { PATIENCE };
        let reached = self.run(|| connect(address, patience));
        assert_eq!(reached.is_ok(), expected, "{address}: {reached:?}");
    }

    /// Demands that the listener can be reached from inside it, or that it cannot.
    #[track_caller]
    pub(crate) fn expect(&self, listener: &Listener, expected: bool) {
        self.expect_address(listener.address(), expected);
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn connect(address: SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, timeout)
}

/// A listener in some namespace.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        assert_eq!(poll(&mut ready, Some(&deadline)).unwrap(), 1, "nobody came");
        let (stream, peer) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        (stream, peer)
    }
}

/// A container: a network namespace attached to a network as host `number` of its subnet.
pub(crate) fn container(network: &Network, number: u8) -> (Namespace, Endpoint) {
    let namespace = Namespace::new();
    let endpoint = endpoint(network, number);
    net::attach(network, namespace.as_fd(), &endpoint).unwrap();
    (namespace, endpoint)
}

pub(crate) fn endpoint(network: &Network, number: u8) -> Endpoint {
    let [a, b, c, _] = network.subnet.address().octets();
    let address = Ipv4Addr::new(a, b, c, number);
    let endpoint = Endpoint::new(network, address, &format!("container-{number}"));
    match network.v6 {
        None => endpoint,
        Some(v6) => {
            let bits = v6.subnet.address().to_bits() | u128::from(number);
            endpoint.with_v6(network, Ipv6Addr::from_bits(bits))
        }
    }
}

/// A neighbour of the host: a third namespace behind the host's uplink, which it routes through.
pub(crate) struct Neighbour {
    pub(crate) namespace: Namespace,
}

impl Neighbour {
    /// The host's address on the uplink.
    pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    pub(crate) const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    /// Connects one to the calling thread's host.
    pub(crate) fn new() -> Neighbour {
        let namespace = Namespace::new();
        // `ip` takes a path for a namespace, and our descriptors have one while we live.
        let fd = namespace.0.as_raw_fd();
        let path = format!("/proc/{}/fd/{fd}", std::process::id());
        ip(&format!("link add far type veth peer name uplink netns {path}"));
        ip("addr add 192.0.2.1/24 dev far");
        ip("link set far up");
        namespace.ip("addr add 192.0.2.2/24 dev uplink");
        namespace.ip("link set uplink up");
        namespace.ip("route add default via 192.0.2.1");
        ip("addr add 2001:db8::1/64 dev far nodad");
        namespace.ip("addr add 2001:db8::2/64 dev uplink nodad");
        namespace.ip("-6 route add default via 2001:db8::1");
        Neighbour { namespace }
    }
}

/// A conversation with `at` over UDP from inside `client`, answered by `server`: which address the
/// question came from, and the answer.
pub(crate) fn exchange(client: &Namespace, server: &UdpSocket, at: SocketAddr) -> IpAddr {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asking = client.run(|| UdpSocket::bind((any, 0)).unwrap());
    asking.set_read_timeout(Some(DEADLINE)).unwrap();
    client.run(|| asking.send_to(b"ahoy", at)).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut word = [0; 4];
    let (_, peer) = server.recv_from(&mut word).unwrap();
    server.send_to(b"yoha", peer).unwrap();
    let (_, from) = asking.recv_from(&mut word).unwrap();
    assert_eq!((from, &word), (at, b"yoha"));
    peer.ip()
}

/// Runs `ip` in the calling thread's namespace.
pub(crate) fn ip(arguments: &str) -> String {
    command("ip", arguments)
}

/// Runs many lines of `ip` in the calling thread's namespace.
pub(crate) fn ip_batch(lines: &str) {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

/// Runs `nft` in the calling thread's namespace.
pub(crate) fn nft(arguments: &str) -> String {
    command("nft", arguments)
}

fn command(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
