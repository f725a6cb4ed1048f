//! Doing one step, in a process of its own: from the layers that it starts from to those that it
//! leaves.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Seek as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use build::{CopyOp, CopySource, From, GitSource, Ignore, Key, Op, WorkdirOp};
use oci::{Digest, Rootfs};
use rustix::fs::FileType;

use super::cache::Outcome;
use super::conditions::Conditions;
use super::copy::{Attributes, Target};
use super::hash::{Content, Tally, copy_hashed};
use super::lock::Lock;
use super::normalize::{Window, normalize};
use super::secret::Values;
use super::source::{Picked, Source, Wanted};
use super::user;
use crate::Engine;
use crate::error::{Doing, Error, Result};
use crate::file::create_dir;
use crate::settings::Limits;

/// Of a file that stands in a Dockerfile.
const INLINE_MODE: u32 = 0o100_644;
/// Of a file from the network; BuildKit's.
const DOWNLOADED_MODE: u32 = 0o100_600;

/// What a step needs to know, whoever does it.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The contexts that have names, and the main one without.
    pub(crate) contexts: BTreeMap<Option<String>, Context>,
    /// Secrets, by id.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets of SSH agents, by id.
    pub(crate) ssh: BTreeMap<String, PathBuf>,
    /// How much of the machine a command may use.
    pub(crate) limits: Limits,
    /// The control group that those of commands lie in; the default where empty.
    pub(crate) cgroup_parent: String,
    /// Bytes of /dev/shm; the default where 0.
    pub(crate) shm_bytes: u64,
    /// The time of everything that is made, in seconds since 1970.
    pub(crate) epoch_s: i64,
    /// Whether somebody wants to hear of time that passes.
    pub(crate) ticks: bool,
    /// What tells the Dockerfile from others.
    pub(crate) name: String,
    /// What the ids of this build's steps begin with.
    pub(crate) prefix: String,
    /// Another machine, as far as steps can see one: then nothing of what they do is remembered.
    pub(crate) conditions: Option<Conditions>,
    /// Rules of normalisation that are not applied.
    pub(crate) normalize_off: BTreeSet<String>,
    /// If there is one, only what it has comes from the network.
    pub(crate) lock: Option<Lock>,
}

/// A directory whose files a build uses.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) directory: PathBuf,
    pub(crate) ignore: Ignore,
}

impl Context {
    pub(crate) fn open(&self) -> Result<Source> {
        let doing = || format!("open the context {}", self.directory.display());
        let root = File::open(&self.directory).doing(doing)?;
        Ok(Source::context(root.into(), self.ignore.clone()))
    }
}

/// A step, and what those before it left.
pub(crate) struct Step<'a> {
    pub(crate) id: String,
    /// For people.
    pub(crate) name: String,
    pub(crate) op: &'a Op,
    pub(crate) key: &'a Key,
    /// The layers that it starts from.
    pub(crate) base: Vec<Digest>,
    /// Those of the other steps that it needs, by number.
    pub(crate) inputs: HashMap<usize, Vec<Digest>>,
    pub(crate) ignore_cache: bool,
    /// What came from the network, by its address.
    pub(crate) downloads: HashMap<String, Digest>,
    /// Bytes that it left before, if it is done again to see what it leaves.
    pub(crate) left: Option<u64>,
    /// Where repositories are checked out: see [`repository_name`].
    pub(crate) repositories: HashMap<String, PathBuf>,
}

/// What a step comes to: the digest of the key of what it really had, and the layers that it leaves.
pub(crate) type Left = (Digest, Vec<Digest>);

/// What tells a repository, as it is asked for, from others.
pub(crate) fn repository_name(source: &GitSource) -> String {
    format!("{source:?}")
}

/// The directory that a step works in. It is removed with whoever holds it.
pub(crate) struct Site<'a> {
    engine: &'a Engine,
    pub(crate) path: PathBuf,
    /// What of it lies in memory.
    pub(crate) run_dir: PathBuf,
    /// Whether what is on disk is not removed with it.
    pub(crate) stays: Cell<bool>,
    _lock: File,
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // What stays is swept by the next build.
        super::conditions::release(&self.path);
        let _ = std::fs::remove_dir_all(&self.run_dir);
        if !self.stays.get() {
            let _ = self.engine.store.discard(&self.path);
        }
    }
}

impl Engine {
    /// Does a step, or finds that somebody else has done it meanwhile.
    pub(crate) fn perform(&self, step: &Step<'_>, around: &Surroundings) -> Result<Left> {
        let digest = step.key.digest();
        let conditions = around.conditions.as_ref();
        let _lock = conditions.is_none().then(|| self.lock_step(&digest)).transpose()?;
        if !step.ignore_cache
            && let Some(layers) = self.recall_step(&digest)?
        {
            return Ok((digest, layers));
        }
        let site = self.site(&step.id)?;
        let workplace = self.workplace(step, &site)?;
        let is_linked = matches!(step.op, Op::Copy(copy) if copy.link);
        let below = if is_linked { &[][..] } else { &step.base };
        let rootfs = self.store.prepare(below, &workplace, true)?;
        // Files of a context may have changed since the step's key was made of them.
        let key = match step.op {
            Op::Image(_) => step.key.clone(),
            Op::Run(run) => {
                let begun = SystemTime::now();
                let key = self.run_step(step, run, &site, &rootfs, around)?;
                if let Rootfs::Overlay { upper, .. } = &rootfs {
                    let time = Window::since(begun, around.epoch_s);
                    normalize(upper, &time, &around.normalize_off)?;
                }
                key
            }
            Op::Copy(copy) => self.copy_step(step, copy, &site, &rootfs, around)?,
            Op::Workdir(workdir) => {
                self.workdir_step(workdir, &rootfs, around)?;
                step.key.clone()
            }
        };
        Values::new(&around.secrets).check_files(&rootfs)?;
        let mut layers = step.base.clone();
        layers.extend(self.store.layer_of(&rootfs, around.epoch_s)?);
        let outcome = Outcome { key, layers };
        if conditions.is_none() {
            self.remember_step(&outcome)?;
        }
        Ok((outcome.key.digest(), outcome.layers))
    }

    fn site(&self, id: &str) -> Result<Site<'_>> {
        let (path, lock) = self.make_run_dir(id)?;
        let (run_dir, stays) = (self.containers.run_dir(id), Cell::new(false));
        Ok(Site { engine: self, path, run_dir, stays, _lock: lock })
    }

    fn workdir_step(&self, op: &WorkdirOp, rootfs: &Rootfs, around: &Surroundings) -> Result<()> {
        let view = self.store.open_view(rootfs, true)?;
        let owner = match op.user.as_str() {
            "" => None,
            user => Some(user::owner(view.as_fd(), user)?),
        };
        let destination = format!("{}/", op.path.trim_end_matches('/'));
        let target = Target { owner, ..Target::new(view.as_fd(), &destination, around.epoch_s) };
        target.directory().map(drop)
    }

    /// Copies files; the key of what was really copied.
    fn copy_step(
        &self,
        step: &Step<'_>,
        op: &CopyOp,
        site: &Site<'_>,
        rootfs: &Rootfs,
        around: &Surroundings,
    ) -> Result<Key> {
        let view = self.store.open_view(rootfs, true)?;
        let owner = match &op.chown {
            None => None,
            // A layer that stands alone knows no names: they are those of what it lies on.
            Some(user) if op.link => {
                Some(user::owner(self.store.open_chain(&step.base)?.as_fd(), user)?)
            }
            Some(user) => Some(user::owner(view.as_fd(), user)?),
        };
        let mut target = Target {
            owner,
            chmod: op.chmod.as_ref(),
            ..Target::new(view.as_fd(), &op.destination, around.epoch_s)
        };
        let mut key = step.key.clone();
        for (index, source) in op.sources.iter().enumerate() {
            match source {
                CopySource::Inline { name, content } => {
                    target.write(name, &mut content.as_bytes(), INLINE_MODE)?;
                }
                CopySource::Url { url, name, unpack, .. } => {
                    let digest = step.downloads.get(url).expect("it is got before its step");
                    let mut file = self.open_download(digest)?;
                    match *unpack && store::is_archive(&mut file)? {
                        true => self.unpack(&mut file, site, &target)?,
                        false => target.write(name, &mut file, DOWNLOADED_MODE)?,
                    }
                }
                CopySource::Git(source) => {
                    let tree = &step.repositories[&repository_name(source)];
                    let root = File::open(tree).doing(|| format!("open {}", tree.display()))?;
                    let files = Source::context(root.into(), Ignore::default());
                    for picked in pick_all(&files, &op.exclude)? {
                        target.copy(&files, &picked)?;
                    }
                }
                CopySource::Path { from, unpack, .. } => {
                    let files = self.source(from, &step.inputs, around)?;
                    target.tally = matches!(from, From::Context(_)).then(|| Tally::new(&files));
                    for picked in pick(&files, source, &op.exclude)? {
                        if !(*unpack && self.unpack_picked(&files, &picked, site, &mut target)?) {
                            target.copy(&files, &picked)?;
                        }
                    }
                    if let Some(tally) = target.tally.take() {
                        key.set(format!("content.{index}"), tally.finish().to_string());
                    }
                }
            }
        }
        Ok(key)
    }

    /// Unpacks what was picked, if that is an archive: whether it was.
    fn unpack_picked(
        &self,
        files: &Source,
        picked: &Picked,
        site: &Site<'_>,
        target: &mut Target<'_>,
    ) -> Result<bool> {
        let [entry] = &picked.entries[..] else { return Ok(false) };
        if picked.is_directory || !FileType::from_raw_mode(entry.stat.st_mode).is_file() {
            return Ok(false);
        }
        let mut file = files.open_file(&entry.path)?;
        if !store::is_archive(&mut file)? {
            return Ok(false);
        }
        let Some(tally) = &mut target.tally else {
            return self.unpack(&mut file, site, target).map(|()| true);
        };
        // It is unpacked from a copy, so that what is unpacked is what was hashed.
        let doing = || format!("copy {}", entry.path.display());
        let path = site.path.join("archive");
        let mut copy =
            File::options().read(true).write(true).create_new(true).open(&path).doing(doing)?;
        std::fs::remove_file(&path).doing(doing)?;
        let digest = copy_hashed(&mut file, &mut copy).doing(doing)?;
        copy.rewind().doing(doing)?;
        tally.begin(picked);
        tally.entry(entry, &Content::Data(digest, Attributes::new()));
        self.unpack(&mut copy, site, target).map(|()| true)
    }

    /// Unpacks an archive into the target.
    fn unpack(&self, file: &mut File, site: &Site<'_>, target: &Target<'_>) -> Result<()> {
        let scratch = site.path.join("unpacked");
        create_dir(&scratch)?;
        self.store.unpack_files(file, &scratch)?;
        let root = File::open(scratch.join("tree")).doing(|| "open what was unpacked".into())?;
        let unpacked = Source::tree(root.into());
        let all = Wanted { path: "/", parents: None, exclude: &Ignore::default() };
        let destination = format!("{}/", target.destination.trim_end_matches('/'));
        // Modes are as tar has them.
        let mut inside = Target {
            owner: target.owner,
            ..Target::new(target.root, &destination, target.epoch_s)
        };
        for picked in unpacked.pick(&all)? {
            inside.copy(&unpacked, &picked)?;
        }
        Ok(self.store.discard(&scratch)?)
    }

    /// Opens what files come from.
    pub(crate) fn source(
        &self,
        from: &From,
        inputs: &HashMap<usize, Vec<Digest>>,
        around: &Surroundings,
    ) -> Result<Source> {
        match from {
            From::Context(name) => match around.contexts.get(name) {
                Some(context) => context.open(),
                None => Err(Error::invalid("there is no context to copy files from")
                    .hint("give a directory, not only a Dockerfile on standard input")),
            },
            From::Step(step) => {
                let layers = inputs.get(step).expect("the steps that it needs are its inputs");
                Ok(Source::tree(self.store.open_chain(layers)?))
            }
            From::Scratch => Ok(Source::tree(self.store.open_chain(&[])?)),
        }
    }
}

/// What a source of COPY or ADD comes to.
pub(crate) fn pick(files: &Source, source: &CopySource, exclude: &[String]) -> Result<Vec<Picked>> {
    let CopySource::Path { path, parents, .. } = source else { return Ok(Vec::new()) };
    let exclude = Ignore::new(exclude).map_err(|error| Error::invalid(error.to_string()))?;
    files.pick(&Wanted { path, parents: parents.as_deref(), exclude: &exclude })
}

fn pick_all(files: &Source, exclude: &[String]) -> Result<Vec<Picked>> {
    let exclude = Ignore::new(exclude).map_err(|error| Error::invalid(error.to_string()))?;
    files.pick(&Wanted { path: "/", parents: None, exclude: &exclude })
}

/// A file below a directory of the step's own, with its directories.
pub(crate) fn below(site: &Path, name: &str) -> Result<PathBuf> {
    let path = site.join(name);
    create_dir(&path)?;
    Ok(path)
}
