//! Instructions as types: what a Dockerfile says, before anything is expanded.

use oci::Healthcheck;

use crate::language::check::CheckOptions;
use crate::language::directive::Directives;
use crate::language::heredoc::Heredoc;
use crate::language::mount::MountFlag;
use crate::source::Span;

/// A whole file.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// What its first lines say.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Instruction>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
}

/// One FROM and what follows it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The image or stage that it starts from, as written.
    pub base: String,
    /// Where that stands.
    pub base_span: Span,
    /// Its name in lower case; empty where it has none.
    pub name: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// FROM itself.
    pub from: Instruction,
    /// What follows it.
    pub instructions: Vec<Instruction>,
}

/// An instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// Its first word, as written.
    pub keyword: String,
    /// Where that stands.
    pub keyword_span: Span,
    /// All of it.
    pub span: Span,
    /// Its text with continuations joined.
    pub text: String,
    /// The comments right before it.
    pub comments: Vec<String>,
    /// Whether, and where, an empty line stands in it.
    pub empty: Option<Span>,
    /// Options for the checks of this instruction alone.
    pub check: Option<CheckOptions>,
    /// What it says.
    pub command: Command,
    /// The escape character of its file.
    pub escape: char,
}

/// `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value, as written.
    pub value: String,
    /// Whether a space stands between them: the old form.
    pub is_legacy: bool,
    /// Where it stands.
    pub span: Span,
}

/// A line for a shell, or the words of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// For the shell.
    Shell(String),
    /// To be executed as it is.
    Exec(Vec<String>),
}

/// An argument of a build, with its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name.
    pub name: String,
    /// The default, as written.
    pub default: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// What COPY and ADD have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// Paths, and for ADD also URLs.
    pub sources: Vec<String>,
    /// Where each stands.
    pub source_spans: Vec<Span>,
    /// Files whose content stands in the Dockerfile.
    pub inline: Vec<Heredoc>,
    /// Where to.
    pub destination: String,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, each.
    pub exclude: Vec<String>,
    /// COPY's `--from`.
    pub from: Option<String>,
    /// Where that stands.
    pub from_span: Span,
    /// COPY's `--parents`.
    pub parents: bool,
    /// ADD's `--checksum`.
    pub checksum: Option<String>,
    /// ADD's `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// ADD's `--unpack`.
    pub unpack: Option<bool>,
}

/// RUN's `--network`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// As the whole build.
    #[default]
    Default,
    /// None but the loopback interface.
    None,
    /// The host's.
    Host,
}

/// RUN's `--security`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// Confined.
    #[default]
    Sandbox,
    /// Privileged.
    Insecure,
}

/// What RUN says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub line: CommandLine,
    /// Texts that follow.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`, each.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security`.
    pub security: RunSecurity,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// FROM; the rest is in [`Stage`].
    From,
    /// ENV.
    Env(Vec<Pair>),
    /// LABEL.
    Label(Vec<Pair>),
    /// ADD.
    Add(Copy),
    /// COPY.
    Copy(Copy),
    /// RUN.
    Run(Run),
    /// CMD.
    Cmd(CommandLine),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ARG.
    Arg(Vec<ArgDefinition>),
    /// WORKDIR.
    Workdir(String),
    /// USER.
    User(String),
    /// EXPOSE, each word as written, sorted.
    Expose(Vec<String>),
    /// VOLUME.
    Volume(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(String),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// SHELL.
    Shell(Vec<String>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the instruction as written, with its here-documents.
    Onbuild(String),
}
