//! Both ends, on a pair of sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::frame::{self, Frame, flag, kind};
use crate::proto::{Message, Value, fields};
use crate::{Code, Connection, Status, Stream, unknown};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client, whose calls are answered by `answer`, each in a thread.
fn pair(answer: fn(&Stream) -> Result<(), Status>) -> (Connection, Connection) {
    let (left, right) = UnixStream::pair().unwrap();
    (start(Connection::client().unwrap(), left, answer), serve(right, answer))
}

fn serve(socket: UnixStream, answer: fn(&Stream) -> Result<(), Status>) -> Connection {
    start(Connection::server().unwrap(), socket, answer)
}

fn start(
    connection: Connection,
    mut socket: UnixStream,
    answer: fn(&Stream) -> Result<(), Status>,
) -> Connection {
    let own = connection.clone();
    thread::spawn(move || {
        own.run(&mut socket, &|_| false, &|stream| {
            thread::spawn(move || {
                let outcome = answer(&stream);
                stream.finish(&outcome);
            });
        });
    });
    connection
}

fn text(message: &[u8]) -> String {
    fields(message).map(|field| field.unwrap().1.text()).collect()
}

/// What the server of these tests does.
fn answer(stream: &Stream) -> Result<(), Status> {
    match stream.path().as_str() {
        "/t/Echo" => {
            while let Some(message) = stream.receive()? {
                let said = stream.metadata("prefix").unwrap_or_default() + &text(&message);
                stream.send(&Message::new().text(1, &said))?;
            }
            Ok(())
        }
        "/t/Fail" => Err(Status::new(Code::NotFound, "there is no `ü`")),
        "/t/Wait" => stream.wait_for(&mut || None::<()>),
        path => Err(unknown(path)),
    }
}

#[test]
fn calls_are_answered() {
    let (client, _server) = pair(answer);
    let answer = client.ask("/t/Echo", &Message::new().text(1, "hello")).unwrap();
    assert_eq!(text(&answer), "hello");
    let failed = client.ask("/t/Fail", &Message::new());
    assert_eq!(failed, Err(Status::new(Code::NotFound, "there is no `ü`")));
    let failed = client.ask("/a.B/Nothing", &Message::new()).unwrap_err();
    assert_eq!(failed.code, Code::Unimplemented);
    assert_eq!(failed.message, "unknown method Nothing for service a.B");
}

#[test]
fn messages_go_both_ways_at_once_beyond_every_window() {
    let (client, _server) = pair(answer);
    let stream = client.call("/t/Echo", &[("prefix", "> ")]).unwrap();
    let long = "x".repeat(1_000_000);
    let count = 20;
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..count {
                stream.send(&Message::new().text(1, &long)).unwrap();
            }
            stream.end().unwrap();
        });
        for _ in 0..count {
            assert_eq!(text(&stream.receive().unwrap().unwrap()).len(), long.len() + 2);
        }
        assert_eq!(stream.receive(), Ok(None));
    });
}

#[test]
fn many_calls_share_a_connection() {
    let (client, _server) = pair(answer);
    thread::scope(|scope| {
        for number in 0..40 {
            let client = &client;
            scope.spawn(move || {
                let said = format!("{number}:").repeat(5000);
                let answer = client.ask("/t/Echo", &Message::new().text(1, &said)).unwrap();
                assert_eq!(text(&answer), said);
            });
        }
    });
}

#[test]
fn whoever_waits_hears_that_the_other_side_has_gone() {
    let (client, server) = pair(answer);
    let stream = client.call("/t/Wait", &[]).unwrap();
    stream.end().unwrap();
    server.close();
    assert_eq!(stream.receive().unwrap_err().code, Code::Unavailable);
    assert_eq!(client.ask("/t/Echo", &Message::new()).unwrap_err().code, Code::Unavailable);
}

#[test]
fn a_call_that_is_dropped_is_given_up() {
    let (left, right) = UnixStream::pair().unwrap();
    let client = start(Connection::client().unwrap(), left, answer);
    let (tell, told) = std::sync::mpsc::channel();
    let server = Connection::server().unwrap();
    let own = server.clone();
    thread::spawn(move || {
        let mut right = right;
        own.run(&mut right, &|_| false, &|stream| {
            let tell = tell.clone();
            thread::spawn(move || {
                tell.send(None).unwrap();
                let waited = stream.wait_for(&mut || None::<()>);
                assert!(stream.is_given_up());
                tell.send(waited.err().map(|status| status.code)).unwrap();
            });
        });
    });
    let stream = client.call("/t/Wait", &[]).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(None));
    drop(stream);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(Code::Cancelled)));
    drop(server);
}

/// What a server says to these bytes, until it hangs up.
fn said_to(bytes: &[u8]) -> Vec<Frame> {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let _server = serve(server, answer);
    client.write_all(bytes).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = Frame::take(&mut said).unwrap() {
        frames.push(frame);
    }
    frames
}

#[test]
fn who_breaks_the_rules_is_hung_up_on() {
    let bad = |kind, flags, stream, content: &[u8]| {
        let mut bytes = frame::PREFACE.to_vec();
        frame::put(&mut bytes, kind, flags, stream, content);
        said_to(&bytes).iter().any(|frame| frame.kind == kind::GO_AWAY)
    };
    assert!(said_to(b"GET / HTTP/1.1\r\n\r\n").iter().any(|frame| frame.kind == kind::GO_AWAY));
    assert!(bad(kind::DATA, 0, 1, b"x"), "data of no call");
    assert!(bad(kind::HEADERS, flag::END_HEADERS, 2, b"\x82"), "a call with our numbers");
    assert!(bad(kind::HEADERS, flag::END_HEADERS, 1, b"\xff"), "no such field");
    assert!(bad(kind::CONTINUATION, flag::END_HEADERS, 1, b""), "more of nothing");
    assert!(bad(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), "nothing more");
    assert!(bad(kind::SETTINGS, 0, 0, b"12345"), "half a setting");
    assert!(bad(kind::PUSH_PROMISE, 0, 1, b""), "a promise");
    assert!(!bad(kind::PING, 0, 0, b"12345678"), "a question");
    assert!(!bad(99, 0, 0, b"anything"), "what nobody knows");
}

#[test]
fn a_ping_is_answered() {
    let mut bytes = frame::PREFACE.to_vec();
    frame::put(&mut bytes, kind::PING, 0, 0, b"12345678");
    frame::put(&mut bytes, kind::GO_AWAY, 0, 0, &[0; 8]);
    // What comes behind a connection that is half closed may or may not be answered: it is asked on
    // one that is not.
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let _server = serve(server, answer);
    client.write_all(&bytes).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = client.read(&mut buffer).unwrap();
        assert!(length > 0, "hung up on");
        said.extend_from_slice(&buffer[..length]);
        while let Some(frame) = Frame::take(&mut said).unwrap() {
            if frame.kind == kind::PING {
                assert_eq!((frame.flags, &frame.content[..]), (flag::ACK, &b"12345678"[..]));
                return;
            }
        }
    }
}

#[test]
fn values_have_their_kinds() {
    assert_eq!(Value::Number(7).bytes(), b"");
    assert_eq!(Value::Bytes(b"x").number(), 0);
}

proptest::proptest! {
    /// Whatever comes, nothing breaks, and nothing grows beyond its limits.
    #[test]
    fn nothing_breaks_the_state(
        frames in proptest::collection::vec(
            (0_u8..12, proptest::num::u8::ANY, 0_u32..6, proptest::collection::vec(0_u8.., 0..60)),
            0..40,
        ),
    ) {
        let mut state = crate::state::State::new(crate::state::End::Server);
        state.receive(frame::PREFACE);
        for (kind, flags, stream, content) in frames {
            let mut bytes = Vec::new();
            frame::put(&mut bytes, kind, flags, stream, &content);
            state.receive(&bytes);
        }
    }
}
