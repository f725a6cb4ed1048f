//! A registry in this process that takes pushes, and may be made to fail at them.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use oci::Digest;

/// What it does besides what it should.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vices {
    /// Break the connection after so many bytes of the first body that is longer, keeping those.
    pub(crate) cut: Option<usize>,
    /// Forget the upload when that happens.
    pub(crate) forgets: bool,
    /// Refuse longer bodies.
    pub(crate) body_max: Option<usize>,
    /// Open an upload instead of mounting.
    pub(crate) mounts_nothing: bool,
    /// Answer so many requests that change something with 503 first.
    pub(crate) fails: usize,
    /// Want a token that only this server's token service gives.
    pub(crate) wants_token: bool,
    /// Say that a manifest has another digest than it has.
    pub(crate) lies: bool,
    /// Keep silent about an upload that is complete.
    pub(crate) loses_answer: bool,
}

/// What it has.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// By repository and digest.
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    /// Each request: method, path, and bytes of its body.
    pub(crate) heard: Vec<(String, String, usize)>,
    pub(crate) vices: Vices,
}

/// The server; ends with its value.
pub(crate) struct Taker {
    address: SocketAddr,
    pub(crate) content: Arc<Mutex<Content>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Taker {
    pub(crate) fn new(vices: Vices) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Mutex::new(Content { vices, ..Content::default() }));
        let ended = Arc::new(AtomicBool::new(false));
        let (inner, end) = (content.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, content) = (stream.unwrap(), inner.clone());
                connections.push(std::thread::spawn(move || drop(converse(&stream, &content))));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self { address, content, ended, thread: Some(thread) }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The bodies' bytes of the requests that `method` made.
    pub(crate) fn bytes(&self, method: &str) -> usize {
        let content = self.content.lock().unwrap();
        content.heard.iter().filter(|(m, ..)| m == method).map(|(.., bytes)| bytes).sum()
    }

    pub(crate) fn heard(&self) -> Vec<(String, String, usize)> {
        self.content.lock().unwrap().heard.clone()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Asked {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    length: usize,
}

fn converse(stream: &TcpStream, content: &Mutex<Content>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream);
    let mut first = [0];
    stream.peek(&mut first)?;
    if first[0] == 0x16 {
        return (&*stream).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nthis is an HTTP server");
    }
    let asked = head(&mut from)?;
    let cut = content.lock().unwrap().vices.cut.filter(|cut| asked.length > *cut);
    let mut body = vec![0; cut.unwrap_or(asked.length)];
    from.read_exact(&mut body)?;
    let mut content = content.lock().unwrap();
    let scope = asked.query.get("scope").map(|scope| format!("?scope={scope}"));
    let path = asked.path.clone() + &scope.unwrap_or_default();
    content.heard.push((asked.method.clone(), path, body.len()));
    if cut.is_some() {
        content.vices.cut = None;
        let upload = asked.path.rsplit('/').next().unwrap().to_owned();
        content.uploads.get_mut(&upload).unwrap().extend(body);
        if content.vices.forgets {
            content.uploads.clear();
        }
        // Unread bytes make the kernel reset the connection.
        return Ok(());
    }
    let (status, headers, answer) = reply(&mut content, &asked, &body);
    if status == 0 {
        return Ok(());
    }
    let mut text = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !text.contains("Content-Length") {
        text += &format!("Content-Length: {}\r\n", answer.len());
    }
    (&*stream).write_all(format!("{text}\r\n").as_bytes())?;
    if asked.method != "HEAD" {
        (&*stream).write_all(&answer)?;
    }
    Ok(())
}

fn head(from: &mut impl BufRead) -> std::io::Result<Asked> {
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
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let query = query.split('&').map(pair).collect();
    Ok(Asked { method, path: path.to_owned(), query, headers, length })
}

type Reply = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn refuse(status: u16, code: &str) -> Reply {
    (status, Vec::new(), format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#).into_bytes())
}

fn reply(content: &mut Content, asked: &Asked, body: &[u8]) -> Reply {
    if asked.path == "/token" {
        return (200, Vec::new(), br#"{"token":"good"}"#.to_vec());
    }
    let known = asked.headers.get("authorization").map(String::as_str) == Some("Bearer good");
    if content.vices.wants_token && !known {
        let host = &asked.headers["host"];
        let offer = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        return (401, vec![("WWW-Authenticate", offer)], Vec::new());
    }
    if asked.method != "HEAD" && content.vices.fails > 0 {
        content.vices.fails -= 1;
        return refuse(503, "UNAVAILABLE");
    }
    if content.vices.body_max.is_some_and(|max| body.len() > max) {
        return refuse(413, "SIZE_INVALID");
    }
    let rest = asked.path.strip_prefix("/v2/").unwrap();
    match (rest.split_once("/blobs/"), rest.split_once("/manifests/")) {
        (Some((repository, rest)), _) => blob(content, asked, (repository, rest), body),
        (_, Some((repository, name))) => {
            let digest = Digest::of(body).to_string();
            let kind = asked.headers["content-type"].clone();
            for name in [name.to_owned(), digest.clone()] {
                let key = (repository.to_owned(), name);
                content.manifests.insert(key, (kind.clone(), body.to_vec()));
            }
            let said = if content.vices.lies { Digest::of(b"lie").to_string() } else { digest };
            (201, vec![("Docker-Content-Digest", said)], Vec::new())
        }
        _ => refuse(404, "NAME_UNKNOWN"),
    }
}

fn blob(content: &mut Content, asked: &Asked, at: (&str, &str), body: &[u8]) -> Reply {
    let (repository, rest) = at;
    let key = |name: &str| (repository.to_owned(), name.to_owned());
    let Some(upload) = rest.strip_prefix("uploads/") else {
        return match content.blobs.get(&key(rest)) {
            Some(blob) => (200, vec![("Content-Length", blob.len().to_string())], blob.clone()),
            None => refuse(404, "BLOB_UNKNOWN"),
        };
    };
    let place = |id: &str| ("Location", format!("/v2/{repository}/blobs/uploads/{id}?state=x"));
    if asked.method == "POST" {
        if let (Some(digest), Some(from)) = (asked.query.get("mount"), asked.query.get("from")) {
            let there = content.blobs.get(&(from.clone(), digest.clone())).cloned();
            if let Some(there) = there.filter(|_| !content.vices.mounts_nothing) {
                content.blobs.insert(key(digest), there);
                return (201, Vec::new(), Vec::new());
            }
        }
        let id = format!("u{}", content.heard.len());
        content.uploads.insert(id.clone(), Vec::new());
        return (202, vec![place(&id)], Vec::new());
    }
    let Some(held) = content.uploads.get_mut(upload) else {
        return refuse(404, "BLOB_UPLOAD_UNKNOWN");
    };
    if asked.query.get("state").map(String::as_str) != Some("x") {
        return refuse(400, "BLOB_UPLOAD_INVALID");
    }
    if let Some(range) = asked.headers.get("content-range") {
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first != held.len() || last + 1 - first != body.len() {
            return refuse(416, "RANGE");
        }
    }
    held.extend(body);
    let range = ("Range", format!("0-{}", held.len().saturating_sub(1)));
    match asked.method.as_str() {
        "GET" => (204, vec![place(upload), range], Vec::new()),
        "PATCH" => (202, vec![place(upload), range], Vec::new()),
        _ => {
            let held = content.uploads.remove(upload).unwrap();
            let digest = &asked.query["digest"];
            if Digest::of(&held).to_string() != *digest {
                return refuse(400, "DIGEST_INVALID");
            }
            content.blobs.insert(key(digest), held);
            let lost = std::mem::take(&mut content.vices.loses_answer);
            if lost { (0, Vec::new(), Vec::new()) } else { (201, Vec::new(), Vec::new()) }
        }
    }
}
