//! Reaching into pods for whoever asks the API.

use std::io;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use engine::{Container, Conversation, Entry, Exec, LogItem, LogQuery, Purpose};

use crate::host::Node;
use crate::observe::{LABEL_CONTAINER, LABEL_NUMBER, LABEL_UID};

/// How long whoever listens in a pod has to take a connection.
const DIAL: Duration = Duration::from_secs(10);

/// Which lines of a container's log are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Whether those of the run before the last are.
    pub previous: bool,
    /// Only those since this time, RFC 3339.
    pub since: Option<String>,
    /// Only the last ones.
    pub tail: Option<usize>,
    /// Whether each begins with its time.
    pub timestamps: bool,
    /// Whether to wait for more.
    pub follow: bool,
    /// Bytes at most.
    pub bytes_max: Option<u64>,
}

/// Takes bytes until it fails.
pub type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Why a pod could not be reached into, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Whether what was asked for is not there; else it cannot be done.
    pub is_not_found: bool,
    /// In words.
    pub message: String,
}

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self { is_not_found: false, message: message.into() }
    }
}

impl Node {
    /// The last run of a pod's container, or the one before.
    fn run(&self, uid: &str, container: &str, previous: bool) -> Result<Container, Refusal> {
        let all = self.0.engine.list().map_err(|error| Refusal::bad(error.to_string()))?;
        let mut runs: Vec<Container> = all
            .into_iter()
            .filter(|one| {
                let label = |name: &str| one.record.config.labels.get(name).map(String::as_str);
                label(LABEL_UID) == Some(uid) && label(LABEL_CONTAINER) == Some(container)
            })
            .collect();
        let number = |one: &Container| {
            let label = one.record.config.labels.get(LABEL_NUMBER);
            label.and_then(|label| label.parse::<u32>().ok())
        };
        runs.sort_by_key(number);
        let last = runs.pop();
        let found = if previous { runs.pop() } else { last };
        found.ok_or_else(|| match previous {
            true => Refusal::bad(format!(
                "previous terminated container \"{container}\" in pod not found"
            )),
            false => {
                let message = format!("container \"{container}\" in pod is waiting to start");
                Refusal::bad(format!("{message}: ContainerCreating"))
            }
        })
    }

    /// Whether a container's log can be read, which is asked before an answer begins.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_log(&self, uid: &str, container: &str, previous: bool) -> Result<(), Refusal> {
        self.run(uid, container, previous).map(drop)
    }

    /// Executes a command in a pod's container, or attaches to its first process if there is none; for
    /// whoever talks with it then.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn talk(&self, uid: &str, container: &str, exec: &Exec) -> Result<Conversation, Refusal> {
        let run = self.run(uid, container, false)?;
        if !run.is_running() {
            let message = format!("container not found (\"{container}\")");
            return Err(Refusal { is_not_found: true, message });
        }
        let failed = |error: engine::Error| Refusal::bad(crate::image::chain(&error));
        let host = &self.0;
        if !exec.command.is_empty() {
            let id = host.engine.create_exec(&run, exec).map_err(failed)?;
            let begun = host.spawner.exec(&id, true).map_err(failed)?;
            return begun.ok_or_else(|| Refusal::bad("nobody to talk with"));
        }
        match host.engine.enter(&run, Purpose::TakePart).map_err(failed)? {
            Entry::Now(conversation) => Ok(conversation),
            Entry::Later(_) => Err(Refusal::bad(format!("container {container} is not running"))),
        }
    }

    /// Connects to a port that something in a pod listens on, as the pod's loopback address has it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn dial(&self, uid: &str, port: u16) -> Result<TcpStream, Refusal> {
        let all = self.0.engine.list().map_err(|error| Refusal::bad(error.to_string()))?;
        let label = |one: &Container, name: &str| {
            one.record.config.labels.get(name).cloned().unwrap_or_default()
        };
        let is_pod = |one: &Container| {
            label(one, LABEL_UID) == uid && label(one, LABEL_CONTAINER).is_empty()
        };
        let pod = all.into_iter().find(|one| is_pod(one) && one.is_running());
        let pod = pod.ok_or_else(|| Refusal {
            is_not_found: true,
            message: "the pod does not run".to_owned(),
        })?;
        let dialled = self.0.engine.dial(&pod, port, DIAL);
        dialled.map_err(|error| Refusal::bad(crate::image::chain(&error)))
    }

    /// Writes a container's log, for as long as whoever reads it is there.
    ///
    /// # Errors
    /// [`Refusal`]; a writer that takes no more is the end.
    pub fn log(
        &self,
        uid: &str,
        container: &str,
        options: &LogOptions,
        (reader, out): (Option<BorrowedFd<'_>>, Take<'_>),
    ) -> Result<(), Refusal> {
        let run = self.run(uid, container, options.previous)?;
        let query = LogQuery {
            tail: options.tail,
            since: options.since.clone(),
            until: None,
            follow: options.follow,
        };
        let mut left = options.bytes_max.unwrap_or(u64::MAX);
        let mut begins = true;
        let mut take = |item: LogItem| {
            let LogItem::Line(line) = item else { return Ok(()) };
            let mut bytes = Vec::new();
            if options.timestamps && begins {
                bytes.extend_from_slice(line.time.as_bytes());
                bytes.push(b' ');
            }
            begins = line.text.ends_with(b"\n");
            bytes.extend_from_slice(&line.text);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            left -= length as u64;
            out(&bytes[..length])?;
            if left == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
        };
        let told = self.0.engine.logs_for(&run, &query, reader, &mut take);
        told.map_err(|error| Refusal::bad(crate::image::chain(&error)))
    }
}
