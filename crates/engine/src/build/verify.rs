//! `build --verify`: each step once more, under other conditions, and what it leaves then.
//!
//! Every step starts from what the first build left before it, so that a difference is told of the
//! instruction that makes it, and not of those that only carry it on.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::time::Duration;

use build::{Dockerfile, Graph, Op, Request, Span};
use oci::Digest;
use rustix::fs::FileType;
use store::{Comparison, Difference, Node};

use super::conditions::Conditions;
use super::hash::Known;
use super::why::Account;
use super::worker::{StepWorker, Verifying};
use super::{BuildError, BuildEvent, BuildOptions};
use crate::Engine;
use crate::error::{Doing, Error, Result};

/// How much later the clock is: as many seconds as archives of zip count by. No namespace has a
/// clock of its own that tells the date.
const LATER: Duration = Duration::from_secs(2);
/// Files of one step that are named.
const SHOWN_MAX: usize = 100;
/// Bytes that are shown of two files, from the first that differs.
const EXCERPT_BYTES: usize = 16;

/// What came of doing all steps again.
#[derive(Debug)]
pub struct Verified {
    /// How many steps were done again.
    pub steps: usize,
    /// Those that left something else.
    pub deviations: Vec<Deviation>,
}

/// A step that leaves something else when it is done again.
#[derive(Debug)]
pub struct Deviation {
    /// Its name.
    pub step: String,
    /// The instruction.
    pub span: Span,
    /// Paths, and how what is there differs; the first of them.
    pub files: Vec<(String, String)>,
    /// How many more there are.
    pub omitted: usize,
}

impl Engine {
    /// Does every step of a build again, without anything that is known, and as if on another
    /// machine: later, by other clocks since the start of the machine, in another zone, under another
    /// host name, with one processor, another mask of whoever builds, empty cache mounts, and
    /// directories in another order where there is memory for that. What steps left before is taken
    /// from the last build, which is done where it is not known.
    ///
    /// # Errors
    /// As of [`Engine::build`].
    pub fn verify_build(
        &self,
        options: &BuildOptions,
        events: &mut dyn FnMut(BuildEvent<'_>),
    ) -> std::result::Result<Verified, BuildError> {
        let _lease = self.store.lease().map_err(Error::from)?;
        let _using = self.use_cache()?;
        let file = Dockerfile::parse(&options.dockerfile)?;
        let request = Request {
            no_cache: false,
            no_cache_stages: Default::default(),
            ..options.request.clone()
        };
        let options = BuildOptions { request, pull: false, ..options.clone() };
        let (mut graph, ..) = self.plan_build(&file, &options, &|_| ())?;
        let mut around = self.surroundings(&options)?;
        let known = || {
            let place = options.context.as_ref()?;
            Some(Known::load(self.root.join("build/files"), place))
        };
        let failed = |graph: &Graph, failed: build::Failed<Error>| {
            let span = failed.step.map(|step| graph.steps[step].span);
            BuildError { error: failed.error, span, step: failed.step }
        };
        let mut quiet = |_: BuildEvent<'_>| ();
        let mut worker = StepWorker::new(self, &around, known(), Account::default(), &mut quiet);
        let first = build::solve(&graph, &mut worker).map_err(|error| failed(&graph, error))?;
        drop(worker);
        for step in &mut graph.steps {
            step.ignore_cache = !matches!(step.op, Op::Image(_));
        }
        std::thread::sleep(LATER);
        around.conditions = Some(Conditions);
        let mut worker = StepWorker::new(self, &around, known(), Account::default(), events);
        worker.verifying = Some(Verifying { first, again: Default::default() });
        build::solve(&graph, &mut worker).map_err(|error| failed(&graph, error))?;
        let Some(Verifying { first, again }) = worker.verifying.take() else {
            return Ok(Verified { steps: 0, deviations: Vec::new() });
        };
        let mut deviations = Vec::new();
        for (step, layers) in &again {
            if first[*step] == *layers {
                continue;
            }
            let (mut files, mut omitted) = (self.deviating(&first[*step], layers)?, 0);
            if files.len() > SHOWN_MAX {
                omitted = files.len() - SHOWN_MAX;
                files.truncate(SHOWN_MAX);
            }
            let planned = &graph.steps[*step];
            let step = planned.name.clone();
            deviations.push(Deviation { step, span: planned.span, files, omitted });
        }
        Ok(Verified { steps: again.len(), deviations })
    }

    /// How the files of two chains of layers differ.
    fn deviating(&self, first: &[Digest], again: &[Digest]) -> Result<Vec<(String, String)>> {
        let (first, again) = (self.store.view_layers(first)?, self.store.view_layers(again)?);
        let comparison = Comparison::new(first, again)?;
        let mut found = Vec::new();
        for difference in comparison.differences(&[])? {
            let path = format!("/{}", difference.path.display());
            let how = described(&comparison, &difference)?;
            found.push((path, how.join("; ")));
        }
        if found.is_empty() {
            let how = "the archives of the layers differ, and no file does: hard links, or \
                       removals of what was not there";
            found.push(("/".to_owned(), how.to_owned()));
        }
        Ok(found)
    }
}

fn described(comparison: &Comparison, difference: &Difference) -> Result<Vec<String>> {
    let (old, new) = match (&difference.old, &difference.new) {
        (Some(old), Some(new)) => (old, new),
        (None, _) => return Ok(vec!["only the second time".to_owned()]),
        (_, None) => return Ok(vec!["only the first time".to_owned()]),
    };
    let mut how = Vec::new();
    if old.kind != new.kind {
        how.push(format!("{}, and then {}", kind(old), kind(new)));
    } else if difference.content && old.kind == FileType::RegularFile {
        let open = |node: &Node| comparison.open(&difference.path, node);
        how.push(first_difference(open(old)?, open(new)?)?);
    } else if difference.content && old.kind == FileType::Symlink {
        let target = |node: &Node| {
            let target = node.target.as_deref().unwrap_or_default();
            String::from_utf8_lossy(target).into_owned()
        };
        how.push(format!("leads to {}, and then to {}", target(old), target(new)));
    }
    let mut field = |name: &str, old: String, new: String| {
        if old != new {
            how.push(format!("{name} {old}, and then {new}"));
        }
    };
    field("mode", format!("{:o}", old.mode), format!("{:o}", new.mode));
    let owner = |node: &Node| format!("{}:{}", node.uid, node.gid);
    field("owner", owner(old), owner(new));
    field("device", old.device.to_string(), new.device.to_string());
    if old.kind != FileType::Directory {
        let time = |node: &Node| format!("{}.{:09}", node.mtime.0, node.mtime.1);
        field("time", time(old), time(new));
    }
    if old.xattrs != new.xattrs {
        how.push("extended attributes".to_owned());
    }
    if how.is_empty() {
        how.push("differs".to_owned());
    }
    Ok(how)
}

fn kind(node: &Node) -> &'static str {
    match node.kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        _ => "something special",
    }
}

/// The first byte in which two files differ, and what follows there.
fn first_difference(old: File, new: File) -> Result<String> {
    let doing = || "read a file that differs".to_owned();
    let sizes = [&old, &new].map(|file| file.metadata().map(|found| found.len()));
    let [old_size, new_size] = sizes;
    let (old_size, new_size) = (old_size.doing(doing)?, new_size.doing(doing)?);
    let (mut old, mut new) = (BufReader::new(old).bytes(), BufReader::new(new).bytes());
    let mut at = 0_u64;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    loop {
        let (a, b) = (old.next().transpose().doing(doing)?, new.next().transpose().doing(doing)?);
        if a.is_some() && a == b {
            at += 1;
            continue;
        }
        before.extend(a);
        after.extend(b);
        break;
    }
    for (rest, excerpt) in [(old, &mut before), (new, &mut after)] {
        for byte in rest.take(EXCERPT_BYTES.saturating_sub(1)) {
            excerpt.push(byte.doing(doing)?);
        }
    }
    let shown = |excerpt: &[u8]| match excerpt.is_empty() {
        true => "its end".to_owned(),
        false => format!("\"{}\"", excerpt.escape_ascii()),
    };
    let mut text = format!("from byte {at}: {}, and then {}", shown(&before), shown(&after));
    if old_size != new_size {
        text = format!("{text} ({old_size} bytes, and then {new_size})");
    }
    Ok(text)
}
