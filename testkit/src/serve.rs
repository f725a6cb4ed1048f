//! `cais registry serve`, on a free port of this machine's loopback.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::sandbox::binary;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long a line of the log may take.
const LOG_MAX: Duration = Duration::from_secs(60);

/// Time between two looks at the log.
const POLL: Duration = Duration::from_millis(5);

/// A registry in the box. It ends with this value, or with the thread that started it; what it
/// keeps is removed then.
#[derive(Debug)]
pub struct CaisRegistry {
    process: Child,
    address: SocketAddr,
    root: PathBuf,
    arguments: Vec<String>,
    /// Removed with this value, where nobody else named it.
    directory: Option<tempfile::TempDir>,
}

impl CaisRegistry {
    /// Starts one, with further arguments and a fresh root.
    ///
    /// # Panics
    /// It does not say where it listens.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("cais-registry-").tempdir();
        let directory = directory.expect("a directory for the registry can be made");
        let root = directory.path().to_owned();
        let mut registry = Self::start_at(&root, arguments);
        registry.directory = Some(directory);
        registry
    }

    /// As [`Self::start`], with everything below `root`, which stays.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_at(root: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let (process, address) = launch(root, &arguments);
        Self { process, address, root: root.to_owned(), arguments, directory: None }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it wrote to standard error since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(&self.root)).unwrap_or_default()
    }

    /// What it wrote to standard error, once that is as `wanted`, or after a while in any case.
    #[must_use]
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LOG_MAX;
        loop {
            let log = self.log();
            if wanted(&log) || Instant::now() > deadline {
                return log;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.process), signal);
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("a child can be waited for")
    }

    /// Kills it as a loss of power would, but for the disk's own cache, and starts it again.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn kill_and_restart(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.wait();
        (self.process, self.address) = launch(&self.root, &self.arguments);
    }

    /// Runs another command of `cais` over the same root, to its end.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn cais(&self, arguments: &[&str]) -> std::process::Output {
        let output = command(&self.root).args(arguments).stdin(Stdio::null()).output();
        output.expect("cais can be started")
    }

    /// A connection.
    ///
    /// # Panics
    /// It does not listen any more.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the registry listens");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket takes a timeout");
        stream
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Panics
    /// There is no answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length = body.len().to_string();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
        let chunked = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        if !chunked && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        // A server that refuses early may stop reading.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let answer = Answer::read(&mut stream, method == "HEAD").expect("the registry answers");
        // It hangs up once the request is in its log.
        let _ = stream.read_to_end(&mut Vec::new());
        answer
    }

    /// Sends bytes as they are, then nothing more: everything that comes back.
    ///
    /// # Panics
    /// It does not listen any more.
    #[must_use]
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for CaisRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log_path(root: &Path) -> PathBuf {
    root.join("serve.log")
}

fn command(root: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).arg("--root").arg(root);
    command.arg("--run-root").arg(root.join("run")).env("CAIS_CONFIG", "/dev/null");
    command.env_remove("DOCKER_CONFIG").env("HOME", root);
    command
}

fn launch(root: &Path, arguments: &[String]) -> (Child, SocketAddr) {
    let log = File::create(log_path(root)).expect("a log can be made");
    let mut command = command(root);
    command.args(["registry", "serve"]);
    // Of two, the last one counts.
    command.args(["--addr", "127.0.0.1:0"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut process = command.spawn().expect("cais can be started");
    let mut line = String::new();
    let mut stdout = BufReader::new(process.stdout.take().expect("it was piped"));
    stdout.read_line(&mut line).expect("its output can be read");
    let address = line.trim_end().trim_end_matches('/').rsplit_once("://");
    let address = address.and_then(|(_, address)| address.parse().ok()).unwrap_or_else(|| {
        let log = fs::read_to_string(log_path(root)).unwrap_or_default();
        panic!("it does not say where it listens: {line:?}\n{log}")
    });
    // The rest of its greeting must not find a closed pipe.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    (process, address)
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads one answer, of which more may follow.
    ///
    /// # Errors
    /// The connection ends before the answer does, or it is no HTTP.
    pub fn read(stream: &mut impl Read, is_head: bool) -> std::io::Result<Self> {
        let bad = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let mut line = || -> std::io::Result<String> {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                bytes.push(byte[0]);
            }
            String::from_utf8(bytes).map_err(|_| bad()).map(|text| text.trim_end().to_owned())
        };
        let status = line()?.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
        let mut fields = Vec::new();
        loop {
            let text = line()?;
            let Some((name, value)) = text.split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Self { status, fields, body: Vec::new() };
        if is_head || matches!(status, 100 | 204 | 304) {
            return Ok(answer);
        }
        match answer.field("content-length") {
            Some(length) => {
                answer.body = vec![0; length.parse().map_err(|_| bad())?];
                stream.read_exact(&mut answer.body)?;
            }
            None => drop(stream.read_to_end(&mut answer.body)?),
        }
        Ok(answer)
    }

    /// The first header field `name`, which is in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The content as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of the first error, as distribution-spec has them; empty without one.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}
