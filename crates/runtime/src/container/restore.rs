//! Making a container again from the files of a checkpoint, through CRIU.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::Rootfs;
use oci::runtime::{ContainerState, Hook, LinuxNamespaceType, LinuxResources, Spec};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, fchmod, fchown, fstat, mkdirat, openat, unlinkat,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cgroup_path::Place;
use super::checkpoint::{check, check_version, joined, left_alone, stdio_of};
use super::create::{self, Started};
use super::criu::{Criu, Message, Notice, Request, Service, option};
use super::images::{self, Images, Open};
use super::record::{Directory, FILE_MAX};
use super::{Bundle, Console, Container, Error, delete, pages};
use crate::cgroup::Cgroup;
use crate::error::{Doing, Error as RuntimeError};
use crate::launch::{Launch, Stdio};
use crate::mount::external::{self, External};
use crate::mount::filesystem::aside;
use crate::process::Process;
use crate::rtnetlink::{Conversation, socket};
use crate::sys::monitor::collect_others;
use crate::{hook, netdev, procfs, rdt, signal, sys};

/// The name of CRIU's log.
const LOG: &str = "restore.log";
/// The directory below the container's on which CRIU finds the root file system.
const ROOT: &str = "criu-root";
/// The index of the loopback link, in every network namespace.
const LOOPBACK: u32 = 1;

/// A container to make from a checkpoint.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The state root.
    pub root: &'a Path,
    /// Unique below the state root.
    pub id: &'a str,
    /// The bundle, as that of the container that was saved.
    pub bundle: &'a Bundle,
    /// Who gets the terminal.
    pub console: Console,
    /// Where the number of the first process is written; absent until it is whole.
    pub pid_file: Option<&'a Path>,
    /// The cgroup's path is systemd's.
    pub systemd_cgroup: bool,
    /// As that of a new container; see [`Create`](super::Create).
    pub cgroup_optional: bool,
    /// The time, in nanoseconds since 1970.
    pub now_ns: u64,
    /// Where from.
    pub images: Images<'a>,
    /// The profile of a security module, as `type:name`, in the place of the saved one.
    pub lsm_profile: Option<&'a str>,
    /// The SELinux context of mounts, in the place of the saved one.
    pub lsm_mount_context: Option<&'a str>,
}

impl Restore<'_> {
    /// Restores it. Afterwards it is locked until the result is dropped or unlocked.
    ///
    /// # Errors
    /// [`Error::NoCriu`]; [`Error::Criu`]; whatever else prevents it. Nothing of it is left then,
    /// but for the checkpoint and CRIU's log.
    pub fn restore(&self) -> Result<Started, Error> {
        let spec = &self.bundle.spec;
        check(spec)?;
        let criu = Criu::find(self.images.criu)?;
        self.check_version(&criu)?;
        let open = self.images.open(LOG)?;
        let descriptors = read_descriptors(&open, self.images.directory)?;
        pages::check(self.images.directory)?;
        let place = Place::of(spec, self.id, self.systemd_cgroup, self.cgroup_optional)?;
        let directory = Directory::make(self.root, self.id)?;
        let record = create::record(self.bundle, self.id, &place, self.now_ns)?;
        let mut container = Container { directory, record };
        drop(open);
        match self.restore_in(&mut container, &place, (&criu, &descriptors)) {
            Ok((process, master)) => Started::running(process, master, container, spec.clone()),
            Err(error) => {
                // What went wrong first is what matters.
                let cgroup = container.cgroup().ok().flatten();
                if let Some(cgroup) = &cgroup {
                    let _ = cgroup.kill();
                }
                // A process that was on its way is this one's child.
                collect_others(0);
                let _ = delete::destroy(&container, Some(spec), cgroup);
                Err(error)
            }
        }
    }

    fn check_version(&self, criu: &Criu) -> Result<(), Error> {
        check_version(criu, &self.bundle.spec)?;
        let newer =
            [(self.lsm_profile, "--lsm-profile"), (self.lsm_mount_context, "--lsm-mount-context")];
        let mut asked = newer.into_iter().filter(|(value, _)| value.is_some());
        asked.try_for_each(|(_, flag)| criu.require(31_600, flag))
    }

    fn restore_in(
        &self,
        container: &mut Container,
        place: &Place,
        (criu, descriptors): (&Criu, &[String]),
    ) -> Result<(Process, Option<OwnedFd>), Error> {
        // From here on, what is made can be found and deleted.
        container.directory.write(&container.record)?;
        container.directory.write_spec(&self.bundle.bytes)?;
        let resources = self.resources();
        let made = place.make((&self.bundle.spec, &resources), self.cgroup_optional);
        let cgroup = made.inspect_err(|_| {
            // Nothing of it is ours then, and it may be another's.
            (container.record.cgroup, container.record.unit) = (None, None);
        })?;
        container.record.cgroup = cgroup.as_ref().map(Cgroup::path);
        container.directory.write(&container.record)?;
        let group = rdt::Group::make(&self.bundle.spec, self.id)?;

        let rootfs = Rootfs::Dir(self.bundle.rootfs.clone());
        let launch = self.launch(&rootfs);
        let on = self.root.join(self.id).join(ROOT);
        mkdirat(&container.directory, ROOT, Mode::RWXU).doing(|| "make a place for the root")?;
        let on = on.canonicalize().doing(|| "look for the place of the root")?;
        // The session keyring of a new process is its maker's, which may hold the host's keys.
        sys::new_session_keyring().doing(|| "make a session keyring")?;
        let (open, mut options, service) = external::in_own_view(|| {
            let mounts = external::make_root(&launch, &on)?;
            // Of this view: CRIU mounts something in its directory.
            let open = self.images.open(LOG)?;
            self.let_in(&open)?;
            let mut options = self.options(&open, &on);
            let namespaces = self.add_namespaces(criu, &mut options)?;
            self.add_mounts(&mut options, &mounts)?;
            let given: Vec<_> = namespaces.iter().map(|fd| fd.as_fd()).collect();
            Ok::<_, Error>((open, options, criu.start(true, &given)?))
        })?;
        add_pipes(&mut options, descriptors);
        self.admit(&service, cgroup.as_ref(), &mut options)?;
        if let Some(group) = &group {
            group.add(service.pid())?;
        }
        container.record.stdio = stdio_of(rustix::process::getpid().as_raw_pid());
        let mut life = Life { restore: self, container, process: None, master: None };
        let request = (Request::Restore, &options);
        let served = service.serve(request, &mut |notice| life.told(notice));
        let (process, master) = (life.process.take(), life.master.take());
        served.map_err(|failed| open.explain(failed))?;
        let process =
            process.ok_or_else(|| Error::Refused("criu failed: it restored no process".into()))?;
        if let Some(group) = group {
            group.keep();
        }
        unlinkat(&container.directory, ROOT, AtFlags::REMOVEDIR).doing(|| "leave the root")?;
        create::tell(&process, self.pid_file, None)?;
        Ok((process, master))
    }

    /// Processes in a user namespace look for images themselves, so its root may pass through the
    /// directory; the files themselves have CRIU's modes.
    fn let_in(&self, open: &Open) -> Result<(), Error> {
        let linux = self.bundle.spec.linux().as_ref();
        let maps = linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
        let Some(root) = maps.iter().find(|map| map.container_id() == 0) else { return Ok(()) };
        let doing = || "let root of the user namespace into the checkpoint";
        let directory = open.directory();
        let mode = fstat(directory).doing(doing)?.st_mode & 0o7777;
        if mode & 0o001 != 0 {
            return Ok(());
        }
        fchown(directory, None, Some(Gid::from_raw(root.host_id()))).doing(doing)?;
        Ok(fchmod(directory, Mode::from_raw_mode(mode & !0o070 | 0o010)).doing(doing)?)
    }

    fn resources(&self) -> LinuxResources {
        let linux = self.bundle.spec.linux().as_ref();
        create::with_default_devices(
            linux.and_then(|linux| linux.resources().clone()).unwrap_or_default(),
        )
    }

    fn launch<'a>(&'a self, rootfs: &'a Rootfs) -> Launch<'a> {
        let nothing = Stdio::Fds { stdin: None, stdout: None, stderr: None };
        let launch = Launch::new(&self.bundle.spec, rootfs, nothing);
        Launch { id: self.id, bundle: Some(&self.bundle.path), ..launch }
    }

    fn options(&self, open: &Open, root: &Path) -> Message {
        let mut options = self.images.options(open);
        options
            .flag(option::EVASIVE_DEVICES, true)
            // The first process becomes this process' child.
            .flag(option::RST_SIBLING, true)
            .text(option::ROOT, root.as_os_str().as_encoded_bytes());
        let annotations = self.bundle.spec.annotations().clone().unwrap_or_default();
        images::add_config(&mut options, &annotations);
        let module = [
            (option::LSM_PROFILE, self.lsm_profile),
            (option::LSM_MOUNT_CONTEXT, self.lsm_mount_context),
        ];
        for (field, value) in module {
            if let Some(value) = value {
                options.text(field, value);
            }
        }
        options
    }

    /// The namespaces that exist: some are given to CRIU as descriptors, others it joins itself.
    fn add_namespaces(&self, criu: &Criu, options: &mut Message) -> Result<Vec<OwnedFd>, Error> {
        let mut given = Vec::new();
        for (kind, path) in joined(&self.bundle.spec) {
            if let Some((name, key, version)) = left_alone(kind) {
                criu.require(version, &format!("an external {name} namespace"))?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let fd = openat(CWD, path, flags, Mode::empty())
                    .doing(|| format!("open the namespace `{}`", path.display()))?;
                let mut inherited = Message::default();
                inherited.text(1, key).number(2, fd.as_raw_fd().into());
                options.message(option::INHERIT_FD, &inherited);
                given.push(fd);
                continue;
            }
            let name = match kind {
                LinuxNamespaceType::Ipc => "ipc",
                LinuxNamespaceType::Uts => "uts",
                LinuxNamespaceType::User => "user",
                LinuxNamespaceType::Time => "time",
                other => {
                    let text = format!("restoring into an existing {other:?} namespace");
                    return Err(RuntimeError::Unsupported(text).into());
                }
            };
            let pair = Message::pair(name, path.as_os_str().as_encoded_bytes());
            options.message(option::JOIN_NS, &pair);
        }
        Ok(given)
    }

    fn add_mounts(&self, options: &mut Message, mounts: &[External]) -> Result<(), Error> {
        images::add_mounts(options, mounts.iter().map(images::pair));
        let devices = external::of_devices(&self.bundle.spec)?;
        images::add_mounts(options, devices.iter().map(images::pair));
        let linux = self.bundle.spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_ref());
        if masked.is_some_and(|paths| !paths.is_empty()) {
            let null = Path::new("/dev/null");
            images::add_mounts(options, [(null, null)]);
        }
        Ok(())
    }

    /// Moves CRIU into the container's cgroup: what it makes is there from the beginning.
    fn admit(
        &self,
        service: &Service,
        cgroup: Option<&Cgroup>,
        options: &mut Message,
    ) -> Result<(), Error> {
        let Some(cgroup) = cgroup else { return Ok(()) };
        let pid = service.pid();
        let moved = cgroup.admit(pid)?;
        cgroup.attach(pid, moved)?;
        cgroup.settle()?;
        let text = procfs::read(&format!("/proc/{pid}/cgroup")).doing(|| "look at the cgroup")?;
        for (controller, path) in roots(&text) {
            options.message(option::CG_ROOT, &Message::pair(controller, path));
        }
        let rootfs = Rootfs::Dir(PathBuf::new());
        let bound = external::of_cgroups(&self.launch(&rootfs), pid)?;
        images::add_mounts(options, bound.iter().map(images::pair));
        Ok(())
    }
}

/// Each controller with the path of the group, from `/proc/<pid>/cgroup` (cgroups(7)); version 2 is
/// the one without a name.
fn roots(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        controllers.split(',').map(move |controller| (controller, path))
    })
}

/// Pipes that were the input and output of the container become this process' own.
fn add_pipes(options: &mut Message, descriptors: &[String]) {
    // The standard streams; whatever else the file names is not ours to hand over.
    for (number, name) in (0..3).zip(descriptors) {
        if name.contains("pipe:") {
            let mut inherited = Message::default();
            inherited.text(1, name).number(2, number);
            options.message(option::INHERIT_FD, &inherited);
        }
    }
}

/// Reads what [`Checkpoint`](super::Checkpoint) wrote.
fn read_descriptors(open: &Open, directory: &Path) -> Result<Vec<String>, Error> {
    let name = images::DESCRIPTORS;
    let doing = || format!("read the checkpoint in `{}`: open `{name}`", directory.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(open.directory(), name, flags, Mode::empty()).doing(doing)?;
    let mut bytes = Vec::new();
    File::from(file).take(FILE_MAX).read_to_end(&mut bytes).doing(doing)?;
    // It is `null` where somebody else knew of none.
    let names: Option<Vec<String>> =
        serde_json::from_slice(&bytes).map_err(std::io::Error::from).doing(doing)?;
    Ok(names.unwrap_or_default())
}

/// A container while CRIU makes it.
struct Life<'a> {
    restore: &'a Restore<'a>,
    container: &'a mut Container,
    process: Option<Process>,
    master: Option<OwnedFd>,
}

impl Life<'_> {
    fn told(&mut self, notice: Notice) -> Result<(), Error> {
        match notice.name.as_str() {
            "setup-namespaces" => self.furnish(notice.pid),
            "post-restore" => self.begin(notice.pid),
            "orphan-pts-master" => self.deliver(notice.fd),
            _ => Ok(()),
        }
    }

    /// What a new container gets when its namespaces are there.
    fn furnish(&self, pid: i32) -> Result<(), Error> {
        let spec = &self.restore.bundle.spec;
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let fresh = namespaces.iter().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Network
                && namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
        });
        if fresh {
            furnish_network(spec, pid)?;
        }
        let Some(hooks) = spec.hooks() else { return Ok(()) };
        let mut state = self.container.state(ContainerState::Creating);
        state.set_pid(Some(pid));
        let call = |name, hooks: &Option<Vec<Hook>>| {
            let hooks = hooks.as_deref().unwrap_or_default();
            hook::Ready::new(name, hooks, &state).and_then(hook::Ready::run)
        };
        call("prestart", hook::prestart(hooks))?;
        Ok(call("createRuntime", hooks.create_runtime())?)
    }

    /// Everything of it is there; it goes on when this returns.
    fn begin(&mut self, pid: i32) -> Result<(), Error> {
        let rootfs = Rootfs::Dir(self.restore.bundle.rootfs.clone());
        external::confirm(&self.restore.launch(&rootfs), pid)?;
        let doing = || "look at the restored process";
        let number = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH).doing(doing)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).doing(doing)?;
        self.process = Some(Process::new(pid, pidfd));
        self.container.record.pid = pid;
        self.container.record.start_time = signal::start_time(pid)?;
        self.container.directory.write(&self.container.record)
    }

    /// A terminal whose master was outside: the first is the container's own, others were of
    /// processes that somebody executed in it.
    fn deliver(&mut self, master: Option<OwnedFd>) -> Result<(), Error> {
        let Some(master) = master.filter(|_| self.master.is_none()) else { return Ok(()) };
        self.master = self.restore.console.deliver(Some(master))?;
        Ok(())
    }
}

/// The links of a network namespace that CRIU makes empty.
fn furnish_network(spec: &Spec, pid: i32) -> Result<(), Error> {
    let doing = || "open the network namespace";
    let path = format!("/proc/{pid}/ns/net");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let network = openat(CWD, path, flags, Mode::empty()).doing(doing)?;
    // A socket stays in the namespace where it was made.
    let there = aside(|| {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .doing(doing)?;
        socket().doing(doing)
    })?;
    Conversation::new(there).switch(LOOPBACK, true).doing(|| "switch the loopback link on")?;
    Ok(netdev::move_all(spec, &network)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_has_a_root() {
        let text = "3:cpu,cpuacct:/x\n2:name=systemd:/\n0::/a:b\n";
        let expected = [("cpu", "/x"), ("cpuacct", "/x"), ("name=systemd", "/"), ("", "/a:b")];
        assert_eq!(roots(text).collect::<Vec<_>>(), expected);
    }
}
