//! A registry in this process that says whatever a test wants it to.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Send the body without saying how long it is.
    pub(crate) chunked: bool,
    /// The length to announce, where it is not the body's.
    pub(crate) claimed: Option<usize>,
    /// Break off after this many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Keep silent instead of ending the connection, until the client ends it.
    pub(crate) hang: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            chunked: false,
            claimed: None,
            cut: None,
            hang: false,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn send(&self, to: &mut TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.chunked {
            head += "Transfer-Encoding: chunked\r\n\r\n";
        } else {
            let length = self.claimed.unwrap_or(self.body.len());
            head += &format!("Content-Length: {length}\r\n\r\n");
        }
        to.write_all(head.as_bytes())?;
        let body = &self.body[..self.cut.unwrap_or(self.body.len())];
        if self.chunked {
            for chunk in body.chunks(1000) {
                to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                to.write_all(chunk)?;
                to.write_all(b"\r\n")?;
            }
            if self.cut.is_none() {
                to.write_all(b"0\r\n\r\n")?;
            }
        } else {
            to.write_all(body)?;
        }
        if self.hang {
            to.set_read_timeout(Some(Duration::from_secs(60)))?;
            let _ = to.read(&mut [0]);
        }
        Ok(())
    }
}

/// Content by path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site(HashMap<String, (String, Vec<u8>)>);

impl Site {
    pub(crate) fn put(&mut self, path: &str, media_type: &str, bytes: &[u8]) {
        self.0.insert(path.to_owned(), (media_type.to_owned(), bytes.to_owned()));
    }

    /// What an honest registry answers; it knows ranges.
    pub(crate) fn reply(&self, request: &Request) -> Reply {
        let Some((media_type, bytes)) = self.0.get(&request.path) else {
            return Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#);
        };
        let from = request
            .header("range")
            .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap());
        let reply = match from.map(|from| from.parse::<usize>().unwrap()) {
            None => Reply::new(200, bytes.clone()),
            Some(from) if from >= bytes.len() => Reply::new(416, ""),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &bytes[from..]).with("Content-Range", range)
            }
        };
        reply.with("Content-Type", media_type)
    }
}

type Twist = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;

/// The server; ends with its value.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Serves `site`.
    pub(crate) fn honest(site: Site) -> Self {
        Self::start(site, |_, _| None)
    }

    /// Serves `site`, unless `twist` has another answer; it is told how many requests for the
    /// same path there were before.
    pub(crate) fn start(
        site: Site,
        twist: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let parts = (Arc::new(site), Arc::new(twist) as Arc<Twist>, heard.clone());
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || accept(&listener, &ended, &parts)
        });
        Self { address, heard, ended, thread: Some(thread) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub(crate) fn heard(&self) -> Vec<Request> {
        self.heard.lock().unwrap().clone()
    }

    /// The requests for paths that contain `part`.
    pub(crate) fn heard_of(&self, part: &str) -> Vec<Request> {
        self.heard().into_iter().filter(|request| request.path.contains(part)).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

type Parts = (Arc<Site>, Arc<Twist>, Arc<Mutex<Vec<Request>>>);

fn accept(listener: &TcpListener, ended: &AtomicBool, parts: &Parts) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        let (stream, parts) = (stream.unwrap(), parts.clone());
        connections.push(std::thread::spawn(move || drop(converse(stream, &parts))));
    }
    for connection in connections {
        connection.join().unwrap();
    }
}

fn converse(mut stream: TcpStream, (site, twist, heard): &Parts) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut first = [0];
    stream.peek(&mut first)?;
    if first[0] == 0x16 {
        // The greeting of TLS; Go's servers answer it so.
        let _ = stream.read(&mut [0; 4096])?;
        return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nthis is an HTTP server");
    }
    let mut request = read(&mut BufReader::new(&stream))?;
    if request.method == "CONNECT" {
        // As a proxy, it is every server itself.
        heard.lock().unwrap().push(request);
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        request = read(&mut BufReader::new(&stream))?;
    }
    let before = {
        let mut heard = heard.lock().unwrap();
        let before = heard.iter().filter(|r| r.path == request.path).count();
        heard.push(request.clone());
        before
    };
    twist(&request, before).unwrap_or_else(|| site.reply(&request)).send(&mut stream)
}

fn read(from: &mut impl BufRead) -> std::io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body: String::from_utf8(body).unwrap() })
}
