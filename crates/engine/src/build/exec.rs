//! RUN: a command in a container of its own, on the writable directory that becomes the layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use build::{From, Ignore, Key, RunMount, RunMountKind, RunOp};
use oci::{ContainerConfig, Digest, Platform, Rootfs};
use runtime::{Launch, SignalFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat};

use super::cache_mount::Caches;
use super::conditions::Conditions;
use super::copy::Target;
use super::hash::Tally;
use super::source::{Wanted, lstat, named};
use super::ssh::Forward;
use super::step::{Site, Step, Surroundings, below};
use crate::Engine;
use crate::container::{Container, Record, State};
use crate::error::{Doing, Error, Kind, Result};
use crate::file::create_dir;
use crate::hold::{stdio, terminal_streams};
use crate::image::{from_cgroup, from_runtime};
use crate::monitor::relay::Relay;
use crate::settings::{Attached, Mount, MountSource, NetworkMode, Security, Settings};
use crate::terminal::RawMode;
use crate::{network, spec};

/// The host name of every command, which is BuildKit's: so that it tells nothing of the machine.
const HOSTNAME: &str = "buildkitsandbox";

/// Where the socket of an SSH agent is, with its number behind it; BuildKit's.
const SSH_AGENT: &str = "/run/buildkit/ssh_agent";

/// What a command gets besides its files, until it has ended.
#[derive(Default)]
struct Given {
    mounts: Vec<Mount>,
    env: Vec<String>,
    caches: Caches,
    /// What leads to SSH agents.
    forwards: Vec<Forward>,
    /// The digests of files that were copied, by the mount's number.
    brought: Vec<(usize, Digest)>,
}

impl Engine {
    /// Runs the command of a step; the key of what it really had.
    pub(crate) fn run_step(
        &self,
        step: &Step<'_>,
        op: &RunOp,
        site: &Site<'_>,
        rootfs: &Rootfs,
        around: &Surroundings,
    ) -> Result<Key> {
        create_dir(&site.run_dir)?;
        let mut given = self.give(step, op, site, around)?;
        let mut key = step.key.clone();
        for (index, digest) in &given.brought {
            key.set(format!("mount.{index}"), digest.to_string());
        }
        let stubs = self.missing(&step.base, &given.mounts)?;
        let mut container = Container {
            record: record(step, op, &given, around)?,
            state: State::default(),
            dir: site.path.clone(),
            run_dir: site.run_dir.clone(),
        };
        let forwards = std::mem::take(&mut given.forwards);
        let conditions = around.conditions.as_ref();
        let code = self.execute_step(&mut container, rootfs, (forwards, conditions));
        self.bury(&mut container);
        let failure = match code {
            Ok(0) => {
                remove_stubs(rootfs, &stubs);
                return Ok(key);
            }
            Ok(code) => {
                let words = op.args.join(" ");
                let message =
                    format!("process {words:?} did not complete successfully: exit code: {code}");
                Error::new(Kind::Invalid, message)
            }
            Err(error) => explained(op, error),
        };
        let kept = (&container.record, &given.env[..]);
        // Without it, the failure is told all the same.
        let _ = self.record_failed(step, site, kept, (around, &failure));
        Err(failure)
    }

    /// Runs a container to its end; its exit code. If it takes input, that is ours.
    pub(crate) fn execute_step(
        &self,
        container: &mut Container,
        rootfs: &Rootfs,
        (forwards, conditions): (Vec<Forward>, Option<&Conditions>),
    ) -> Result<i32> {
        self.take_places(container)?;
        let places = container.state.places.clone();
        network::write_files(container, &places, &[])?;
        let mut plan = spec::plan(container, &self.volumes(), &spec::Joined::default())?;
        if let Some(conditions) = conditions {
            conditions.clocks(&mut plan.spec);
        }
        let resources = plan.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let cgroup = container.make_cgroup(resources).map_err(from_cgroup)?;
        let settings = &container.record.settings;
        let (tty, open_stdin) = (settings.tty, settings.open_stdin);
        let (stdio, mut streams) = stdio(tty, open_stdin, false)?;
        let state = spec::state(container, None);
        let launch = Launch {
            images: Some(&self.containers.images()),
            cgroup: Some(&cgroup),
            user: Some(&container.record.config.user),
            state: Some(&state),
            ..Launch::new(&plan.spec, rootfs, stdio)
        };
        let network = &container.record.settings.network;
        let mut created = runtime::create(&launch, &mut |namespaces| {
            self.attach_network(network, namespaces, &places, &[])?;
            Ok(())
        })
        .map_err(from_runtime)?;
        if let Some(master) = created.take_master() {
            streams = terminal_streams(master)?;
        }
        forwards.into_iter().for_each(Forward::serve);
        let process = created.start().map_err(from_runtime)?;
        let mut relay = Relay::new(&process, streams);
        relay.own = Some(Attached { stdin: open_stdin, stdout: true, stderr: true });
        let raw = if tty { RawMode::enter() } else { Ok(None) };
        let _raw = raw.doing(|| "use the terminal".into())?;
        if open_stdin {
            relay.signals = Some(SignalFd::forwarded().doing(|| "take over signals".into())?);
        }
        let status = relay.run().doing(|| "watch the command".into())?;
        Ok(status.expect("nobody can detach from a command of a build").code())
    }

    /// Makes what is mounted.
    fn give(
        &self,
        step: &Step<'_>,
        op: &RunOp,
        site: &Site<'_>,
        around: &Surroundings,
    ) -> Result<Given> {
        let mut given = Given { caches: self.hold_caches(step, op, around)?, ..Given::default() };
        for (index, mount) in op.mounts.iter().enumerate() {
            let name = format!("mount-{index}");
            let source = match &mount.kind {
                RunMountKind::Bind { from, source } => {
                    let path = below(&site.path, &name)?;
                    let (path, digest) = self.bring(step, from, source, &path, around)?;
                    given.brought.extend(digest.map(|digest| (index, digest)));
                    Some(path)
                }
                RunMountKind::Cache { id, .. } => Some(given.caches.path(id)),
                RunMountKind::Tmpfs { size } => {
                    let mut options = vec!["mode=1777".to_owned()];
                    if *size != 0 {
                        options.push(format!("size={size}"));
                    }
                    let source = MountSource::Tmpfs { options };
                    let target = mount.target.clone();
                    given.mounts.push(Mount {
                        source,
                        target,
                        read_only: mount.read_only,
                        owner: None,
                    });
                    None
                }
                RunMountKind::Secret { .. } => {
                    self.secret(mount, &site.run_dir.join(&name), &around.secrets, &mut given.env)?
                }
                RunMountKind::Ssh { .. } => {
                    let dir = site.run_dir.join(&name);
                    self.ssh(mount, &dir, &around.ssh, &mut given)?;
                    None
                }
            };
            given.mounts.extend(source.map(|path| bind(path, &mount.target, mount.read_only)));
        }
        if let Some((path, text)) = &op.script {
            let dir = below(&site.path, "scripts")?;
            let path = Path::new(path);
            let file = dir.join(path.file_name().unwrap_or_default());
            let doing = || format!("write {}", file.display());
            fs::write(&file, text).doing(doing)?;
            for path in [&dir, &file] {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).doing(doing)?;
            }
            let target = path.parent().unwrap_or(Path::new("/")).to_string_lossy();
            given.mounts.push(bind(dir, &target, true));
        }
        Ok(given)
    }

    /// Copies files that are mounted: what a command writes to them is lost with them. Also the
    /// digest of what was copied, where that may differ from what it was a moment ago.
    pub(crate) fn bring(
        &self,
        step: &Step<'_>,
        from: &From,
        source: &str,
        into: &Path,
        around: &Surroundings,
    ) -> Result<(PathBuf, Option<Digest>)> {
        let files = self.source(from, &step.inputs, around)?;
        let wanted = Wanted { path: source, parents: None, exclude: &Ignore::default() };
        let root = File::open(into).doing(|| format!("open {}", into.display()))?;
        let mut target = Target::new(root.as_fd(), "/files", around.epoch_s);
        target.tally = matches!(from, From::Context(_)).then(|| Tally::new(&files));
        target.mirrors = true;
        for picked in files.pick_exactly(&wanted)? {
            target.copy(&files, &picked)?;
        }
        Ok((into.join("files"), target.tally.map(Tally::finish)))
    }

    /// A secret as a file in memory, as a variable, or not at all.
    fn secret(
        &self,
        mount: &RunMount,
        dir: &Path,
        secrets: &BTreeMap<String, Vec<u8>>,
        env: &mut Vec<String>,
    ) -> Result<Option<PathBuf>> {
        let RunMountKind::Secret { id, env: variable, required, owner } = &mount.kind else {
            return Err(Error::invalid("not a secret"));
        };
        let Some(value) = secrets.get(id) else {
            return match required {
                true => Err(Error::new(Kind::NotFound, format!("secret {id}: not found"))
                    .hint(format!("give it with --secret id={id},src=FILE"))),
                false => Ok(None),
            };
        };
        if let Some(variable) = variable {
            let text = std::str::from_utf8(value).map_err(|_| {
                Error::invalid(format!("secret {id} is no text, which a variable must be"))
            })?;
            env.push(format!("{variable}={text}"));
        }
        if mount.target.is_empty() {
            return Ok(None);
        }
        create_dir(dir)?;
        let path = dir.join("secret");
        let (mode, uid, gid) = *owner;
        let doing = || format!("write secret {id}");
        fs::write(&path, value).doing(doing)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).doing(doing)?;
        chown(&path, Some(uid), Some(gid)).doing(doing)?;
        Ok(Some(path))
    }

    /// A socket that leads to an SSH agent, or none at all.
    fn ssh(
        &self,
        mount: &RunMount,
        dir: &Path,
        agents: &BTreeMap<String, PathBuf>,
        given: &mut Given,
    ) -> Result<()> {
        let RunMountKind::Ssh { id, required, owner } = &mount.kind else {
            return Err(Error::invalid("no SSH agent"));
        };
        let Some(agent) = agents.get(id) else {
            return match required {
                true => Err(Error::new(Kind::NotFound, format!("unset ssh forward key {id}"))
                    .hint(format!(
                        "give an agent with --ssh {id}, or its socket with --ssh {id}=PATH"
                    ))),
                false => Ok(()),
            };
        };
        create_dir(dir)?;
        let socket = dir.join("agent");
        let number = given.forwards.len();
        given.forwards.push(Forward::new(&socket, agent, *owner)?);
        let target = match mount.target.as_str() {
            "" => format!("{SSH_AGENT}.{number}"),
            target => target.to_owned(),
        };
        if number == 0 {
            given.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        given.mounts.push(bind(socket, &target, mount.read_only));
        Ok(())
    }

    /// The places of mounts that are not there yet: the topmost directory of each that has to be
    /// made for it, and the place itself.
    fn missing(&self, layers: &[Digest], mounts: &[Mount]) -> Result<Vec<(PathBuf, PathBuf)>> {
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        let view = super::source::Source::tree(self.store.open_chain(layers)?);
        let mut missing = Vec::new();
        for mount in mounts {
            let target = Path::new(mount.target.trim_start_matches('/'));
            let mut above: Vec<&Path> = target.ancestors().collect();
            above.pop();
            above.reverse();
            for path in above {
                if view.find(path)?.is_none() {
                    missing.push((path.to_owned(), target.to_owned()));
                    break;
                }
            }
        }
        Ok(missing)
    }
}

/// Removes the places that were made for mounts, if nothing was put there. The command may have put
/// links in their way, which are not followed (CVE-2024-23652).
fn remove_stubs(rootfs: &Rootfs, stubs: &[(PathBuf, PathBuf)]) {
    let Rootfs::Overlay { upper, .. } = rootfs else { return };
    let Ok(upper) = File::open(upper) else { return };
    for (topmost, target) in stubs {
        for path in target.ancestors() {
            // What is in use stays: it is the command's, or is needed for what is.
            if remove_stub(&upper, path, path == target.as_path()).is_none() || path == topmost {
                break;
            }
        }
    }
}

fn remove_stub(upper: &File, path: &Path, is_target: bool) -> Option<()> {
    let parent = named(path.parent()?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let parent = openat2(upper, parent, flags, Mode::empty(), resolve).ok()?;
    let name = path.file_name()?;
    let stat = lstat(parent.as_fd(), name).ok()??;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match is_target && kind == FileType::RegularFile && stat.st_size == 0 {
        true => unlinkat(&parent, name, AtFlags::empty()).ok(),
        false => unlinkat(&parent, name, AtFlags::REMOVEDIR).ok(),
    }
}

fn bind(path: PathBuf, target: &str, read_only: bool) -> Mount {
    let source = MountSource::Bind {
        path,
        create: false,
        propagation: "rprivate".into(),
        recursive: true,
        writable_below: false,
        subpath: PathBuf::new(),
    };
    Mount { source, target: target.to_owned(), read_only, owner: None }
}

/// Why a command cannot be executed, where that is because it is for another machine.
fn explained(op: &RunOp, error: Error) -> Error {
    let host = Platform::host();
    if op.platform.architecture == host.architecture || !is_of_another_format(&error) {
        return error;
    }
    let message = format!("a command for {} cannot be executed on {host}", op.platform);
    Error::caused(Kind::Unsupported, message, error).hint(
        "register an interpreter with binfmt_misc, such as qemu-user-static's with the flag F, or \
         cross-compile in a stage that starts FROM --platform=$BUILDPLATFORM",
    )
}

/// Whether the kernel knows no way to execute a program: ENOEXEC of execve(2).
fn is_of_another_format(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().to_lowercase().contains("exec format error") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A mount as `--mount` has it.
pub(crate) fn described(mount: &RunMount) -> String {
    let mut text = match &mount.kind {
        RunMountKind::Bind { source, .. } => format!("type=bind,source={source}"),
        RunMountKind::Cache { id, sharing, .. } => {
            format!("type=cache,id={id},sharing={}", format!("{sharing:?}").to_lowercase())
        }
        RunMountKind::Tmpfs { size: 0 } => "type=tmpfs".to_owned(),
        RunMountKind::Tmpfs { size } => format!("type=tmpfs,size={size}"),
        RunMountKind::Secret { id, env, .. } => {
            let env = env.as_ref().map_or_else(String::new, |env| format!(",env={env}"));
            format!("type=secret,id={id}{env}")
        }
        RunMountKind::Ssh { id, .. } => format!("type=ssh,id={id}"),
    };
    if !mount.target.is_empty() {
        text = format!("{text},target={}", mount.target);
    }
    if mount.read_only {
        text += ",readonly";
    }
    text
}

/// The command as a container.
fn record(step: &Step<'_>, op: &RunOp, given: &Given, around: &Surroundings) -> Result<Record> {
    let network = match op.network.as_str() {
        "default" => NetworkMode::Bridge,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        other => {
            let message = format!("network mode {other:?} is not supported by a build");
            return Err(
                Error::new(Kind::Unsupported, message).hint("there are default, none and host")
            );
        }
    };
    let mut env = op.env.clone();
    for variable in op.proxies.iter().chain(&given.env) {
        let name = variable.split('=').next().unwrap_or_default();
        let is_set = op.env.iter().any(|own| own.split('=').next() == Some(name));
        if !is_set || given.env.contains(variable) {
            spec::set(&mut env, variable);
        }
    }
    let own_name = op.hostname.iter().map(|name| (name.clone(), "127.0.0.1".to_owned()));
    let mut settings = Settings {
        hostname: op.hostname.clone().unwrap_or_else(|| HOSTNAME.into()),
        network,
        mounts: given.mounts.clone(),
        extra_hosts: op.hosts.iter().cloned().chain(own_name).collect(),
        limits: around.limits.clone(),
        cgroup_parent: around.cgroup_parent.clone(),
        shm_bytes: around.shm_bytes,
        security: Security { privileged: op.privileged, ..Security::default() },
        ..Settings::default()
    };
    if let Some(conditions) = &around.conditions {
        conditions.settings(&mut settings, &mut env);
    }
    let config = ContainerConfig {
        cmd: op.args.clone(),
        env,
        user: op.user.clone(),
        working_dir: op.workdir.clone(),
        ..ContainerConfig::default()
    };
    Ok(Record {
        id: step.id.clone(),
        name: format!("build-{}", &step.id[..12]),
        created: String::new(),
        image_id: step.key.digest(),
        layers: step.base.clone(),
        manifest: None,
        settings,
        config,
    })
}
