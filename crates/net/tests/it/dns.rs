//! Where a container's questions arrive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use super::host::{DEADLINE, Namespace};

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

#[test]
fn questions_arrive_and_port_53_stays_free() {
    let container = Namespace::new();
    net::loopback_up(container.as_fd()).unwrap();
    let listeners = net::dns::listen(container.as_fd(), SERVER).unwrap();
    let (udp, tcp) = (UdpSocket::from(listeners.udp), TcpListener::from(listeners.tcp));
    udp.set_nonblocking(false).unwrap();
    tcp.set_nonblocking(false).unwrap();
    udp.set_read_timeout(Some(DEADLINE)).unwrap();
    let own = container.run(|| {
        let any = (Ipv4Addr::UNSPECIFIED, 53);
        (UdpSocket::bind(any).unwrap(), TcpListener::bind(any).unwrap())
    });

    let asking = container.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    asking.set_read_timeout(Some(DEADLINE)).unwrap();
    asking.connect((SERVER, 53)).unwrap();
    asking.send(b"who").unwrap();
    let mut word = [0; 3];
    let (_, from) = udp.recv_from(&mut word).unwrap();
    udp.send_to(b"you", from).unwrap();
    // A connected socket takes nothing from another address or port.
    assert_eq!((asking.recv(&mut word).unwrap(), &word), (3, b"you"));

    let mut asking = container.run(|| TcpStream::connect((SERVER, 53)).unwrap());
    asking.write_all(b"who").unwrap();
    tcp.accept().unwrap().0.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"who");

    // A name server of the container's own is reached by every other address.
    let asking = container.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    asking.send_to(b"own", (Ipv4Addr::LOCALHOST, 53)).unwrap();
    own.0.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!((own.0.recv(&mut word).unwrap(), &word), (3, b"own"));
}
