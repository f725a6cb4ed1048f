//! `cais logs deploy/web`

use std::io::{Read, Write};

use serde_json::Value;

use super::super::cluster::select::Selectors;
use super::super::cluster::{
    self, Cluster, Outcome, Query, Trouble, get, name, namespace, note, pods,
};
use crate::session::Session;

/// Lines of each pod that a selector means, without a number.
const SELECTED_LINES: i64 = 10;

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Of the run before the last
    #[arg(short, long)]
    previous: bool,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Of all containers
    #[arg(long)]
    all_containers: bool,
    /// Of all pods of a controller
    #[arg(long)]
    all_pods: bool,
    /// Say of each line which container's it is
    #[arg(long)]
    prefix: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES", default_value_t = -1, hide_default_value = true)]
    tail: i64,
    /// Only what is younger, as in 5s, 2m or 3h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what is younger than a time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// Say when each line was written
    #[arg(long)]
    timestamps: bool,
    /// The most bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Go on where one log cannot be read
    #[arg(long)]
    ignore_errors: bool,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A pod, or KIND/NAME; then the container
    #[arg(value_name = "POD|KIND/NAME")]
    words: Vec<String>,
}

/// One log.
struct Source {
    pod: Value,
    container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let sources = sources(&cluster, args)?;
        if sources.len() == 1 || !args.follow {
            for source in &sources {
                let copied = copy(&cluster, args, source);
                match copied {
                    Err(trouble) if args.ignore_errors => trouble.tell(),
                    copied => copied?,
                }
            }
            return Ok(0);
        }
        let cluster = &cluster.https;
        let outcomes: Vec<Outcome<()>> = std::thread::scope(|scope| {
            let follow = |source| scope.spawn(move || follow(cluster, args, source));
            let threads: Vec<_> = sources.iter().map(follow).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(()))).collect()
        });
        outcomes.into_iter().collect::<Outcome<()>>().map(|()| 0)
    })
}

fn sources(cluster: &Cluster, args: &Args) -> Outcome<Vec<Source>> {
    let found = match (&args.words[..], args.selectors.selector.is_some()) {
        ([], true) => pods::selected(cluster, &args.selectors)?,
        ([_, ..], true) => {
            return Err(Trouble::local("only a selector (-l) or a POD name is allowed"));
        }
        ([], false) => {
            return Err(Trouble::local(
                "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command",
            ));
        }
        ([word, ..], false) => of_word(cluster, args, word)?,
    };
    let asked = args.container.as_deref().or(args.words.get(1).map(String::as_str));
    let mut sources = Vec::new();
    for pod in found {
        if args.all_containers {
            let all = pods::containers(&pod).into_iter().map(str::to_owned).collect::<Vec<_>>();
            sources.extend(all.into_iter().map(|container| Source { pod: pod.clone(), container }));
        } else {
            let container = pods::container(&pod, asked).map_err(|_| invalid(&pod, asked))?;
            sources.push(Source { container, pod });
        }
    }
    Ok(sources)
}

fn invalid(pod: &Value, asked: Option<&str>) -> Trouble {
    let (asked, name) = (asked.unwrap_or_default(), name(pod));
    Trouble::local(format!("container {asked} is not valid for pod {name}"))
}

/// The pods of a word: one of those of a controller, unless all are wanted.
fn of_word(cluster: &Cluster, args: &Args, word: &str) -> Outcome<Vec<Value>> {
    let mut found = pods::of(cluster, word)?;
    if found.len() > 1 && !args.all_pods {
        found.sort_by_key(|pod| !pods::is_ready(pod));
        note(&format!("Found {} pods, using pod/{}", found.len(), name(&found[0])));
        found.truncate(1);
    }
    match found.is_empty() {
        true => Err(Trouble::local(format!("no pods are found for {word}"))),
        false => Ok(found),
    }
}

fn target(args: &Args, source: &Source) -> Outcome<String> {
    let mut query: Query = vec![("container", source.container.clone())];
    let is_set =
        [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)];
    query.extend(is_set.iter().filter(|(_, set)| *set).map(|(name, _)| (*name, "true".to_owned())));
    let tail = match args.tail {
        lines if lines >= 0 => Some(lines),
        _ => args.selectors.selector.as_ref().map(|_| SELECTED_LINES),
    };
    query.extend(tail.map(|lines| ("tailLines", lines.to_string())));
    query.extend(args.limit_bytes.map(|bytes| ("limitBytes", bytes.to_string())));
    query.extend(args.since_time.clone().map(|time| ("sinceTime", time)));
    if let Some(since) = &args.since {
        let seconds = cluster::duration(since)?.as_secs_f64().ceil();
        query.push(("sinceSeconds", format!("{seconds}")));
    }
    let (namespace, name) = (namespace(&source.pod), name(&source.pod));
    let parts = ["api", "v1", "namespaces", namespace, "pods", name, "log"];
    Ok(client::https::target(&parts, &query))
}

fn copy(cluster: &Cluster, args: &Args, source: &Source) -> Outcome<()> {
    let answer = cluster.open(&get(target(args, source)?, "*/*"))?;
    lines(answer, &prefix(args, source))
}

fn follow(https: &client::Https, args: &Args, source: &Source) -> Outcome<()> {
    let answer = https.accepted(&get(target(args, source)?, "*/*"))?;
    lines(answer, &prefix(args, source))
}

fn prefix(args: &Args, source: &Source) -> String {
    match args.prefix {
        true => format!("[pod/{}/{}] ", name(&source.pod), source.container),
        false => String::new(),
    }
}

/// Copies a log to standard output, whole lines at a time.
fn lines(mut answer: impl Read, prefix: &str) -> Outcome<()> {
    let broken = |error: std::io::Error| Trouble::local(format!("read the log: {error}"));
    let (mut buffer, mut line) = (vec![0; 32 << 10], Vec::new());
    loop {
        let length = answer.read(&mut buffer).map_err(broken)?;
        line.extend_from_slice(&buffer[..length]);
        let end = match length {
            0 => line.len(),
            _ => line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        };
        let rest = line.split_off(end);
        let whole = std::mem::replace(&mut line, rest);
        let mut out = std::io::stdout().lock();
        let written = whole
            .split_inclusive(|byte| *byte == b'\n')
            .try_for_each(|one| out.write_all(prefix.as_bytes()).and_then(|()| out.write_all(one)))
            .and_then(|()| out.flush());
        match written {
            // The reader has gone, as `head` does.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(broken)?,
        }
        if length == 0 {
            return Ok(());
        }
    }
}
