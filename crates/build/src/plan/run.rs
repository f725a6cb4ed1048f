//! RUN.

use crate::error::{Error, Result};
use crate::graph::{From, Op, RunMount, RunMountKind, RunOp};
use crate::ignore::clean;
use crate::language::expand::Lexer;
use crate::language::heredoc::heredoc;
use crate::language::instruction::{CommandLine, Instruction, Run, RunNetwork, RunSecurity};
use crate::language::mount::{Mount, MountKind, Sharing};
use crate::plan::stage::{Place, command_line};
use crate::plan::state::State;
use crate::plan::{Bases, Planner};
use crate::source::Span;

/// Where a script that stands in the Dockerfile is seen by its command.
const SCRIPTS: &str = "/dev/pipes";
const SECRETS: &str = "/run/secrets";
const SECRET_MODE: u32 = 0o400;
const SSH_MODE: u32 = 0o600;
/// The name of the host that commands see.
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// What the names of all cache mounts begin with, so that they are a project's own.
const CACHES_ARG: &str = "BUILDKIT_CACHE_MOUNT_NS";
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

impl<B: Bases> Planner<'_, B> {
    pub(super) fn run(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
        run: &Run,
    ) -> std::result::Result<(), B::Error> {
        let (line, script) = with_heredocs(run).map_err(|error| error.or_at(instruction.span))?;
        let args = command_line(state, &line);
        let mut mounts = Vec::new();
        for flag in &run.mounts {
            let mount = flag.resolve(&mut |value| self.word(state, instruction, value))?;
            mounts.push(self.mount(state, place, &mount, flag.span)?);
        }
        let network = match run.network {
            RunNetwork::Default => self.request.network.clone(),
            RunNetwork::None => "none".to_owned(),
            RunNetwork::Host => "host".to_owned(),
        };
        let op = RunOp {
            env: state.env(),
            workdir: absolute(&state.image.config.working_dir),
            user: state.image.config.user.clone(),
            network,
            privileged: run.security == RunSecurity::Insecure,
            mounts,
            script,
            hosts: self.request.hosts.clone(),
            hostname: self.builder_arg(HOSTNAME_ARG).map(str::to_owned),
            platform: state.platform.clone().unwrap_or_else(|| self.request.platform.clone()),
            proxies: self.proxies(),
            args: args.clone(),
        };
        let name = shown(state, instruction, run);
        let step = self.step(state, place, instruction, Op::Run(Box::new(op)), Some(name));
        state.record(format!("RUN {} # buildkit", words(state, &args)), Some(step));
        Ok(())
    }

    /// An argument that is for the builder, and not for commands.
    fn builder_arg(&self, name: &str) -> Option<&str> {
        self.request.args.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables for proxies that were given, in both cases.
    fn proxies(&self) -> Vec<String> {
        let given = self
            .request
            .args
            .iter()
            .filter(|(name, _)| PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy)));
        given
            .flat_map(|(name, value)| {
                let (upper, lower) = (name.to_uppercase(), name.to_lowercase());
                [format!("{upper}={value}"), format!("{lower}={value}")]
            })
            .collect()
    }

    fn mount(
        &mut self,
        state: &State,
        place: &Place,
        mount: &Mount,
        span: Span,
    ) -> std::result::Result<RunMount, B::Error> {
        let mut from = From::Context(None);
        if let Some(name) = &mount.from {
            from = self.source(place, name, span, false)?;
        } else if mount.kind == MountKind::Cache {
            from = From::Scratch;
        }
        let source = clean(&format!("/{}", mount.source));
        let id = match (&mount.id, &mount.source) {
            (id, _) if !id.is_empty() => id.clone(),
            (_, source) if mount.kind == MountKind::Secret && !source.is_empty() => source.clone(),
            _ => String::new(),
        };
        let owner = || (mount.mode, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let mut target = target(state, &mount.target);
        let kind = match mount.kind {
            MountKind::Bind => RunMountKind::Bind { from, source },
            MountKind::Tmpfs => RunMountKind::Tmpfs { size: mount.size },
            MountKind::Cache => {
                let is_given = mount.mode.or(mount.uid).or(mount.gid).is_some();
                let (mode, uid, gid) = owner();
                let id = if id.is_empty() { clean(&mount.target) } else { id };
                RunMountKind::Cache {
                    id: self.builder_arg(CACHES_ARG).map_or(id.clone(), |ns| format!("{ns}/{id}")),
                    sharing: mount.sharing.unwrap_or(Sharing::Shared),
                    from,
                    source,
                    owner: is_given.then_some((mode.unwrap_or(0o755), uid, gid)),
                }
            }
            MountKind::Secret => {
                let id = if id.is_empty() { base_name(&mount.target) } else { id };
                target = match (mount.target.is_empty(), &mount.env) {
                    (true, None) => format!("{SECRETS}/{}", base_name(&id)),
                    (true, Some(_)) => String::new(),
                    (false, _) => target,
                };
                let env =
                    mount.env.clone().map(|env| if env.is_empty() { id.clone() } else { env });
                let (mode, uid, gid) = owner();
                let owner = (mode.unwrap_or(SECRET_MODE), uid, gid);
                RunMountKind::Secret { id, env, required: mount.required, owner }
            }
            MountKind::Ssh => {
                let id = if id.is_empty() { "default".to_owned() } else { id };
                if mount.target.is_empty() {
                    target = String::new();
                }
                let (mode, uid, gid) = owner();
                let owner = (mode.unwrap_or(SSH_MODE), uid, gid);
                RunMountKind::Ssh { id, required: mount.required, owner }
            }
        };
        if target == "/" {
            return Err(Error::at(span, format!("invalid mount target {target:?}")).into());
        }
        Ok(RunMount { target, read_only: mount.read_only, kind })
    }
}

/// Where a mount is, seen from the working directory.
fn target(state: &State, path: &str) -> String {
    match path.starts_with('/') {
        true => clean(path),
        false => clean(&format!("/{}/{path}", state.image.config.working_dir)),
    }
}

fn base_name(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn absolute(path: &str) -> String {
    clean(&format!("/{path}"))
}

/// What the here-documents of a command make of it: a line, and a script that is mounted.
fn with_heredocs(run: &Run) -> Result<(CommandLine, Option<(String, String)>)> {
    let (CommandLine::Shell(line), Some(first)) = (&run.line, run.heredocs.first()) else {
        return Ok((run.line.clone(), None));
    };
    // A here-document alone is the script itself.
    if heredoc(line)?.is_some() {
        let text = first.text();
        if text.starts_with("#!") {
            let path = format!("{SCRIPTS}/{}", first.name);
            return Ok((CommandLine::Shell(path.clone()), Some((path, text))));
        }
        return Ok((CommandLine::Shell(text), None));
    }
    // Else the shell reads them, as they are.
    let mut whole = line.clone();
    for heredoc in &run.heredocs {
        whole = format!("{whole}\n{}{}", heredoc.content, heredoc.name);
    }
    Ok((CommandLine::Shell(whole), None))
}

/// The instruction as it is shown: with its variables, but for secrets.
fn shown(state: &State, instruction: &Instruction, run: &Run) -> String {
    let lexer = Lexer { raw_quotes: true, keeps_unset: true, ..Lexer::new(instruction.escape) };
    let mut text = instruction.text.clone();
    if let (CommandLine::Shell(line), Some(first)) = (&run.line, run.heredocs.first())
        && matches!(heredoc(line), Ok(Some(_)))
    {
        let body = first.content.trim();
        let line = body.lines().next().unwrap_or_default();
        let more = if body.lines().count() > 1 { "..." } else { "" };
        text = format!("{text} ({line}{more})");
    }
    lexer.expand(&text, state).map_or(text, |expanded| expanded.text)
}

/// The command in the history, with the arguments that it was run with.
fn words(state: &State, args: &[String]) -> String {
    use crate::language::expand::Variables as _;
    let mut values: Vec<(String, String)> = Vec::new();
    for (name, declared) in &state.args {
        let value = state.get(name).or_else(|| declared.clone()).unwrap_or_default();
        match values.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => values.push((name.clone(), value)),
        }
    }
    let mut words = Vec::new();
    if !values.is_empty() {
        words.push(format!("|{}", values.len()));
        words.extend(values.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
