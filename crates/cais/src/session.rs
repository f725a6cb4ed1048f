//! One run of the command line: its configuration, and the engine once it is needed.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use engine::{Engine, Result};

use crate::config::Config;

/// What every command has at hand.
pub(crate) struct Session {
    config: Config,
    engine: OnceCell<Engine>,
    /// What was said between the name of a group of commands and that of its command.
    group: Option<ArgMatches>,
}

impl Session {
    pub(crate) fn new(matches: &ArgMatches) -> Result<Self> {
        let mut config = Config::load()?;
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        config.root = path("root").or(config.root);
        config.run_root = path("run-root").or(config.run_root);
        let driver = matches.get_one::<String>("storage-driver").cloned();
        config.storage_driver = driver.or(config.storage_driver);
        Ok(Self { config, engine: OnceCell::new(), group: None })
    }

    /// The same, for a command of a group.
    pub(crate) fn in_group(self, group: Option<ArgMatches>) -> Self {
        Self { group, ..self }
    }

    /// What was said between the name of a group of commands and that of its command.
    pub(crate) fn group(&self) -> Option<&ArgMatches> {
        self.group.as_ref()
    }

    /// The engine, opened at the first call.
    pub(crate) fn engine(&self) -> Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let (root, run_root) = self.config.roots();
        let driver = self.config.driver()?;
        let engine = Engine::open(&root, &run_root, driver, self.config.registry.clone())?;
        let engine = engine.with_sync(self.config.sync.unwrap_or(true));
        let engine = engine.with_adopter(self.adopter(&root, &run_root));
        Ok(self.engine.get_or_init(|| engine))
    }

    /// This program, with the same roots, giving a container another monitor.
    fn adopter(&self, root: &Path, run_root: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec!["/proc/self/exe".into()];
        command.extend(["--root".into(), root.into(), "--run-root".into(), run_root.into()]);
        if let Some(driver) = &self.config.storage_driver {
            command.extend(["--storage-driver".into(), driver.into()]);
        }
        command.extend(["system".into(), "adopt".into()]);
        command
    }

    /// Makes room if the disk is too full for what comes, and says so on standard error.
    pub(crate) fn relieve(&self) -> Result<()> {
        let Some(marks) = self.watermarks() else { return Ok(()) };
        if let Some(relief) = self.engine()?.relieve(marks)? {
            crate::progress::note(&format!(
                "cais: the disk was {}% full: removed {} unused images and what nothing needs, {}; now {}%",
                relief.before,
                relief.images,
                crate::output::human_size(relief.bytes, 4),
                relief.after
            ));
        }
        Ok(())
    }

    /// Another engine, over what is kept below `root`; the usual root without one.
    pub(crate) fn engine_at(&self, root: Option<&Path>) -> Result<Engine> {
        let (own, run_root) = self.config.roots();
        let driver = self.config.driver()?;
        let root = root.unwrap_or(&own);
        let engine = Engine::open(root, &run_root, driver, self.config.registry.clone())?;
        Ok(engine.with_sync(self.config.sync.unwrap_or(true)))
    }

    /// When room is made before something is added.
    pub(crate) fn watermarks(&self) -> Option<engine::Watermarks> {
        self.config.storage.watermarks()
    }

    /// How registries are reached.
    pub(crate) fn registry(&self) -> &registry::Config {
        &self.config.registry
    }

    /// The root of what is kept, and of what ends with the machine.
    pub(crate) fn roots(&self) -> (PathBuf, PathBuf) {
        self.config.roots()
    }

    /// Writes a line of output. A reader that has gone ends the program quietly, as `head` expects.
    pub(crate) fn say(&self, line: impl AsRef<str>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
        written.or_else(quiet)
    }

    /// Writes text as it is.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes bytes as they are: names of files need not be text.
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.or_else(quiet)
    }

    /// Writes as much as `write` has to say, piece by piece.
    pub(crate) fn stream(
        &self,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let written = write(&mut out).and_then(|()| out.flush());
        written.or_else(|error| match error.downcast::<engine::Error>() {
            Ok(error) => Err(error),
            Err(error) => quiet(error),
        })
    }
}

fn quiet(error: std::io::Error) -> Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(engine::Error::caused(engine::Kind::Internal, "write to standard output", error))
}
