//! `cais oci`, also called `cais-runc`: the command line of an OCI runtime, with runc's commands,
//! flags and words. Other engines call it for each container, so it starts without anything that
//! the rest of the program needs.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod flag;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod trace;
mod update;

use std::error::Error as StdError;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use runtime::container::Error as ContainerError;

use flag::{Flag, Matches};
use log::Log;

/// The names that make the program an OCI runtime.
const NAMES: [&str; 2] = ["cais-runc", "runc"];
/// The exit code of anything that failed; runc's.
const FAILED: i32 = 1;
/// The exit code for a command that does not exist; runc's.
const UNKNOWN_COMMAND: i32 = 3;
/// The exit code of `exec` when it failed itself, and of a first process that did not become the
/// program; runc's.
const EXEC_FAILED: i32 = 255;

/// One command.
struct Verb {
    name: &'static str,
    about: &'static str,
    /// The positional arguments, for help.
    usage: &'static str,
    flags: &'static [Flag],
    /// How many positional arguments there may be.
    args: Args,
    /// Whether it makes processes that a container sees.
    sealed: bool,
    run: fn(&Call<'_>) -> Result<i32>,
}

/// How many positional arguments a command takes.
#[derive(Debug, Clone, Copy)]
enum Args {
    Exactly(usize),
    /// Flags end behind the first of them.
    AtLeast(usize),
    /// Flags end behind the first of them.
    Between(usize, usize),
}

/// What a command was called with.
struct Call<'a> {
    global: &'a Matches,
    own: Matches,
    log: &'a Log,
    root: &'a Path,
    inherited: Inherited,
}

/// The descriptors from 3 on that are meant for the container.
#[derive(Debug, Clone, Copy)]
struct Inherited {
    /// Sockets that systemd has opened (sd_listen_fds(3)).
    listening: u32,
    /// Those behind them.
    preserved: u32,
}

impl Inherited {
    /// To be called before anything is opened.
    fn of(verb: &Verb, own: &Matches) -> Result<Inherited> {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let ours = number("LISTEN_PID") == Some(std::process::id());
        let ours = ours && matches!(verb.name, "create" | "run" | "restore");
        let listening = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
        let preserved = own.number("preserve-fds")?.unwrap_or(0);
        runtime::container::check_inherited(listening, preserved)?;
        Ok(Inherited { listening, preserved })
    }
}

impl Call<'_> {
    /// The container that is meant.
    fn id(&self) -> Result<&str> {
        match self.own.args.first().map_or("", String::as_str) {
            "" => bail!("container id cannot be empty"),
            id => Ok(id),
        }
    }
}

/// In the order of runc's help.
const VERBS: [Verb; 17] = [
    checkpoint::VERB,
    create::VERB,
    delete::VERB,
    events::VERB,
    exec::VERB,
    kill::VERB,
    list::VERB,
    pause::PAUSE,
    ps::VERB,
    restore::VERB,
    pause::RESUME,
    run::VERB,
    spec::VERB,
    start::VERB,
    state::VERB,
    update::VERB,
    features::VERB,
];

const GLOBAL: &[Flag] = &[
    Flag::switch("debug", "enable debug logging"),
    Flag::value("log", "set the log file to write logs to (default is '/dev/stderr')"),
    Flag::value("log-format", "set the log format ('text' (default), or 'json')"),
    Flag::value("root", "root directory for storage of container state, on a tmpfs"),
    Flag::value("criu", "path to the criu binary used for checkpoint and restore"),
    Flag::switch(
        "systemd-cgroup",
        "expect cgroupsPath to be of the form \"slice:prefix:name\", as in \"system.slice:cais:434234\"",
    ),
    Flag::value("rootless", "ignore cgroup permission errors ('true', 'false', or 'auto')"),
    Flag::switch("help", "show help").short('h'),
    Flag::switch("version", "print the version").short('v'),
];

/// Runs the OCI command line if that is what was called.
pub(crate) fn main(args: &[OsString]) -> Option<ExitCode> {
    let (program, rest) = called(args)?;
    let code = run(&program, rest);
    Some(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)))
}

/// For the help and the completion of `cais`, which do not read these arguments.
pub(crate) fn command() -> clap::Command {
    clap::Command::new("oci").about("Run containers from OCI bundles, with runc's command line")
}

/// How it was called, and with what.
fn called(args: &[OsString]) -> Option<(String, &[OsString])> {
    let program = Path::new(args.first()?).file_name()?;
    if NAMES.iter().any(|name| program == *name) {
        return Some((program.to_string_lossy().into_owned(), &args[1..]));
    }
    (args.get(1)? == OsStr::new("oci")).then(|| ("cais oci".into(), &args[2..]))
}

fn run(program: &str, args: &[OsString]) -> i32 {
    let mut log = Log::default();
    match try_run(program, args, &mut log) {
        Ok(code) => code,
        Err((error, code)) if error.is::<Bare>() => {
            log::complain(&format!("{error}\n"));
            code
        }
        Err((error, code)) => {
            log.fail(&words(&error));
            code
        }
    }
}

type Failure = (anyhow::Error, i32);

/// What is shown as it is, beside the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Bare(String);

fn failed(error: anyhow::Error) -> Failure {
    (error, FAILED)
}

fn try_run(program: &str, args: &[OsString], log: &mut Log) -> Result<i32, Failure> {
    let args = flag::texts(args).map_err(failed)?;
    let global = flag::parse(GLOBAL, &args, Some(0)).map_err(failed)?;
    if global.is_on("version") {
        return Ok(print(&version(program)));
    }
    let Some((name, rest)) = global.args.split_first().filter(|_| !global.is_on("help")) else {
        return Ok(print(&flag::help_of_all(program, &VERBS, GLOBAL)));
    };
    if name == "help" {
        return Ok(print(&flag::help_of_all(program, &VERBS, GLOBAL)));
    }
    let verb = VERBS.iter().find(|verb| verb.name == name);
    // Whatever is wrong so far belongs into the log, which must not take a number meanwhile.
    let own = verb.map(|verb| {
        let own = parse(program, verb, rest)?;
        let inherited = Inherited::of(verb, &own)?;
        Ok((own, inherited))
    });
    *log = Log::open(&global).map_err(failed)?;
    let (Some(verb), Some(own)) = (verb, own) else {
        return Err((anyhow::anyhow!("No help topic for '{name}'"), UNKNOWN_COMMAND));
    };
    let code = if verb.name == "exec" { EXEC_FAILED } else { FAILED };
    let (own, inherited) = own.map_err(|error| (error, code))?;
    if own.is_on("help") {
        return Ok(print(&flag::help_of_one(program, verb)));
    }
    let root = root(&global).map_err(failed)?;
    if verb.sealed {
        seal().map_err(failed)?;
    }
    log.debug(&format!("command {name} of container state below {}", root.display()));
    let call = Call { global: &global, own, log, root: &root, inherited };
    let outcome = (verb.run)(&call);
    outcome.map_err(|error| match verb.name {
        // With runc, the container's own first process says this, on its standard error.
        "run" if matches!(error.downcast_ref(), Some(ContainerError::Execve { .. })) => {
            (Bare(words(&error)).into(), EXEC_FAILED)
        }
        // As runc names the command in these.
        "create" | "run" => {
            (error.context(format!("{} {} failed", short(program), verb.name)), code)
        }
        "exec" => (error.context("exec failed"), code),
        _ => (error, code),
    })
}

/// The name without the path or group: runc's messages begin with its own.
fn short(program: &str) -> &str {
    if NAMES.contains(&program) { program } else { NAMES[0] }
}

fn parse(program: &str, verb: &Verb, args: &[String]) -> Result<Matches> {
    let stop = match verb.args {
        Args::Exactly(_) => None,
        Args::AtLeast(_) | Args::Between(..) => Some(1),
    };
    let own = flag::parse(verb.flags, args, stop)?;
    let (found, name) = (own.args.len(), verb.name);
    let wrong = match verb.args {
        _ if own.is_on("help") => None,
        Args::Exactly(count) if found != count => Some(format!("exactly {count} argument(s)")),
        Args::AtLeast(count) | Args::Between(count, _) if found < count => {
            Some(format!("a minimum of {count} argument(s)"))
        }
        Args::Between(_, count) if found > count => {
            Some(format!("a maximum of {count} argument(s)"))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        print(&format!("Incorrect Usage.\n\n{}", flag::help_of_one(program, verb)));
        bail!("{program}: \"{name}\" requires {wrong}");
    }
    Ok(own)
}

/// The program starts anew, sealed, if it was not yet.
fn seal() -> Result<()> {
    match runtime::seal_executable() {
        // Without privilege the program's file is not ours to protect from ourselves.
        Err(_) if !rustix::process::geteuid().is_root() => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// The state root, absolute; made only by what creates containers.
fn root(global: &Matches) -> Result<PathBuf> {
    let Some(given) = global.value("root") else { return Ok(runtime::container::default_root()) };
    let mut root = PathBuf::new();
    for part in std::path::absolute(if given.is_empty() { "." } else { given })?.components() {
        match part {
            std::path::Component::ParentDir => drop(root.pop()),
            other => root.push(other),
        }
    }
    if root == Path::new("/") {
        bail!("Option --root argument should not be set to /");
    }
    Ok(root)
}

/// Whether it goes on where no cgroup can be made: without privilege, unless it was decided.
fn cgroup_is_optional(global: &Matches) -> Result<bool> {
    match global.value("rootless").unwrap_or("auto").to_lowercase().as_str() {
        "" | "auto" => Ok(runtime::container::is_rootless()),
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        other => bail!("invalid value for --rootless: {other}"),
    }
}

fn version(program: &str) -> String {
    let commit = option_env!("CAIS_COMMIT").unwrap_or("unknown");
    let (program, version) = (short(program), env!("CARGO_PKG_VERSION"));
    let spec = runtime::container::VERSION_MAX;
    format!("{program} version {version}\ncommit: {commit}\nspec: {spec}\n")
}

/// Prints to standard output; whoever reads it may have seen enough.
fn print(text: &str) -> i32 {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    0
}

/// An error with its causes on one line, the kernel's answers in Go's spelling: that is what callers
/// look for.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn StdError> = Some(error.as_ref());
    while let Some(cause) = next {
        let mut words = cause.to_string();
        if let Some(number) = words.find(" (os error ") {
            words.truncate(number);
            words.get_mut(..1).into_iter().for_each(str::make_ascii_lowercase);
        }
        if !text.ends_with(&words) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{words}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_word_makes_it_an_oci_runtime() {
        let called = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            called(&args).map(|(program, rest)| (program, rest.len()))
        };
        assert_eq!(called(&["/usr/bin/cais-runc", "list"]), Some(("cais-runc".into(), 1)));
        assert_eq!(called(&["runc"]), Some(("runc".into(), 0)));
        assert_eq!(called(&["cais", "oci", "list"]), Some(("cais oci".into(), 1)));
        assert_eq!(called(&["cais", "run", "oci"]), None);
        assert_eq!(called(&["cais"]), None);
        assert_eq!(called(&[]), None);
    }

    #[test]
    fn causes_are_worded_as_go_does() {
        let source = std::io::Error::from_raw_os_error(2);
        let error = anyhow::Error::new(source).context("open x");
        assert_eq!(words(&error), "open x: no such file or directory");
    }
}
