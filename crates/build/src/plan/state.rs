//! Where a stage stands between two of its instructions.

use std::borrow::Cow;

use oci::ImageConfig;

use crate::graph::{Entry, StepId};
use crate::language::expand::Variables;

/// What is known of a stage so far.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The last step of its files.
    pub(super) tree: Option<StepId>,
    /// The configuration that its image would have; its history is the base's.
    pub(super) image: ImageConfig,
    /// What happened since.
    pub(super) history: Vec<Entry>,
    /// The environment of its commands: the image's and the arguments.
    env: Vec<(String, String)>,
    /// Arguments that were declared, with the value that each had there.
    pub(super) args: Vec<(String, Option<String>)>,
    /// Whether this file has said where commands start.
    pub(super) has_workdir: bool,
    /// Whether this stage has said what is run.
    pub(super) has_cmd: bool,
    /// ONBUILD of this stage: for stages that start from it.
    pub(super) triggers: Vec<String>,
    /// The platform that its commands run on.
    pub(super) platform: Option<oci::Platform>,
}

impl Variables for State {
    fn get(&self, name: &str) -> Option<String> {
        self.env.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }
}

impl State {
    /// A stage at its beginning.
    pub(super) fn new(tree: Option<StepId>, image: ImageConfig, platform: oci::Platform) -> Self {
        Self { tree, image, platform: Some(platform), ..Self::default() }
    }

    /// Makes the environment what the image says.
    pub(super) fn take_image_env(&mut self) {
        for variable in self.image.config.env.clone() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            self.set(name, value);
        }
    }

    /// Sets a variable; it moves to the end.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(own, _)| own != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Sets a variable of the image, too, in its old place if it has one.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.set(name, value);
        let env = &mut self.image.config.env;
        let variable = format!("{name}={value}");
        match env.iter_mut().find(|own| own.split('=').next() == Some(name)) {
            Some(own) => *own = variable,
            None => env.push(variable),
        }
    }

    /// The environment of a command.
    pub(super) fn env(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The names of all variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(name, _)| name.as_str())
    }

    /// Adds to the history; `step` is what made a layer. Who asks at an address is not told.
    pub(super) fn record(&mut self, created_by: String, step: Option<StepId>) {
        let redacted = match oci::redacted(&created_by) {
            Cow::Owned(text) => Some(text),
            Cow::Borrowed(_) => None,
        };
        let created_by = redacted.unwrap_or(created_by);
        self.history.push(Entry { created_by, step });
    }

    /// The state of a stage that starts from this one.
    pub(super) fn inherited(&self) -> Self {
        let mut next = self.clone();
        next.image.config.on_build = Vec::new();
        next.has_cmd = false;
        next.triggers = Vec::new();
        next
    }

    /// A path, seen from the working directory; a slash at its end stays.
    pub(super) fn absolute(&self, path: &str) -> String {
        let mut whole = match path.starts_with('/') {
            true => crate::ignore::clean(path),
            false => {
                let directory = &self.image.config.working_dir;
                crate::ignore::clean(&format!("/{directory}/{path}"))
            }
        };
        let is_directory = path.is_empty()
            || path == "."
            || path.ends_with('/')
            || path.ends_with("/.")
            || path.ends_with("..");
        if is_directory && !whole.ends_with('/') {
            whole.push('/');
        }
        whole
    }
}
