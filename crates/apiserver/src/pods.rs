//! Reaching into pods: their logs. What runs them is somebody else's; the server passes on.

use std::fmt::Debug;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;

/// Which lines of a container's log are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// A log that is about to be read: for as long as whoever is behind a socket has not hung up.
pub type Log = Box<dyn FnOnce(Option<BorrowedFd<'_>>, Take<'_>) + Send>;

/// Reaches into the pods of a cluster.
pub trait Pods: Send + Sync + Debug {
    /// The log of a pod's container.
    ///
    /// # Errors
    /// The container has none, in words for a person.
    fn log(&self, pod: &Value, container: &str, options: LogOptions) -> Result<Log, String>;

    /// Executes a command in a pod's container, or attaches to its first process if there is none.
    ///
    /// # Errors
    /// It cannot be done, in words for a person.
    fn talk(
        &self,
        pod: &Value,
        container: &str,
        options: &TalkOptions,
    ) -> Result<Box<dyn Process>, String>;

    /// Connects to a port that something in a pod listens on, as the pod's loopback address has it: a
    /// stream socket.
    ///
    /// # Errors
    /// It cannot be done, in words for a person.
    fn dial(&self, pod: &Value, port: u16) -> Result<OwnedFd, String>;

    /// What a node and its pods use, as of the last second: the document that upstream's nodes answer
    /// at `stats/summary`, in which each `cpu` also has `window`, the time that its `usageNanoCores`
    /// are of (`0.998s`).
    ///
    /// # Errors
    /// It cannot be told, in words for a person.
    fn summary(&self, node: &str) -> Result<Value, String>;
}

/// What is wanted of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TalkOptions {
    /// The program and its arguments; empty for the container's own.
    pub command: Vec<String>,
    /// Whether input is given.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its errors are wanted.
    pub stderr: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// What a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// Bytes of standard output, or of the terminal.
    Stdout(&'a [u8]),
    /// Bytes of standard error.
    Stderr(&'a [u8]),
    /// It has ended with this code.
    Exit(i32),
    /// Nobody knows how it has ended.
    Gone,
}

/// A process that somebody talks with.
pub trait Process: Send {
    /// Ready when it has something to say.
    fn socket(&self) -> BorrowedFd<'_>;
    /// Waits for what comes next.
    fn listen(&mut self) -> Said<'_>;
    /// Gives input: how many bytes were taken now.
    ///
    /// # Errors
    /// It takes no more.
    fn try_input(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Says that there is no more input: whether that was taken now.
    ///
    /// # Errors
    /// It takes no more.
    fn try_end_input(&mut self) -> io::Result<bool>;
    /// Changes the size of its terminal, which may have none.
    fn resize(&mut self, rows: u16, columns: u16);
}

/// A process that is begun once the client is there.
pub type Begin = Box<dyn FnOnce() -> Result<Box<dyn Process>, String> + Send>;

/// A conversation that a client asks for.
pub struct Talk {
    pub(crate) options: TalkOptions,
    pub(crate) begin: Begin,
}

impl Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

/// `…/pods/NAME/exec` and `…/attach`
pub(crate) fn talk(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    let whole = Target { subresource: String::new(), ..target.clone() };
    let pod = cluster.find(&whole)?.object;
    let container = container(request, &pod)?;
    if let Some(elsewhere) = cluster.elsewhere(request, &pod, (&target.subresource, &container))? {
        return Ok(elsewhere.into());
    }
    let Some(pods) = cluster.pods() else {
        return Err(Failure::not_implemented(&format!("pods/{}", target.subresource)));
    };
    begin_talk(pods, pod, &container, target.subresource == "exec", request)
}

/// A conversation with a command, or with a container's own process.
pub(crate) fn begin_talk(
    pods: &Arc<dyn Pods>,
    pod: Value,
    container: &str,
    is_exec: bool,
    request: &Request,
) -> Result<Answer, Failure> {
    let words = request.query.iter().filter(|(name, _)| is_exec && name == "command");
    let command: Vec<String> = words.map(|(_, word)| word.clone()).collect();
    if is_exec && command.is_empty() {
        return Err(Failure::bad_request("you must specify at least 1 command for the container"));
    }
    let [stdin, stdout, stderr, tty] =
        ["stdin", "stdout", "stderr", "tty"].map(|name| request.is_set(name));
    if !(stdin || stdout || stderr) {
        return Err(Failure::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let options = TalkOptions { command, stdin, stdout, stderr, tty };
    let (asked, pods, container) = (options.clone(), pods.clone(), container.to_owned());
    let begin = Box::new(move || pods.talk(&pod, &container, &asked));
    Ok(Answer::Talk(Talk { options, begin }))
}

/// `GET …/pods/NAME/log`
pub(crate) fn log(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
) -> Result<Answer, Failure> {
    let whole = Target { subresource: String::new(), ..target.clone() };
    let pod = cluster.find(&whole)?.object;
    let container = container(request, &pod)?;
    if let Some(elsewhere) = cluster.elsewhere(request, &pod, ("containerLogs", &container))? {
        return Ok(elsewhere.into());
    }
    let Some(pods) = cluster.pods() else { return Err(Failure::not_implemented("pods/log")) };
    show_log(pods, &pod, &container, request)
}

/// A container's log.
pub(crate) fn show_log(
    pods: &Arc<dyn Pods>,
    pod: &Value,
    container: &str,
    request: &Request,
) -> Result<Answer, Failure> {
    let log = pods.log(pod, container, options(request)?).map_err(Failure::bad_request)?;
    Ok(Answer::Log(log))
}

/// The container that a request names, or the only one.
fn container(request: &Request, pod: &Value) -> Result<String, Failure> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    let (asked, name) = (request.parameter("container"), pod["metadata"]["name"].as_str());
    let name = name.unwrap_or_default();
    if !asked.is_empty() {
        let is_there = lists.iter().any(|list| names(list).iter().any(|known| known == asked));
        let refused =
            || Failure::bad_request(format!("container {asked} is not valid for pod {name}"));
        return is_there.then(|| asked.to_owned()).ok_or_else(refused);
    }
    match &names("containers")[..] {
        [only] => Ok(only.clone()),
        all => Err(Failure::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

fn options(request: &Request) -> Result<LogOptions, Failure> {
    let number = |name: &str| -> Result<Option<u64>, Failure> {
        match request.parameter(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("{name}: Invalid value: {text:?}: must be a number"))
            }),
        }
    };
    let since = match (request.parameter("sinceTime"), number("sinceSeconds")?) {
        ("", None) => None,
        ("", Some(seconds)) => {
            let now = jiff::Timestamp::now().as_second();
            Some(objects::time::seconds(now - i64::try_from(seconds).unwrap_or(now)))
        }
        (time, _) => {
            let time: jiff::Timestamp = time
                .parse()
                .map_err(|_| Failure::bad_request(format!("sinceTime: Invalid value: {time:?}")))?;
            Some(time.to_string())
        }
    };
    Ok(LogOptions {
        previous: request.is_set("previous"),
        since,
        tail: number("tailLines")?.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        timestamps: request.is_set("timestamps"),
        follow: request.is_set("follow"),
        bytes_max: number("limitBytes")?,
    })
}
