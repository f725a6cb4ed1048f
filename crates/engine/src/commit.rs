//! Containers as images and archives.

use std::io::Write;

use oci::{ContainerConfig, Reference};
use runtime::cgroup::Cgroup;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use store::{Commit, Image};

use crate::Engine;
use crate::container::{Container, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::image::from_cgroup;

/// What a container is committed as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommitOptions {
    /// Who made it.
    pub author: String,
    /// The remark in its history.
    pub message: String,
    /// Whether its processes stand still meanwhile.
    pub pause: bool,
    /// What containers of the new image run, and how.
    pub config: ContainerConfig,
    /// The image's name, if it gets one.
    pub reference: Option<Reference>,
}

impl Engine {
    /// Makes an image of a container.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the container is being removed, [`Kind::Invalid`] for a name with a
    /// digest or files that no layer can hold.
    pub fn commit(&self, container: &Container, options: CommitOptions) -> Result<Image> {
        if container.state.status == Status::Removing {
            let text = format!("container {} is being removed", container.record.name);
            return Err(Error::new(Kind::Conflict, text));
        }
        if options.reference.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let rootfs = self.store.rootfs(container.record.chain(), container.directory(), false)?;
        let frozen = match options.pause && container.state.status == Status::Running {
            true => Some(Frozen::new(container)?),
            false => None,
        };
        let changes = self.store.changes(&rootfs);
        // What follows needs nobody to stand still.
        drop(frozen);
        let image_id = container.record.image_id.to_string();
        let commit = Commit {
            layers: container.record.layers.clone(),
            parent: self.store.look_up(&image_id).ok(),
            created_by: container.record.config.cmd.join(" "),
            config: options.config,
            author: options.author,
            message: options.message,
            reference: options.reference,
        };
        let image = self.store.commit(&changes?, &commit)?;
        let name = commit.reference.as_ref().map(Reference::familiar).unwrap_or_default();
        if !name.is_empty() {
            self.emit(self.image_event("tag", &image, &name));
        }
        let event = Event::container("commit", container).with("comment", &commit.message);
        self.emit(event.with("imageID", &image.id.to_string()).with("imageRef", &name));
        Ok(image)
    }

    /// Writes all files of a container, as it sees them but for its mounts, as an archive.
    ///
    /// # Errors
    /// If they cannot be read, or the archive not be written.
    pub fn export<W: Write>(&self, container: &Container, out: W) -> Result<W> {
        let rootfs = self.store.rootfs(container.record.chain(), container.directory(), false)?;
        let out = self.store.export(&rootfs, out)?;
        self.emit(Event::container("export", container));
        Ok(out)
    }
}

/// The processes of a container, standing still as long as this lives, or its process does.
pub(crate) struct Frozen {
    cgroup: Cgroup,
    /// Lets the guard go.
    end: Option<std::os::fd::OwnedFd>,
    guard: runtime::Child,
}

impl Frozen {
    pub(crate) fn new(container: &Container) -> Result<Self> {
        let doing = || format!("pause container {}", container.record.name);
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        let (watched, end) = pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
        match runtime::fork().doing(doing)? {
            runtime::Fork::Parent(guard) => {
                drop(watched);
                let frozen = Self { cgroup, end: Some(end), guard };
                frozen.cgroup.freeze().map_err(from_cgroup)?;
                Ok(frozen)
            }
            runtime::Fork::Child => {
                drop(end);
                // A signal from the terminal is for whoever thaws, and this is who does it last.
                let _ = rustix::process::setsid();
                // The end of the pipe is the end of whoever froze them, however that came about.
                let _ = rustix::io::retry_on_intr(|| rustix::io::read(&watched, &mut [0; 1]));
                let _ = cgroup.thaw();
                runtime::exit_now(0)
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.cgroup.thaw();
        drop(self.end.take());
        let _ = self.guard.wait();
    }
}
