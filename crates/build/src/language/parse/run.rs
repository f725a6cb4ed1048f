//! RUN, CMD, ENTRYPOINT and SHELL: lines for a shell and words of programs.

use crate::error::{Error, Result, did_you_mean};
use crate::language::instruction::{Command, CommandLine, Run, RunNetwork, RunSecurity};
use crate::language::mount::MountFlag;
use crate::language::parse::Raw;
use crate::language::word::json;
use crate::source::Span;

pub(super) fn run(raw: &Raw<'_>) -> Result<Command> {
    let mut flags = raw.flags(&["mount", "network", "security", "device"])?;
    if let Some(device) = flags.all("device").first() {
        let message = "RUN --device is not supported: builds know no CDI devices";
        return Err(Error::at(device.span, message).hint(
            "--security=insecure shows a command all devices, where --allow security.insecure grants it",
        ));
    }
    let mounts = flags.strings("mount")?.into_iter();
    let mounts = mounts.map(|(text, span)| MountFlag::parse(&text, span));
    let network = choice(flags.string("network")?, "network mode", &NETWORKS)?;
    let security = choice(flags.string("security")?, "security", &SECURITIES)?;
    let line = line(raw)?;
    if raw.parts.rest.is_empty() {
        return Err(raw.error("RUN requires at least one argument"));
    }
    Ok(Command::Run(Run {
        line,
        heredocs: raw.line.heredocs.clone(),
        mounts: mounts.collect::<Result<_>>()?,
        network,
        security,
    }))
}

const NETWORKS: [(&str, RunNetwork); 3] =
    [("default", RunNetwork::Default), ("none", RunNetwork::None), ("host", RunNetwork::Host)];

const SECURITIES: [(&str, RunSecurity); 2] =
    [("sandbox", RunSecurity::Sandbox), ("insecure", RunSecurity::Insecure)];

fn choice<T: Copy + Default>(
    given: Option<(String, Span)>,
    what: &str,
    known: &[(&'static str, T)],
) -> Result<T> {
    let Some((value, span)) = given else { return Ok(T::default()) };
    let found = known.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let nearest = did_you_mean(&value, known.iter().map(|(name, _)| *name), true);
        Error::at(span, format!("invalid {what} {value:?}{nearest}"))
    })
}

pub(super) fn cmd(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    line(raw).map(Command::Cmd)
}

pub(super) fn entrypoint(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    line(raw).map(Command::Entrypoint)
}

pub(super) fn shell(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    match line(raw)? {
        CommandLine::Exec(words) if !words.is_empty() => Ok(Command::Shell(words)),
        CommandLine::Shell(line) if !line.is_empty() => {
            Err(raw.error(format!("SHELL requires the arguments to be in JSON form: {line}")))
        }
        _ => Err(raw.error("SHELL requires at least one argument")),
    }
}

/// A JSON array is executed as it is; everything else is for the shell.
pub(super) fn line(raw: &Raw<'_>) -> Result<CommandLine> {
    let rest = raw.parts.rest;
    Ok(match json(rest).map_err(|error| error.or_at(raw.rest_span()))? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(rest.to_owned()),
    })
}
