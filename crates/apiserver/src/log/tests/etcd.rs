//! A server of etcd that the tests start, kill and start again.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};

use super::{below, keys, since, write};
use crate::log::{Entry, Etcd, EtcdOptions, Event, Log, LogError, Page, Range, Revision, Write};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(120);

/// How a server is spoken with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Plainly,
    /// Over TLS, with those alone that have a certificate.
    Secretly,
}

/// A server, with what it keeps.
pub(super) struct Server {
    directory: tempfile::TempDir,
    speaks: Speaks,
    port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Server {
    pub(super) fn start(speaks: Speaks) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certify(directory.path());
        let mut server = Self { directory, speaks, port: 0, peer_port: 0, process: None };
        // Ports that are free may be taken before they are listened on.
        let begun = Instant::now();
        while !server.run() {
            assert!(begun.elapsed() < LONGEST, "etcd does not start");
        }
        server
    }

    fn url(&self) -> String {
        let scheme = if self.speaks == Speaks::Secretly { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it, at new ports if it had none: whether it answers.
    fn run(&mut self) -> bool {
        if self.port == 0 {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            (self.port, self.peer_port) = (free(), free());
        }
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("etcd");
        command
            .args(["--name", "one", "--log-level", "error", "--data-dir"])
            .arg(self.file("data"))
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            // The longest value, and what goes with it.
            .args(["--max-request-bytes", "2097152"]);
        if self.speaks == Speaks::Secretly {
            command.args(["--client-cert-auth", "--trusted-ca-file"]).arg(self.file("ca.crt"));
            command.arg("--cert-file").arg(self.file("own.crt"));
            command.arg("--key-file").arg(self.file("own.key"));
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).process_group(0);
        let process = command.spawn().expect("etcd is installed; hint: ./test installs it");
        self.process = Some(process);
        let begun = Instant::now();
        while Etcd::open(&self.options()).is_err() {
            let process = self.process.as_mut().expect("it was started");
            if process.try_wait().unwrap().is_some() {
                (self.process, self.port) = (None, 0);
                return false;
            }
            assert!(begun.elapsed() < LONGEST, "etcd does not answer");
        }
        true
    }

    /// Kills it, as a failure of its machine would.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn options(&self) -> EtcdOptions {
        let is_secret = self.speaks == Speaks::Secretly;
        EtcdOptions {
            servers: vec![self.url()],
            authorities: is_secret.then(|| self.file("ca.crt")),
            identity: is_secret.then(|| (self.file("own.crt"), self.file("own.key"))),
            prefix: "/registry".to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An authority, and one certificate for whoever needs one.
fn certify(directory: &Path) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    own.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let text = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let put = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    put("ca.crt", text);
    put("own.crt", own.signed_by(&key, &issuer).unwrap().pem());
    put("own.key", key.serialize_pem());
}

/// The log with revisions that begin with 1, as those of the others do: etcd has one from the start.
#[derive(Debug)]
pub(super) struct FromZero {
    log: Etcd,
    first: Revision,
}

impl FromZero {
    pub(super) fn open(server: &Server) -> Self {
        let log = Etcd::open(&server.options()).unwrap();
        let first = log.get("").1;
        Self { log, first }
    }

    fn entry(&self, entry: Entry) -> Entry {
        Entry {
            created: entry.created - self.first,
            modified: entry.modified - self.first,
            ..entry
        }
    }

    fn event(&self, event: Event) -> Event {
        Event {
            revision: event.revision - self.first,
            now: event.now.map(|entry| self.entry(entry)),
            before: event.before.map(|entry| self.entry(entry)),
        }
    }

    fn error(&self, error: LogError) -> LogError {
        match error {
            LogError::Conflict(found) => LogError::Conflict(found.map(|entry| self.entry(entry))),
            LogError::Compacted(revision) => LogError::Compacted(revision - self.first),
            LogError::Future(revision) => LogError::Future(revision - self.first),
            other => other,
        }
    }
}

impl Log for FromZero {
    fn write(&self, write: Write) -> Result<Revision, LogError> {
        let expected = write.expected.map(|revision| revision + self.first);
        let done = self.log.write(Write { expected, ..write });
        done.map(|revision| revision - self.first).map_err(|error| self.error(error))
    }

    fn get(&self, key: &str) -> (Option<Entry>, Revision) {
        let (entry, revision) = self.log.get(key);
        (entry.map(|entry| self.entry(entry)), revision - self.first)
    }

    fn range(&self, range: Range<'_>) -> Result<Page, LogError> {
        let at = range.at.map(|revision| revision + self.first);
        let page = self.log.range(Range { at, ..range }).map_err(|error| self.error(error))?;
        let entries = page.entries.into_iter().map(|entry| self.entry(entry)).collect();
        Ok(Page { entries, revision: page.revision - self.first, ..page })
    }

    fn events(
        &self,
        prefix: &str,
        after: Revision,
        longest: Duration,
    ) -> Result<(Vec<Event>, Revision), LogError> {
        let events = self.log.events(prefix, after + self.first, longest);
        let (events, seen) = events.map_err(|error| self.error(error))?;
        let events = events.into_iter().map(|event| self.event(event)).collect();
        Ok((events, seen - self.first))
    }

    fn compact(&self, until: Revision) {
        self.log.compact(until + self.first);
    }
}

#[test]
fn a_watch_goes_on_when_the_server_is_killed_and_comes_back() {
    let mut server = Server::start(Speaks::Secretly);
    let log = FromZero::open(&server);
    assert_eq!(write(&log, "/a", None, "1").unwrap(), 1);
    for round in 1..=3 {
        let revision = log.get("").1;
        server.kill();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.events("/a", revision, LONGEST).unwrap());
            assert!(server.run(), "etcd comes back at its port");
            let written = write(&log, "/a", Some(round), "x").unwrap();
            let (events, seen) = waiting.join().unwrap();
            assert_eq!((events.len(), events[0].revision, seen), (1, written, written));
        });
    }
    let all: Vec<_> = since(&log, "", 0).iter().map(|event| event.revision).collect();
    assert_eq!(all, [1, 2, 3, 4]);
    // Whoever comes anew finds the same.
    let other = Etcd::open(&server.options()).unwrap();
    let (entry, revision) = other.get("/a");
    let entry = entry.unwrap();
    assert_eq!((&*entry.value, entry.modified, revision), (&b"x"[..], 5, 5));
}

#[test]
fn what_one_server_writes_another_one_sees() {
    let server = Server::start(Speaks::Plainly);
    let (one, other) = (FromZero::open(&server), FromZero::open(&server));
    let written = write(&one, "/a", None, "1").unwrap();
    let (events, _) = other.events("/", 0, LONGEST).unwrap();
    assert_eq!((events.len(), events[0].revision), (1, written));
    let _ = write(&other, "/a", Some(written), "2").unwrap();
    assert!(matches!(write(&one, "/a", Some(written), "3"), Err(LogError::Conflict(Some(_)))));
    assert_eq!(&*one.get("/a").0.unwrap().value, b"2");
    assert_eq!(keys(&one, below("/")), ["/a"]);
}

#[test]
fn servers_that_are_none_are_told() {
    for (url, words) in [
        ("ftp://a", "`ftp://a` is no URL of http or https"),
        ("http://127.0.0.1:port", "`http://127.0.0.1:port` has no valid port"),
    ] {
        let options = EtcdOptions { servers: vec![url.to_owned()], ..EtcdOptions::default() };
        let Err(LogError::Storage(why)) = Etcd::open(&options) else { panic!("{url}") };
        assert!(why.contains(words), "{why}");
    }
}
