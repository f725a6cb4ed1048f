//! A build as data: steps, what they need, and the image that comes out.

use std::collections::BTreeMap;

use oci::{Digest, ImageConfig, Platform};
use serde::Serialize;

use crate::check::Finding;
use crate::git::GitSource;
use crate::language::mount::Sharing;
use crate::source::Span;

/// The place of a step in [`Graph::steps`].
pub type StepId = usize;

/// Everything that a target needs, in an order in which it can be done.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The steps; each needs only those before it.
    pub steps: Vec<Step>,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// The image; its files are what [`Outcome::step`] leaves.
    pub outcome: Outcome,
}

/// The image that a build makes.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The last step of its files; `None` for an empty file system.
    pub step: Option<StepId>,
    /// Its configuration, without layers and history.
    pub config: ImageConfig,
    /// The history of its base, as it is.
    pub base_history: Vec<oci::History>,
    /// How it came to be from there on.
    pub history: Vec<Entry>,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The instruction, in BuildKit's words.
    pub created_by: String,
    /// The step that makes its layer.
    pub step: Option<StepId>,
}

/// Something to be done.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name, for people: `[build 2/5] RUN make`.
    pub name: String,
    /// The instruction it comes from.
    pub span: Span,
    /// The step whose files it starts from; `None` for none.
    pub base: Option<StepId>,
    /// What is done.
    pub op: Op,
    /// Whether it is done anew, whatever is known.
    pub ignore_cache: bool,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The files of an image.
    Image(ImageOp),
    /// A command.
    Run(Box<RunOp>),
    /// Files are copied.
    Copy(CopyOp),
    /// A directory is made, with those above it.
    Workdir(WorkdirOp),
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageOp {
    /// Its name.
    pub name: String,
    /// Its platform.
    pub platform: Platform,
    /// Its layers, lowest first.
    pub layers: Vec<Digest>,
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkdirOp {
    /// Absolute.
    pub path: String,
    /// Whose it becomes: `user[:group]`; empty for root.
    pub user: String,
}

/// A command, and what it finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunOp {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The directory it starts in.
    pub workdir: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// `default`, `none` or `host`.
    pub network: String,
    /// Whether it is privileged.
    pub privileged: bool,
    /// What is mounted, in order.
    pub mounts: Vec<RunMount>,
    /// A script that is mounted and executed: its path and its text.
    pub script: Option<(String, String)>,
    /// Names and addresses for its /etc/hosts.
    pub hosts: Vec<(String, String)>,
    /// The host's name, if it is not the usual one.
    pub hostname: Option<String>,
    /// The platform it runs on.
    pub platform: Platform,
    /// Variables for proxies, which change nothing of what comes out.
    #[serde(skip)]
    pub proxies: Vec<String>,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The build's context, or another by its name.
    Context(Option<String>),
    /// What a step leaves. Its key says what that is, so that its number need not.
    #[serde(serialize_with = "nothing")]
    Step(StepId),
    /// Nothing.
    Scratch,
}

fn nothing<S: serde::Serializer>(_: &StepId, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_unit()
}

/// An address that does not say who asks.
pub(crate) fn redacted<S: serde::Serializer>(address: &str, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&oci::redacted(address))
}

/// A mount of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunMount {
    /// Where, absolute; empty for a secret that is a variable alone, and for a socket whose place is
    /// the command's affair.
    pub target: String,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// What.
    pub kind: RunMountKind,
}

/// What a mount of a command shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunMountKind {
    /// Files.
    Bind {
        /// Where they come from.
        from: From,
        /// The path there, absolute.
        source: String,
    },
    /// A directory that stays.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// What it starts as.
        from: From,
        /// The path there, absolute.
        source: String,
        /// Its mode, user and group, if they are given.
        owner: Option<(u32, u32, u32)>,
    },
    /// Memory.
    Tmpfs {
        /// In bytes; 0 for no limit.
        size: u64,
    },
    /// A secret.
    Secret {
        /// Its name.
        id: String,
        /// The variable that has it.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Its mode, user and group.
        owner: (u32, u32, u32),
    },
    /// An SSH agent's socket.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Its mode, user and group.
        owner: (u32, u32, u32),
    },
}

/// Files are copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyOp {
    /// From where, in order.
    pub sources: Vec<CopySource>,
    /// To where: absolute; with a slash at its end for a directory.
    pub destination: String,
    /// Whose they become: `user[:group]`.
    pub chown: Option<String>,
    /// What their modes become.
    pub chmod: Option<Chmod>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether the layer is made without a look at what is below.
    pub link: bool,
}

/// A source of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CopySource {
    /// A path, which may have wildcards.
    Path {
        /// Where it is looked for.
        from: From,
        /// Absolute.
        path: String,
        /// With `--parents`: which of what is below, whose directories come along.
        parents: Option<String>,
        /// Whether an archive is unpacked.
        unpack: bool,
    },
    /// A file whose content stands in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// Its content.
        content: String,
    },
    /// The files of a git repository.
    Git(GitSource),
    /// A file from the network.
    Url {
        /// Where it is. What comes from there tells it from others, and not who asks.
        #[serde(serialize_with = "redacted")]
        url: String,
        /// Its name.
        name: String,
        /// Its digest, if that is known.
        checksum: Option<String>,
        /// Whether an archive is unpacked.
        unpack: bool,
    },
}

/// What modes become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Chmod {
    /// These bits.
    Octal(u32),
    /// What chmod(1) makes of this: `u+x,go-w`.
    Symbolic(String),
}

impl Step {
    /// All steps that it needs.
    #[must_use]
    pub fn needs(&self) -> Vec<StepId> {
        let mut needs: Vec<StepId> = self.base.into_iter().collect();
        let mut add = |from: &From| {
            if let From::Step(step) = from {
                needs.push(*step);
            }
        };
        match &self.op {
            Op::Image(_) | Op::Workdir(_) => {}
            Op::Run(run) => {
                for mount in &run.mounts {
                    match &mount.kind {
                        RunMountKind::Bind { from, .. } | RunMountKind::Cache { from, .. } => {
                            add(from);
                        }
                        _ => {}
                    }
                }
            }
            Op::Copy(copy) => {
                for source in &copy.sources {
                    if let CopySource::Path { from, .. } = source {
                        add(from);
                    }
                }
            }
        }
        needs.dedup();
        needs
    }

    /// What it is, for its key: everything but what its inputs are.
    #[must_use]
    pub fn definition(&self) -> BTreeMap<String, String> {
        let value = serde_json::to_value(&self.op).expect("an operation has only names as keys");
        let mut fields = BTreeMap::new();
        flatten("", &value, &mut fields);
        fields
    }
}

/// Nested values become fields by their paths.
fn flatten(path: &str, value: &serde_json::Value, fields: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| flatten(&below(name), value, fields));
        }
        Value::Array(items) => {
            fields.insert(below("count"), items.len().to_string());
            for (index, value) in items.iter().enumerate() {
                flatten(&below(&index.to_string()), value, fields);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(fields.insert(path.to_owned(), text.clone())),
        other => drop(fields.insert(path.to_owned(), other.to_string())),
    }
}

impl Step {
    /// The same step in a graph where steps have other places.
    pub(crate) fn moved(mut self, places: &[StepId]) -> Self {
        let move_to = |from: &mut From| {
            if let From::Step(step) = from {
                *step = places[*step];
            }
        };
        self.base = self.base.map(|step| places[step]);
        match &mut self.op {
            Op::Image(_) | Op::Workdir(_) => {}
            Op::Run(run) => {
                for mount in &mut run.mounts {
                    match &mut mount.kind {
                        RunMountKind::Bind { from, .. } | RunMountKind::Cache { from, .. } => {
                            move_to(from);
                        }
                        _ => {}
                    }
                }
            }
            Op::Copy(copy) => {
                for source in &mut copy.sources {
                    if let CopySource::Path { from, .. } = source {
                        move_to(from);
                    }
                }
            }
        }
        self
    }
}
