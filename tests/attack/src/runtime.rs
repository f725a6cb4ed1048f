//! The runtimes that can be attacked, and how each is driven.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::bundle::{Bundle, copy};

/// After this, a runtime hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a runtime is asked for a container.
#[derive(Clone, Debug)]
enum Language {
    /// The development driver of our crate.
    Driver,
    /// The command line that runc, crun and others share.
    Oci,
}

/// One runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    program: PathBuf,
    language: Language,
    /// The defences that are off.
    weaknesses: String,
    inside: PathBuf,
}

/// What a container printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// It was ended because it took too long.
    pub(crate) hung: bool,
}

impl Ran {
    /// What it said, on one line.
    pub(crate) fn complaint(&self) -> String {
        let last = self.stderr.lines().chain(self.stdout.lines()).find(|line| !line.is_empty());
        let plain = |c: &char| !c.is_control();
        last.unwrap_or("").chars().filter(plain).take(200).collect()
    }
}

impl Runtime {
    /// The development driver `program`, with `attack-inside` beside it.
    #[must_use]
    pub fn driver(program: &Path) -> Runtime {
        Runtime::new(program, Language::Driver)
    }

    /// A program with runc's command line; `attack-inside` lies beside this program.
    #[must_use]
    pub fn oci(program: &Path) -> Runtime {
        let own = env::current_exe().unwrap();
        Runtime {
            inside: own.with_file_name("attack-inside"),
            ..Runtime::new(program, Language::Oci)
        }
    }

    fn new(program: &Path, language: Language) -> Runtime {
        let inside = program.with_file_name("attack-inside");
        Runtime { program: program.to_owned(), language, weaknesses: String::new(), inside }
    }

    /// Whether it runs a container that attacks nothing: what does not, would hold against all.
    ///
    /// # Errors
    /// What it said instead.
    pub fn works(&self) -> Result<(), String> {
        let ran = self.run(&Bundle::script("echo it works"));
        if ran.stdout == "it works\n" { Ok(()) } else { Err(ran.complaint()) }
    }

    /// The same without these defences; only the weakened driver knows them.
    #[must_use]
    pub fn without(&self, weaknesses: &str) -> Runtime {
        Runtime { weaknesses: weaknesses.to_owned(), ..self.clone() }
    }

    /// The same, as a copy that the attack may destroy.
    pub(crate) fn copied(&self, bundle: &Bundle) -> Runtime {
        // Some look at what they are called.
        let program = bundle.make("copy").join(self.program.file_name().unwrap());
        copy(&self.program, &program);
        Runtime { program, ..self.clone() }
    }

    /// Whether a defence is off.
    pub(crate) fn is_weakened(&self) -> bool {
        !self.weaknesses.is_empty()
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The program for what busybox cannot do.
    pub(crate) fn inside(&self) -> &Path {
        &self.inside
    }

    /// Whether what only our driver offers can be tried.
    pub(crate) fn is_driver(&self) -> bool {
        matches!(self.language, Language::Driver)
    }

    /// The command that runs a bundle to its end.
    pub(crate) fn command(&self, bundle: &Bundle) -> Command {
        bundle.save();
        match self.language {
            Language::Driver => self.words(&[bundle.directory()]),
            Language::Oci => {
                let (pid, id) = (bundle.path("pid"), id(bundle));
                let directory = bundle.directory();
                let words = ["run", "--pid-file"].map(Path::new);
                let rest = [&pid, Path::new("--bundle"), directory, Path::new(&id)];
                self.words(&[&words[..], &rest].concat())
            }
        }
    }

    /// The runtime with these arguments, in a mount namespace without the cgroup hierarchy that
    /// would make crun believe that this machine has only version 2.
    fn words(&self, words: &[&Path]) -> Command {
        let mut command = match self.language {
            Language::Driver => Command::new(&self.program),
            Language::Oci => {
                let hide = "umount /sys/fs/cgroup/unified 2> /dev/null; exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", hide, "sh"]).arg(&self.program);
                command
            }
        };
        command.args(words).stdin(Stdio::null());
        command.env("WEAKEN", &self.weaknesses).env("SECRET", crate::bundle::SECRET);
        command
    }

    /// Runs a bundle to its end.
    pub(crate) fn run(&self, bundle: &Bundle) -> Ran {
        self.finish(self.command(bundle), bundle)
    }

    /// Runs a command to its end, and removes what is left of the container.
    pub(crate) fn finish(&self, mut command: Command, bundle: &Bundle) -> Ran {
        if matches!(self.language, Language::Oci) && bundle.config["process"]["terminal"] == true {
            command = on_terminal(&command);
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ran = wait(child);
        self.delete(bundle);
        ran
    }

    fn delete(&self, bundle: &Bundle) {
        if let Language::Oci = self.language {
            let id = id(bundle);
            let words = ["delete", "--force", &id].map(Path::new);
            let _ = self.words(&words).output();
        }
    }

    /// Starts a bundle, whose program must print a line when it is ready.
    pub(crate) fn start<'a>(&self, bundle: &'a mut Bundle) -> Result<Running<'a>, String> {
        let pid_file = bundle.path("pid");
        let _ = fs::remove_file(&pid_file);
        bundle.annotate("pid-file", &pid_file);
        let mut command = self.command(bundle);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = [0];
        let output = child.stdout.as_mut().unwrap();
        while output.read(&mut line).unwrap() == 1 && line[0] != b'\n' {}
        // Some write it after the program runs.
        let pid = loop {
            let pid = fs::read_to_string(&pid_file).unwrap_or_default().trim().parse().ok();
            if pid.is_some() || child.try_wait().unwrap().is_some() {
                break pid;
            }
            thread::yield_now();
        };
        match pid {
            Some(pid) => Ok(Running { runtime: self.clone(), child: Some(child), bundle, pid }),
            None => {
                let ran = wait(child);
                self.delete(bundle);
                Err(format!("the container did not start: {}", ran.complaint()))
            }
        }
    }
}

/// A name for the container that nobody else uses.
fn id(bundle: &Bundle) -> String {
    let name = bundle.directory().file_name().unwrap().to_str().unwrap();
    format!("cais-attack-{}", name.trim_start_matches('.'))
}

/// The same command below script(1), which gives it a terminal.
fn on_terminal(command: &Command) -> Command {
    let quote =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: Vec<String> = words.map(quote).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::null());
    script
}

/// Waits until it has ended, or ends it.
fn wait(mut child: Child) -> Ran {
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |stream: &mut dyn io::Read| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    thread::scope(|scope| {
        let out = scope.spawn(|| read(&mut stdout));
        let errors = scope.spawn(|| read(&mut stderr));
        let end = Instant::now() + DEADLINE;
        let mut hung = false;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end && !hung {
                hung = true;
                end_tree(child.id());
            }
            thread::yield_now();
        };
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        let (stdout, stderr) = (out.join().unwrap(), errors.join().unwrap());
        Ran { code, stdout, stderr, hung }
    })
}

/// Ends a process and its descendants.
fn end_tree(pid: u32) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).for_each(end_tree);
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A container whose program runs.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    runtime: Runtime,
    child: Option<Child>,
    bundle: &'a Bundle,
    pid: i32,
}

impl Running<'_> {
    /// Executes a further program to its end.
    pub(crate) fn exec(&self, args: &[&str]) -> Ran {
        self.finish(self.exec_command("/", args))
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        self.bundle
    }

    /// Runs a command to its end, and leaves the container.
    pub(crate) fn finish(&self, mut command: Command) -> Ran {
        wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The command that executes a further program. The driver takes everything but the arguments
    /// from the bundle.
    pub(crate) fn exec_command(&self, cwd: &str, args: &[&str]) -> Command {
        let args: Vec<&Path> = args.iter().map(Path::new).collect();
        match self.runtime.language {
            Language::Driver => {
                let mut config = self.bundle.config.clone();
                config["process"]["cwd"] = cwd.into();
                fs::write(self.bundle.path("config.json"), config.to_string()).unwrap();
                let (pid, directory) = (self.pid.to_string(), self.bundle.directory());
                let words = [Path::new("exec"), directory, Path::new(&pid)];
                self.runtime.words(&[&words[..], &args].concat())
            }
            Language::Oci => {
                let id = id(self.bundle);
                let words = ["exec", "--cwd", cwd, &id].map(Path::new);
                self.runtime.words(&[&words[..], &args].concat())
            }
        }
    }

    /// Ends the container and tells what it printed.
    pub(crate) fn kill(mut self) -> Ran {
        let child = self.child.take().unwrap();
        self.signal();
        let ran = wait(child);
        self.runtime.delete(self.bundle);
        ran
    }

    fn signal(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Running<'_> {
    /// An attack that fails leaves nothing either.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.signal();
            let _ = child.kill();
            let _ = child.wait();
            self.runtime.delete(self.bundle);
        }
    }
}

/// Writes all to a file of the host in a process of its own, which may wait there.
pub(crate) fn write_when_read(path: &Path, text: &str, stop: &std::sync::atomic::AtomicBool) {
    use std::os::unix::fs::OpenOptionsExt as _;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let opened = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
        if let Ok(mut file) = opened {
            let _ = file.write_all(text.as_bytes());
        }
        thread::yield_now();
    }
}
