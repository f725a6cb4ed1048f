//! `cais exec pod/x -- COMMAND`, and `cais attach pod/x`

use super::super::cluster::stream::{Wanted, talk};
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble, name, namespace, note, pods};
use crate::session::Session;

/// What `exec` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais exec [OPTIONS] POD|KIND/NAME -- COMMAND [ARG...]")]
pub(crate) struct Args {
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    tty: bool,
    /// Say nothing but what the command says
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A pod, or KIND/NAME
    #[arg(value_name = "POD|KIND/NAME")]
    pod: String,
    #[arg(hide = true)]
    more: Vec<String>,
    /// The command and its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        if args.command.is_empty() {
            return Err(match args.more.is_empty() {
                true => Trouble::local("you must specify at least one command for the container"),
                false => Trouble::local(
                    "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
                ),
            });
        }
        let cluster = args.cluster.connect(session)?;
        let command = args.command.iter().map(|word| ("command", word.clone()));
        let process = Process {
            what: "exec",
            word: &args.pod,
            container: args.container.as_deref(),
            wanted: wanted(args.stdin, args.tty, args.quiet),
        };
        process.talk(&cluster, command.collect())
    })
}

/// What `attach` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    tty: bool,
    /// Say nothing but what the container says
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// A pod, or KIND/NAME
    #[arg(value_name = "POD|KIND/NAME")]
    pod: String,
}

pub(crate) fn attach(session: &Session, args: &AttachArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let process = Process {
            what: "attach",
            word: &args.pod,
            container: args.container.as_deref(),
            wanted: wanted(args.stdin, args.tty, args.quiet),
        };
        process.talk(&cluster, Query::new())
    })
}

fn wanted(stdin: bool, tty: bool, quiet: bool) -> Wanted {
    let is_terminal = rustix::termios::isatty(rustix::stdio::stdin());
    if tty && !(stdin && is_terminal) && !quiet {
        note("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    Wanted { stdin, tty: tty && stdin && is_terminal, quiet }
}

/// A process in a container of a pod.
struct Process<'a> {
    what: &'a str,
    word: &'a str,
    container: Option<&'a str>,
    wanted: Wanted,
}

impl Process<'_> {
    fn talk(&self, cluster: &Cluster, mut query: Query) -> Outcome<i32> {
        let pod = pods::one(cluster, self.word)?;
        let phase = cluster::word(&pod, "/status/phase");
        if matches!(phase, "Succeeded" | "Failed") {
            return Err(Trouble::local(format!(
                "cannot {} into a container in a completed pod; current phase is {phase}",
                self.what
            )));
        }
        query.push(("container", pods::container(&pod, self.container)?));
        let set = [
            ("stdin", self.wanted.stdin),
            ("stdout", true),
            ("stderr", !self.wanted.tty),
            ("tty", self.wanted.tty),
        ];
        query
            .extend(set.iter().filter(|(_, set)| *set).map(|(name, _)| (*name, "true".to_owned())));
        let parts = ["api", "v1", "namespaces", namespace(&pod), "pods", name(&pod), self.what];
        talk(cluster, &client::https::target(&parts, &query), self.wanted)
    }
}
