//! Going through the instructions of a stage.

use oci::Healthcheck;

use crate::check::rule::{
    EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING, UNDEFINED_VAR, WORKDIR_RELATIVE_PATH,
};
use crate::error::{Error, Result, nearest};
use crate::graph::{Op, Step, StepId, WorkdirOp};
use crate::ignore::clean;
use crate::language::expand::Lexer;
use crate::language::instruction::{ArgDefinition, Command, CommandLine, Instruction, Pair};
use crate::plan::state::State;
use crate::plan::{Bases, Planner, expose, history};

/// Arguments that are for the builder and not for commands.
const BUILDER_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What names the steps of a stage.
#[derive(Debug)]
pub(super) struct Place {
    /// The stage, in the order of the file.
    pub(super) index: usize,
    /// Its name for people; empty where there is one stage only.
    pub(super) name: String,
    /// How many of its steps are shown.
    pub(super) total: usize,
    /// How many have been named.
    pub(super) count: usize,
    /// Whether its steps are done anew.
    pub(super) ignore_cache: bool,
    /// Whether the instruction is one that the base has kept for it.
    pub(super) is_trigger: bool,
}

impl Place {
    /// The name of the next step.
    pub(super) fn next(&mut self, what: &str) -> String {
        if self.total == 0 {
            return what.to_owned();
        }
        self.count += 1;
        let stage = if self.name.is_empty() { String::new() } else { format!("{} ", self.name) };
        let width = self.total.ilog10() as usize + 1;
        let onbuild = if self.is_trigger { "ONBUILD " } else { "" };
        format!("[{stage}{:width$}/{}] {onbuild}{what}", self.count, self.total)
    }
}

/// Whether a step is shown for an instruction.
pub(super) fn is_shown(instruction: &Instruction) -> bool {
    use Command::{Add, Copy, Run, Workdir};
    matches!(instruction.command, Add(_) | Copy(_) | Run(_) | Workdir(_))
}

/// The line that a shell executes, or the words of a program.
pub(super) fn command_line(state: &State, line: &CommandLine) -> Vec<String> {
    match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(line) => {
            let mut words = match &state.image.config.shell[..] {
                [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                shell => shell.to_vec(),
            };
            words.push(line.clone());
            words
        }
    }
}

impl<B: Bases> Planner<'_, B> {
    /// Takes one instruction into account.
    pub(super) fn dispatch(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
    ) -> std::result::Result<(), B::Error> {
        match &instruction.command {
            Command::Run(run) => return self.run(state, place, instruction, run),
            Command::Copy(copy) => return self.copy(state, place, instruction, copy, false),
            Command::Add(add) => return self.copy(state, place, instruction, add, true),
            _ => {}
        }
        let done = self.simple(state, place, instruction);
        Ok(done.map_err(|error| error.or_at(instruction.span))?)
    }

    fn simple(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
    ) -> Result<()> {
        match &instruction.command {
            Command::Env(pairs) => {
                let pairs = self.pairs(state, instruction, pairs)?;
                pairs.iter().for_each(|(name, value)| state.set_env(name, value));
                state.record(format!("ENV {}", joined(&pairs)), None);
            }
            Command::Label(pairs) => {
                let pairs = self.pairs(state, instruction, pairs)?;
                state.record(format!("LABEL {}", joined(&pairs)), None);
                state.image.config.labels.extend(pairs);
            }
            Command::Arg(definitions) => self.args(state, instruction, definitions)?,
            Command::Workdir(path) => self.workdir(state, place, instruction, path)?,
            Command::User(user) => {
                let user = self.word(state, instruction, user)?;
                state.record(format!("USER {user}"), None);
                state.image.config.user = user;
            }
            Command::Volume(paths) => self.volume(state, instruction, paths)?,
            Command::Expose(words) => self.expose(state, instruction, words)?,
            Command::StopSignal(signal) => self.stop_signal(state, instruction, signal)?,
            Command::Shell(shell) => {
                state.record(format!("SHELL {}", history::plain(shell)), None);
                state.image.config.shell.clone_from(shell);
            }
            Command::Maintainer(name) => {
                state.record(format!("MAINTAINER {name}"), None);
                state.image.author.clone_from(name);
            }
            Command::Cmd(line) => {
                let words = command_line(state, line);
                state.record(format!("CMD {}", history::quoted(&words)), None);
                state.image.config.cmd = words;
                state.has_cmd = true;
            }
            Command::Entrypoint(line) => {
                let words = command_line(state, line);
                state.record(format!("ENTRYPOINT {}", history::quoted(&words)), None);
                state.image.config.entrypoint = words;
                if !state.has_cmd {
                    state.image.config.cmd = Vec::new();
                }
            }
            Command::Healthcheck(check) => healthcheck(state, check),
            Command::Onbuild(text) => {
                state.image.config.on_build.push(text.clone());
                state.triggers.push(text.clone());
            }
            Command::From | Command::Run(_) | Command::Copy(_) | Command::Add(_) => {}
        }
        Ok(())
    }

    /// Expands a word, and finds variables in it that are not there.
    pub(super) fn word(
        &mut self,
        state: &State,
        instruction: &Instruction,
        word: &str,
    ) -> Result<String> {
        self.expand(state, instruction, word, Lexer::new(instruction.escape))
    }

    pub(super) fn expand(
        &mut self,
        state: &State,
        instruction: &Instruction,
        word: &str,
        lexer: Lexer,
    ) -> Result<String> {
        let expanded = lexer.expand(word, state).map_err(|error| error.or_at(instruction.span))?;
        for name in &expanded.unmatched {
            let is_declared = state.args.iter().any(|(arg, _)| arg == name);
            if is_declared || BUILDER_ARGS.contains(&name.as_str()) {
                continue;
            }
            let right = nearest(name, state.names(), true);
            let right =
                right.map_or_else(String::new, |right| format!(" (did you mean ${right}?)"));
            let message = format!("Usage of undefined variable '${name}'{right}");
            let own = instruction.check.as_ref();
            self.findings.add(own, &UNDEFINED_VAR, instruction.span, message);
        }
        Ok(expanded.text)
    }

    fn pairs(
        &mut self,
        state: &State,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for pair in pairs {
            let name = self.word(state, instruction, &pair.name)?;
            let value = self.word(state, instruction, &pair.value)?;
            expanded.push((name, value));
        }
        Ok(expanded)
    }

    fn args(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        definitions: &[ArgDefinition],
    ) -> Result<()> {
        let mut words = Vec::new();
        for ArgDefinition { name, default, .. } in definitions {
            use crate::language::expand::Variables as _;
            let value = match (self.request.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.word(state, instruction, default)?),
                (None, None) => self.scope.get(name),
            };
            if let Some(value) = &value
                && !BUILDER_ARGS.contains(&name.as_str())
            {
                state.set(name, value);
            }
            words.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            state.args.push((name.clone(), value));
        }
        state.record(format!("ARG {}", words.join(" ")), None);
        Ok(())
    }

    fn workdir(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
        path: &str,
    ) -> Result<()> {
        let path = self.word(state, instruction, path)?;
        if !state.has_workdir && !path.starts_with('/') {
            let message = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            let own = instruction.check.as_ref();
            self.findings.add(own, &WORKDIR_RELATIVE_PATH, instruction.span, message);
        }
        state.has_workdir = true;
        let current = &state.image.config.working_dir;
        let whole = match path.starts_with('/') {
            true => clean(&path),
            false => clean(&format!("/{current}/{path}")),
        };
        state.image.config.working_dir.clone_from(&whole);
        let mut step = None;
        if whole != "/" {
            let user = state.image.config.user.clone();
            let op = Op::Workdir(WorkdirOp { path: whole.clone(), user });
            step = Some(self.step(state, place, instruction, op, None));
        }
        state.record(format!("WORKDIR {whole}"), step);
        Ok(())
    }

    /// Adds a step that continues the stage.
    pub(super) fn step(
        &mut self,
        state: &mut State,
        place: &mut Place,
        instruction: &Instruction,
        op: Op,
        name: Option<String>,
    ) -> StepId {
        let what = name.unwrap_or_else(|| {
            let text = &instruction.text;
            let lexer = Lexer::new(instruction.escape);
            lexer.expand(text, state).map_or_else(|_| text.clone(), |expanded| expanded.text)
        });
        let step = Step {
            name: place.next(&oci::redacted(&with_upper_keyword(&what))),
            span: instruction.span,
            base: state.tree,
            op,
            ignore_cache: place.ignore_cache,
        };
        let step = self.add(step);
        state.tree = Some(step);
        step
    }

    fn volume(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        paths: &[String],
    ) -> Result<()> {
        let mut expanded = Vec::new();
        for path in paths {
            let path = self.word(state, instruction, path)?;
            if path.is_empty() {
                return Err(Error::new("VOLUME specified can not be an empty string"));
            }
            state.image.config.volumes.insert(path.clone(), empty_object());
            expanded.push(path);
        }
        state.record(format!("VOLUME {}", history::plain(&expanded)), None);
        Ok(())
    }

    fn expose(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        words: &[String],
    ) -> Result<()> {
        let (own, span) = (instruction.check.as_ref(), instruction.span);
        let mut ports = Vec::new();
        for word in words {
            let lexer = Lexer::new(instruction.escape);
            for word in lexer.expand(word, state)?.words {
                let found = expose::parse(&word)?;
                if found.has_odd_protocol {
                    let message = format!(
                        "Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                    );
                    self.findings.add(own, &EXPOSE_PROTO_CASING, span, message);
                }
                if found.has_host {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, \
                         found '{word}'"
                    );
                    self.findings.add(own, &EXPOSE_INVALID_FORMAT, span, message);
                }
                ports.extend(found.ports);
            }
        }
        for port in &ports {
            state.image.config.exposed_ports.insert(port.clone(), empty_object());
        }
        state.record(format!("EXPOSE {}", history::plain(&ports)), None);
        Ok(())
    }

    fn stop_signal(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        signal: &str,
    ) -> Result<()> {
        let signal = self.word(state, instruction, signal)?;
        if !is_signal(&signal) {
            return Err(Error::new(format!("invalid signal: {signal}")));
        }
        state.record(format!("STOPSIGNAL {signal}"), None);
        state.image.config.stop_signal = signal;
        Ok(())
    }
}

fn healthcheck(state: &mut State, check: &Healthcheck) {
    state.record(format!("HEALTHCHECK {}", history::healthcheck(check)), None);
    state.image.config.healthcheck = Some(check.clone());
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn joined(pairs: &[(String, String)]) -> String {
    let words: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ")
}

pub(super) fn with_upper_keyword(text: &str) -> String {
    let end = text.find(' ').unwrap_or(text.len());
    text[..end].to_uppercase() + &text[end..]
}

/// A number, or a name with or without SIG: signal(7).
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, max: u32| {
        let offset = name.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
        offset.is_some_and(|offset: u32| (1..=max).contains(&offset))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}
