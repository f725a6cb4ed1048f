//! From a container's record to the runtime specification's configuration.

mod blockio;
mod capability;
mod cpuset;
mod mounts;
mod resources;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci::Digest;
use oci::runtime::{
    Capability, ContainerState, Linux, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
    LinuxSeccomp, Process, Root, Spec, State, User,
};

use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::settings::{Exec, NetworkMode, Seccomp, Settings, Sharing};

pub(crate) use resources::{devices, resources};

/// Where a login shell looks for programs, as in Docker.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the runtime is told about a container.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    /// Destinations to be filled with the image's content.
    pub(crate) copy_up: Vec<PathBuf>,
    /// Destinations at which only a directory of what they name is mounted.
    pub(crate) subpaths: Vec<(PathBuf, PathBuf)>,
    /// Destinations and layers of images.
    pub(crate) images: Vec<(PathBuf, Vec<Digest>)>,
}

/// Namespaces of other containers that a container joins, as paths; new ones where `None`.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) network: Option<PathBuf>,
    pub(crate) pid: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
}

/// Makes the plan for starting `container`.
pub(crate) fn plan(container: &Container, volumes: &Path, joined: &Joined) -> Result<Plan> {
    let settings = &container.record.settings;
    let granted = capability::granted(&settings.security)?;
    let mounts::Mounts { all, copy_up, subpaths, images } = mounts::mounts(container, volumes)?;
    let mut root = Root::default();
    root.set_readonly(Some(settings.security.read_only));
    let mut spec = Spec::default();
    spec.set_root(Some(root)).set_mounts(Some(all));
    let has_name = !settings.security.host_uts && settings.in_pod.is_empty();
    spec.set_hostname(has_name.then(|| container.record.config_hostname()));
    let domain = Some(settings.domainname.clone()).filter(|name| !name.is_empty());
    spec.set_domainname(domain);
    spec.set_process(Some(process(container, &granted)?));
    spec.set_linux(Some(linux(container, &granted, joined)?));
    let annotations = &settings.annotations;
    if !annotations.is_empty() {
        spec.set_annotations(Some(annotations.clone().into_iter().collect()));
    }
    Ok(Plan { spec, copy_up, subpaths, images })
}

/// What was asked for, and Docker's defaults in a network of its own: any user may listen on low
/// ports and ping. The second needs group numbers that a user namespace may not have.
pub(crate) fn sysctls(settings: &Settings) -> HashMap<String, String> {
    let mut sysctls: HashMap<_, _> = settings.security.sysctls.clone().into_iter().collect();
    let own = !matches!(settings.network, NetworkMode::Host | NetworkMode::Container(_));
    let mut default = |name: &str, value: &str| {
        sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    if own {
        default("net.ipv4.ip_unprivileged_port_start", "0");
    }
    if own && settings.security.user_namespace.is_none() {
        default("net.ipv4.ping_group_range", "0 2147483647");
    }
    sysctls
}

fn linux(container: &Container, granted: &HashSet<Capability>, joined: &Joined) -> Result<Linux> {
    let settings = &container.record.settings;
    let security = &settings.security;
    let devices = resources::devices(settings)?;
    let mut linux = Linux::default();
    linux.set_resources(Some(resources(settings, &devices)?));
    linux.set_devices(Some(devices));
    linux.set_cgroups_path(Some(container.cgroup_path()));
    linux.set_namespaces(Some(namespaces(settings, joined)));
    linux.set_seccomp(seccomp(settings, granted)?);
    linux.set_sysctl(Some(sysctls(settings)));
    let hidden = !(security.privileged || security.unmasked);
    let paths = |paths: &[&str]| {
        let paths = paths.iter().filter(|_| hidden);
        Some(paths.map(|path| (*path).to_owned()).collect())
    };
    linux.set_masked_paths(paths(mounts::MASKED));
    linux.set_readonly_paths(paths(mounts::READ_ONLY));
    if let Some((first, count)) = security.user_namespace {
        let map = LinuxIdMappingBuilder::default().container_id(0u32).host_id(first).size(count);
        let map = map.build().map_err(|error| Error::invalid(error.to_string()))?;
        linux.set_uid_mappings(Some(vec![map])).set_gid_mappings(Some(vec![map]));
    }
    Ok(linux)
}

fn namespaces(settings: &Settings, joined: &Joined) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as T;
    let security = &settings.security;
    let wanted = [
        (T::Mount, true),
        (T::Pid, security.pid != Sharing::Host),
        (T::Ipc, security.ipc != Sharing::Host),
        (T::Uts, !security.host_uts),
        (T::Cgroup, !security.host_cgroup),
        (T::User, security.user_namespace.is_some()),
        (T::Network, settings.network != NetworkMode::Host),
    ];
    let make = |(typ, _)| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace.set_path(match typ {
            T::Network => joined.network.clone(),
            T::Pid => joined.pid.clone(),
            T::Ipc => joined.ipc.clone(),
            T::Uts => joined.uts.clone(),
            _ => None,
        });
        namespace
    };
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(make).collect()
}

fn seccomp(settings: &Settings, granted: &HashSet<Capability>) -> Result<Option<LinuxSeccomp>> {
    if settings.security.privileged {
        return Ok(None);
    }
    match &settings.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => Ok(Some(runtime::seccomp::default_profile(granted))),
        Seccomp::Profile(json) => {
            let profile = runtime::seccomp::docker_profile(json.as_bytes(), granted);
            Ok(Some(profile.map_err(|error| {
                Error::caused(Kind::Invalid, "read the seccomp profile", error)
                    .hint("the profile is in Docker's JSON format: defaultAction, syscalls, …")
            })?))
        }
    }
}

fn process(container: &Container, granted: &HashSet<Capability>) -> Result<Process> {
    let settings = &container.record.settings;
    let config = &container.record.config;
    let args: Vec<String> = config.entrypoint.iter().chain(&config.cmd).cloned().collect();
    if args.is_empty() {
        return Err(Error::invalid("No command specified")
            .hint("the image names none: add one after the image"));
    }
    let mut process = Process::default();
    process.set_args(Some(args));
    process.set_terminal(Some(settings.tty));
    process.set_env(Some(environment(
        &container.record.config_hostname(),
        settings.tty,
        &config.env,
    )));
    process.set_cwd(PathBuf::from(match config.working_dir.as_str() {
        "" => "/",
        dir => dir,
    }));
    process.set_user(User::default());
    process.set_capabilities(Some(capability::sets(granted)));
    process.set_rlimits(Some(resources::rlimits(&settings.limits)?));
    process.set_no_new_privileges(Some(settings.security.no_new_privileges));
    process.set_oom_score_adj(settings.limits.oom_score_adj);
    Ok(process)
}

/// What every process of a container finds in its environment, as in Docker; HOME is added by the
/// runtime, which knows the user.
fn environment(hostname: &str, tty: bool, own: &[String]) -> Vec<String> {
    let mut env = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".into());
    }
    for variable in own {
        set(&mut env, variable);
    }
    env
}

/// Adds `NAME=value`, or replaces the value of a name that is there.
pub(crate) fn set(env: &mut Vec<String>, variable: &str) {
    let name = variable.split('=').next().unwrap_or(variable);
    let same = |known: &String| known.split('=').next() == Some(name);
    match env.iter_mut().find(|known| same(known)) {
        Some(known) => variable.clone_into(known),
        None => env.push(variable.to_owned()),
    }
}

/// The container as the runtime specification describes its state: for the agent of a seccomp
/// profile that notifies one.
pub(crate) fn state(container: &Container, pid: Option<i32>) -> State {
    let mut state = State::default();
    state
        .set_version(Spec::default().version().clone())
        .set_id(container.record.id.clone())
        .set_bundle(container.dir.clone())
        .set_pid(pid);
    if pid.is_some() {
        state.set_status(ContainerState::Running);
    }
    state
}

/// A further process in a running container: the same confinement, its own command.
pub(crate) fn exec_process(
    container: &Container,
    exec: &Exec,
) -> Result<(Process, Option<LinuxSeccomp>)> {
    let settings = &container.record.settings;
    let mut security = settings.security.clone();
    security.privileged |= exec.privileged;
    let granted = capability::granted(&security)?;
    let config = &container.record.config;
    let mut process = process(container, &granted)?;
    let mut env = environment(&container.record.config_hostname(), exec.tty, &config.env);
    for variable in &exec.env {
        set(&mut env, variable);
    }
    process.set_args(Some(exec.command.clone())).set_env(Some(env));
    process.set_terminal(Some(exec.tty));
    if !exec.workdir.is_empty() {
        process.set_cwd(PathBuf::from(&exec.workdir));
    }
    let confined = Settings { security, ..settings.clone() };
    Ok((process, seccomp(&confined, &granted)?))
}
