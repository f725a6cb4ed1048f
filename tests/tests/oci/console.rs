//! Terminals.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Oci;

/// Takes the descriptor that is sent to the next client of `listener`.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (client, _) = listener.accept().expect("somebody connects");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(&client, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .expect("a message arrives");
    assert!(received.bytes > 0, "the descriptor has a name");
    let found = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    found.expect("a descriptor is sent")
}

/// What is read from a terminal until nobody has its other end.
fn read_all(master: &OwnedFd) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 1024]);
    while let Ok(length) = rustix::io::read(master, &mut bytes[..]) {
        text.extend_from_slice(&bytes[..length]);
    }
    String::from_utf8(text).expect("a terminal carries text")
}

#[test]
fn the_master_is_sent_to_who_listens() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "tty; stty size; sleep 1000"], |config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = serde_json::json!({ "height": 33, "width": 99 });
    });
    let listener = UnixListener::bind(oci.path("socket")).unwrap();
    let create = oci.start_detached("create --bundle a --console-socket socket a");
    let master = receive(&listener);
    let _ = create.finish().ok();
    let _ = oci.line("start a").ok();
    let exec = oci.start_detached("exec --tty --detach --console-socket socket a tty");
    let other = receive(&listener);
    let _ = exec.finish().ok();
    assert_eq!(read_all(&other), "/dev/pts/1\r\n");
    oci.delete("a");
    assert_eq!(read_all(&master), "/dev/pts/0\r\n33 99\r\n");

    oci.line("create --bundle a a").code(1).says("cannot allocate tty if runc will detach");
    oci.line("run --bundle a --console-socket socket a").code(1).says("cannot use console socket");
}

#[test]
fn a_process_is_sent_to_who_listens() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    let listener = UnixListener::bind(oci.path("socket")).unwrap();
    let create = oci.start_detached("create --bundle a --pidfd-socket socket a");
    let pidfd = receive(&listener);
    let _ = create.finish().ok();
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    oci.wait_for_status("a", "stopped");
    oci.delete("a");
}

#[test]
fn the_foreground_has_the_terminal_of_who_called() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "stty size; read x; echo got $x; stty size"], |config| {
        config["process"]["terminal"] = true.into();
    });
    let words = ["oci", "--root", "state", "run", "--bundle", "a", "a"];
    let mut running = oci.sandbox.start_on_terminal(words, (80, 24));
    running.wait_for("24 80");
    running.resize(100, 50);
    // What is typed comes after the change: both pass through the same process in order.
    running.wait_for("24 80");
    running.write("word\r");
    running.wait_for("got word");
    let outcome = running.finish();
    outcome.code(0);
}
