//! Reaching into pods: their logs. What runs them is somebody else's; the server passes on.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

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
    let Some(pods) = cluster.pods() else { return Err(Failure::not_implemented("pods/log")) };
    let options = options(request)?;
    let log = pods.log(&pod, &container, options).map_err(Failure::bad_request)?;
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
